//! A trace of samples: the daemon writes it, `hubwarden replay` reads it.
//!
//! Amounts of CPU and times, and nothing of what is computed. Unless the configuration says
//! otherwise users are numbers, other ones in each file. `docs/replay.md` describes the format.

mod reader;
mod wire;
mod writer;

pub use reader::Reader;
pub use writer::{Recorder, Sighting, directory};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// What the first line names.
const FORMAT: &str = "hubwarden-trace";
/// The version this program writes and reads.
const VERSION: u32 = 1;
/// Longest first line, in bytes.
const LONGEST_HEADER: usize = 1024;
/// Longest frame, in bytes; 5,000 busy servers take about 25,000.
const LONGEST_FRAME: usize = 1 << 22;
/// Longest user name, in bytes.
const LONGEST_NAME: usize = 512;
/// Most servers at once.
const MOST_SERVERS: usize = 1 << 20;
/// A trace does not span more: its clock must not overflow a reader's.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// The first line of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    format: String,
    version: u32,
    /// When it was begun, in seconds since 1970.
    pub started: u64,
    /// The time between two samples, in milliseconds.
    pub tick_ms: u64,
    /// Whether users are named.
    pub user_names: bool,
}

impl Header {
    /// The header of a trace begun now.
    pub fn new(started: u64, tick: Duration, user_names: bool) -> Header {
        Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            started,
            tick_ms: u64::try_from(tick.as_millis()).unwrap_or(u64::MAX),
            user_names,
        }
    }
}

/// What was seen on one tick.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// When, since the trace was begun.
    pub at: Duration,
    /// What, in order.
    pub events: Vec<Event>,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A server is there, under a number that no other has in this trace.
    Appeared {
        /// Its number.
        server: u32,
        /// Whose it is; empty where users are not named.
        user: String,
    },
    /// It stopped.
    Gone {
        /// Its number.
        server: u32,
    },
    /// It is throttled from now on, or not any more.
    Held {
        /// Its number.
        server: u32,
        /// Whether it is.
        held: bool,
    },
    /// It used CPU since it was mentioned so last, in fact since the tick before.
    Used {
        /// Its number.
        server: u32,
        /// How much CPU time.
        cpu: Duration,
    },
}

/// Why a trace cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error(
        "{path} is no trace of hubwarden that this version can read ({why}); traces are written \
         to /var/lib/hubwarden/traces where the configuration has trace.enabled = true"
    )]
    NotATrace {
        /// The file.
        path: PathBuf,
        /// What is wrong with its first line.
        why: String,
    },
    /// The file is damaged.
    #[error("{path}: byte {at}: {why}; what stands before that was read")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the frame begins that cannot be understood.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// A whole trace in memory, from what each point in time saw.
#[cfg(test)]
pub(crate) fn encode(
    header: &Header,
    frames: impl IntoIterator<Item = (Duration, Vec<Event>)>,
) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(header).unwrap();
    bytes.push(b'\n');
    let mut before = Duration::ZERO;
    for (at, events) in frames {
        wire::write_frame(&events, at - before, &mut bytes);
        before = at;
    }
    bytes
}
