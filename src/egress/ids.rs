//! The two borrowed words of this wing: whose packets, and whether to act on them.

use std::fmt;

/// A cgroup's id: the inode of its directory on the cgroup2 file system.
///
/// It is what `socket cgroupv2` compares (`cgroup_id()` in `net/netfilter/nft_socket.c`): a
/// cgroup made again at the same path has another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupId(pub u64);

impl fmt::Display for CgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether verdicts are acted on or only told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything runs, nothing is changed: what would be refused is counted and logged.
    Observe,
    /// What is not allowed is refused.
    Enforce,
}
