//! The two borrowed words of this wing: whose packets, and whether to act on them.

pub use crate::cgroup::CgroupId;
pub use crate::units::Mode;
