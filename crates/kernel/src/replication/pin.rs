//! Names of maps in the BPF file system.

use crate::Error;
use crate::system_call::bpf;
use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where the BPF file system belongs.
pub(crate) const BPF_DIRECTORY: &str = "/sys/fs/bpf";

const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
const COMMAND_OBJ_PIN: libc::c_long = 6;

/// A map's name. It goes when this is dropped, and stays when the process dies.
#[derive(Debug)]
pub(super) struct Pin(PathBuf);

impl Pin {
    /// Gives the map a name that is free.
    #[allow(unsafe_code, reason = "the loader library makes a name only with the map itself")]
    pub(super) fn create(map: BorrowedFd<'_>, path: &Path) -> Result<Self, Error> {
        let failed =
            |source| Error::Pin { path: path.to_owned(), operation: "name the memory", source };
        let directory = path.parent().filter(|parent| parent.is_absolute());
        let directory = directory.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        ensure_directory(directory)?;
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        let mut arguments = PinArguments {
            name: name.as_ptr() as u64,
            map: map.as_raw_fd().cast_unsigned(),
            flags: 0,
        };
        // SAFETY: the kernel reads the name up to its zero.
        unsafe { bpf(COMMAND_OBJ_PIN, &mut arguments) }.map_err(failed)?;
        Ok(Self(path.to_owned()))
    }
}

/// The kernel's arguments of `BPF_OBJ_PIN`.
#[repr(C)]
struct PinArguments {
    name: u64,
    map: u32,
    flags: u32,
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a map's name");
        }
    }
}

/// Whether a directory that exists belongs to a BPF file system.
pub(crate) fn is_bpf_file_system(directory: &Path) -> io::Result<bool> {
    Ok(statfs(directory)?.f_type == BPF_FS_MAGIC)
}

/// Makes a directory of a BPF file system, which is mounted if its place is still empty.
fn ensure_directory(directory: &Path) -> Result<(), Error> {
    let failed = |source| Error::NoBpfFileSystem { directory: directory.to_owned(), source };
    let root = Path::new(BPF_DIRECTORY);
    if directory.starts_with(root) && !is_bpf_file_system(root).map_err(failed)? {
        mount_at_its_place().map_err(failed)?;
    }
    let existing = directory.ancestors().find(|ancestor| ancestor.exists());
    let existing = existing.expect("the path is absolute");
    if !is_bpf_file_system(existing).map_err(failed)? {
        return Err(failed(io::ErrorKind::Unsupported.into()));
    }
    fs::create_dir_all(directory).map_err(failed)
}

fn mount_at_its_place() -> io::Result<()> {
    if fs::read_dir(BPF_DIRECTORY)?.next().is_some() {
        return Err(io::ErrorKind::DirectoryNotEmpty.into());
    }
    mount("bpf", BPF_DIRECTORY, "bpf", MountFlags::empty(), None)?;
    tracing::info!(directory = BPF_DIRECTORY, "mounted the BPF file system");
    Ok(())
}
