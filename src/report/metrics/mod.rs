//! Counters for monitoring systems: OpenMetrics over HTTP, and a file for node_exporter.
//!
//! The daemon hands over a [`MetricsSnapshot`] once a tick; nothing here looks at the daemon, and
//! whoever asks is answered from the last snapshot. So a series ends with its server, and asking
//! often costs the node nothing but the text.
//!
//! Metrics tell who works here and how much. They are shown on loopback or a socket of root's
//! only, unless the admin says otherwise; in enforce mode a user's server cannot reach the port,
//! because its egress class refuses this node's loopback but for its own ports and the hub's. In
//! observe mode, and for who is logged in otherwise, the port is as open as any on loopback: use
//! the socket, the file, or `user_names = false` where that matters.

mod exporter;
mod http;
mod ledger;
mod snapshot;
mod text;
mod textfile;

pub use exporter::{ExportError, Exporter};
pub use ledger::{Ledger, Reading};
pub use snapshot::{Durations, MetricsSnapshot, ServerMetrics, Tally};
pub use text::Format;

#[cfg(test)]
mod tests;
