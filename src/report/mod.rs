//! What is told, and to whom: the journal.

mod journal;
mod kind;
mod story;

pub use journal::{Entry, Journal, Level};
pub use kind::Kind;
pub use story::Story;
