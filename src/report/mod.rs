//! What is told, and to whom: the journal, and monitoring systems.

mod journal;
mod kind;
pub mod metrics;
mod reached;
mod refused;
mod shares;
mod story;

pub use journal::{Journal, Level, LogEntry};
pub use kind::Kind;
pub use refused::{not_logged_outside, refused_outside};
pub use shares::{Shared, over_share_outside};
pub use story::Story;
