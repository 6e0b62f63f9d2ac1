//! Waiting for a descriptor of a library that knows no async.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor for reading with the running runtime.
///
/// # Errors
/// The event queue refuses it.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and the same descriptor for as long as the `AsyncFd` owns it,
    // which hands out no way to replace or close it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}
