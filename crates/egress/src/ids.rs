//! The borrowed words of this wing: whose packets, by which class, and whether to act on them.

pub use quantities::CgroupId;
pub use quantities::{ClassName, Mode};
