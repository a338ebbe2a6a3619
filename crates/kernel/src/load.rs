//! Programs of a loaded object.

use crate::Error;
use crate::chaos::missing;
use aya::Ebpf;
use aya::programs::Program;
use std::os::fd::{AsFd as _, OwnedFd};

/// A descriptor of the program, which is loaded if it is not yet.
pub(crate) fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<OwnedFd, Error> {
    let failed = |source| Error::LoadProgram { program: name, source };
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    if program.fd().is_err() {
        match program {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => return Err(missing(name)),
        }
        .map_err(failed)?;
    }
    let descriptor = program.fd().map_err(failed)?.as_fd();
    descriptor
        .try_clone_to_owned()
        .map_err(|source| Error::System { operation: "duplicate a program's descriptor", source })
}
