//! Refusals as they happen, from the kernel's NFLOG.

use nft::nflog::Log;

use super::{Error, Refusal};

/// The refusals told to one NFLOG group, of the network namespace it was opened in.
#[derive(Debug)]
pub struct Refusals(Log);

impl Refusals {
    /// Listen to a group.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`nft::Error::GroupTaken`] if another socket listens to the group; [`nft::Error::Refused`],
    /// [`nft::Error::Socket`].
    pub fn listen(group: u16) -> Result<Self, Error> {
        Ok(Self(Log::listen(group)?))
    }

    /// The next refusal. Cancelling loses none.
    ///
    /// # Errors
    /// [`nft::Error::Socket`]; refusals lost to a full queue are no error, they are counted.
    pub async fn next(&mut self) -> Result<Refusal, Error> {
        loop {
            if let Some(refusal) = Refusal::read(&self.0.next().await?) {
                return Ok(refusal);
            }
        }
    }

    /// How many of the kernel's messages were lost since the start because they came faster
    /// than they were read.
    pub fn lost(&self) -> u64 {
        self.0.lost()
    }
}
