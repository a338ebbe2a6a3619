//! Corners of the kernel interface that neither the standard library nor rustix covers.

pub(crate) mod ethtool;
pub(crate) mod packet_socket;
pub(crate) mod termination;
