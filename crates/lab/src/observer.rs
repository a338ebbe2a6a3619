//! Watching a long operation, and calling it off.

/// Told what a long operation is doing, and asked whether to go on.
pub trait Observer {
    /// A step has begun or ended, in a few words.
    fn progress(&mut self, step: &str) {
        let _ = step;
    }

    /// Whether to stop; the operation then cleans up and fails with [`crate::LabError::Interrupted`].
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Watches nothing and never calls off.
impl Observer for () {}
