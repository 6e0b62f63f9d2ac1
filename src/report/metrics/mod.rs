//! Counters for monitoring systems: OpenMetrics over HTTP, and a file for node_exporter.
//!
//! The daemon hands over a [`MetricsSnapshot`] once a tick; nothing here looks at the daemon, and
//! whoever asks is answered from the last snapshot. So a series ends with its server, and asking
//! often costs the node nothing but the text.
//!
//! Metrics tell who works here and how much. Users are named only to root and one group (the file, the
//! socket), or to who has a token (TCP): any user of the node can connect to its loopback.

mod exporter;
mod http;
mod ledger;
mod places;
mod snapshot;
mod text;
mod textfile;
mod token;

pub use exporter::{ExportError, Exporter};
pub use ledger::{Ledger, Reading};
pub use snapshot::{Coverage, Durations, MetricsSnapshot, ServerMetrics, Tally};
pub use text::Format;

#[cfg(test)]
mod tests;
