//! Directories and keys: a file's path below a directory is its key below a prefix, and back.

use anyhow::{Context, anyhow, bail, ensure};
use ashlar_object::Key;
use std::{
    fs::ReadDir,
    path::{Component, Path, PathBuf},
};

/// How deep a directory may be nested: each level is an open directory, and a key has no more
/// slashes than bytes.
const DEPTH_MAX: usize = 256;

/// A prefix that names a directory: it ends with a slash or is empty.
pub(super) fn directory_prefix(prefix: &str) -> String {
    match prefix {
        "" => String::new(),
        prefix if prefix.ends_with('/') => prefix.to_string(),
        prefix => format!("{prefix}/"),
    }
}

/// The key of the file `relative` below `prefix`.
///
/// # Errors
/// When the path is not UTF-8 or the key too long.
pub(super) fn key_of(prefix: &str, relative: &Path) -> anyhow::Result<Key> {
    let mut name = prefix.to_string();
    for (index, component) in relative.components().enumerate() {
        let Component::Normal(part) = component else { bail!("is not below the directory") };
        if index > 0 {
            name.push('/');
        }
        name.push_str(part.to_str().context("its name is not UTF-8")?);
    }
    Ok(Key::new(&name)?)
}

/// The path, below a directory, of the file that holds the object `key` under `prefix`.
///
/// # Errors
/// When the rest of the key is not the path of a file strictly below the directory.
pub(super) fn path_of(prefix: &str, key: &Key) -> anyhow::Result<PathBuf> {
    let rest = key.as_str().strip_prefix(prefix).context("the key has another prefix")?;
    let is_name = |part: &str| !matches!(part, "" | "." | "..");
    ensure!(rest.split('/').all(is_name), "{key}: the key cannot be the path of a file");
    Ok(rest.into())
}

/// A file of a tree.
#[derive(Debug)]
pub(super) struct TreeFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its path below the tree's root.
    pub(super) relative: PathBuf,
}

/// Walks a directory, one entry at a time. What is neither a directory nor a file is an error.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    /// The directories that are open, the deepest last.
    open: Vec<(PathBuf, ReadDir)>,
}

impl Tree {
    /// The files below `root`.
    ///
    /// # Errors
    /// When it is not a directory that can be read.
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self { root: root.into(), open: Vec::new() };
        tree.enter(root.into())?;
        Ok(tree)
    }

    fn enter(&mut self, path: PathBuf) -> anyhow::Result<()> {
        let context = || path.display().to_string();
        ensure!(self.open.len() < DEPTH_MAX, "{}: is nested too deeply", path.display());
        let directory = std::fs::read_dir(&path).with_context(context)?;
        self.open.push((path, directory));
        Ok(())
    }

    /// A file, or nothing for a directory, which is walked next.
    fn visit(&mut self, path: PathBuf) -> anyhow::Result<Option<TreeFile>> {
        let context = || path.display().to_string();
        let metadata = std::fs::symlink_metadata(&path).with_context(context)?;
        if metadata.is_dir() {
            self.enter(path)?;
            return Ok(None);
        }
        // A link to a directory may lead around in a circle.
        let metadata = std::fs::metadata(&path).with_context(context)?;
        ensure!(!metadata.is_dir(), "{}: links to directories are not followed", path.display());
        ensure!(metadata.is_file(), "{}: is not a regular file", path.display());
        let relative = path.strip_prefix(&self.root).map_err(|error| anyhow!(error))?;
        Ok(Some(TreeFile { relative: relative.into(), path }))
    }
}

impl Iterator for Tree {
    type Item = anyhow::Result<TreeFile>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (path, directory) = self.open.last_mut()?;
            let visited = match directory.next() {
                Some(Ok(entry)) => self.visit(entry.path()).transpose(),
                Some(Err(error)) => {
                    let error = Err(error).with_context(|| path.display().to_string());
                    // The rest of it would fail again and again.
                    self.open.pop();
                    Some(error)
                }
                None => {
                    self.open.pop();
                    None
                }
            };
            if visited.is_some() {
                return visited;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

    #[test]
    fn a_prefix_names_a_directory() {
        assert_eq!(directory_prefix(""), "");
        assert_eq!(directory_prefix("a"), "a/");
        assert_eq!(directory_prefix("a/"), "a/");
    }

    #[test]
    fn a_path_survives_as_a_key() {
        let key = key_of("p/", Path::new("a/b c.txt")).unwrap();
        assert_eq!(key.as_str(), "p/a/b c.txt");
        assert_eq!(path_of("p/", &key).unwrap(), Path::new("a/b c.txt"));
    }

    #[test]
    fn a_key_never_leaves_the_directory() {
        for name in ["p/../x", "p/a/../../x", "p//etc/passwd", "p/a//b", "p/a/", "p/./a", "p/"] {
            assert!(path_of("p/", &Key::new(name).unwrap()).is_err(), "{name}");
        }
        assert!(path_of("", &Key::new("/etc/passwd").unwrap()).is_err());
        assert!(path_of("p/", &Key::new("q/a").unwrap()).is_err());
    }

    #[test]
    fn a_tree_is_all_files_and_what_is_none_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        for file in ["1", "a/2", "a/b/3"] {
            fs::write(root.join(file), file).unwrap();
        }
        symlink(root, root.join("a/circle")).unwrap();
        symlink("2", root.join("a/link")).unwrap();
        let (files, errors): (Vec<_>, Vec<_>) = Tree::open(root).unwrap().partition(Result::is_ok);
        let files: BTreeSet<_> = files.into_iter().map(|file| file.unwrap().relative).collect();
        assert_eq!(files, ["1", "a/2", "a/b/3", "a/link"].map(PathBuf::from).into());
        let errors: Vec<_> = errors.into_iter().map(|e| e.unwrap_err().to_string()).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with("a/circle: links to directories are not followed"));
    }
}
