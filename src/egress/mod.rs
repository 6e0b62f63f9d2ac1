//! class → ruleset (plain data) → nft messages.

mod class;
mod error;
mod firewall;
mod ids;
mod policy;
mod refusal;

pub use class::{Class, ClassName, Service, Transport};
pub use error::Error;
pub use firewall::{Difference, DifferenceKind, Firewall, NoFirewall};
pub use ids::{CgroupId, Mode};
pub use policy::{Admitted, Policy};
pub use refusal::{Refusal, RefusedBy};
