//! The borrowed words of this wing: whose packets, by which class, and whether to act on them.

pub use crate::cgroup::CgroupId;
pub use crate::units::{ClassName, Mode};
