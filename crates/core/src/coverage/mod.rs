//! Which users on this node are covered, computed: facts of processes and of what the daemon watches
//! in, rows of what is not covered out.
//!
//! A place (a unit, a container, a login slice: [`Location`]) counts if something in it is, or comes from, a
//! single-user server, or runs as a hub user's uid, or the hub lists it. It is covered if its cgroup is
//! watched, mapped to a user, and held by CPU limits and packet rules. All else becomes a row with the
//! reason and the line that mends it ([`survey`]). A place of which nothing can be read is a row too.
//!
//! What a process says of itself (its arguments and environment, [`Said`]) can only add a row. It never
//! removes one and never decides who a user is. Words that users choose are shown escaped.

mod changes;
mod facts;
mod judge;
mod location;
mod missing;
mod network;
mod remedy;
mod said;
mod survey;
mod watch;
mod words;

pub use changes::{Changes, Difference};
pub use facts::{Facts, Listed, ListedAt, Membership, Namespace, Network, Process};
pub use location::{Engine, Location, LocationKind};
pub use missing::{Lacks, Manager, Missing, Weight};
pub use remedy::{ListKey, Remedy};
pub use said::{Looks, Said};
pub use survey::{Survey, Uncovered, Who, survey};
pub use watch::{Known, Naming, Watch};
pub use words::{Line, lines};

/// Processes that one survey looks at; the others are counted.
pub const MOST_PROCESSES: usize = 10_000;
/// Rows of one survey; the others are counted.
pub const MOST_ROWS: usize = 1_000;
/// Users that one row keeps by name; the others are counted.
pub const MOST_USERS: usize = 50;

#[cfg(test)]
mod tests;
