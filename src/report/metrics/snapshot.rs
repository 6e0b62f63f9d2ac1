//! What is shown, as plain data.

use egress::names::Tally as Answers;
use policy::Stage;
use quantities::{CoreSeconds, Cores};
use sensors::connector::Missed;
use std::time::Duration;

/// One number for every stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally([u64; STAGES.len()]);

/// Every stage, mildest first.
pub(super) const STAGES: &[Stage] = &Stage::ALL;

/// A stage's place in [`STAGES`]; a new stage does not compile until it has one.
fn place(stage: Stage) -> usize {
    match stage {
        Stage::Free => 0,
        Stage::Deprioritised => 1,
        Stage::Throttled => 2,
        Stage::Frozen => 3,
        Stage::Stopped => 4,
    }
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, stage: Stage) {
        self.0[place(stage)] += 1;
    }

    /// Adds another tally to this one.
    pub fn add_all(&mut self, other: &Tally) {
        for (here, there) in self.0.iter_mut().zip(other.0) {
            *here += there;
        }
    }

    /// Every stage with its number, mildest first.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, u64)> + '_ {
        STAGES.iter().copied().zip(self.0)
    }

    /// The number of one stage.
    pub fn of(&self, stage: Stage) -> u64 {
        self.0[place(stage)]
    }
}

/// How long something took, as a histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Durations {
    buckets: [u64; Durations::BOUNDS.len() + 1],
    sum: Duration,
}

impl Durations {
    /// Upper bounds of the buckets, in seconds; a tick of 5,000 servers takes about 20 ms.
    pub const BOUNDS: [f64; 9] = [0.0001, 0.0005, 0.002, 0.005, 0.02, 0.05, 0.2, 1.0, 5.0];

    /// Adds one.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let fits = |bound: &f64| seconds <= *bound;
        let bucket = Self::BOUNDS.iter().position(fits);
        self.buckets[bucket.unwrap_or(Self::BOUNDS.len())] += 1;
        self.sum += took;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How long all of them took together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Upper bound in seconds and number of each bucket, not yet added up.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = Self::BOUNDS.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.buckets).collect()
    }
}

/// One server, as a user knows it: what runs for them in several cgroups is added up.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerMetrics {
    /// The hub user.
    pub user: String,
    /// The server's name in JupyterHub; empty for the default one.
    pub server: String,
    /// CPU time used since the server started.
    pub cpu: Duration,
    /// Time it stood throttled; `None` without the cpu controller.
    pub throttled: Option<Duration>,
    /// What is left of its credits.
    pub credits: CoreSeconds,
    /// What a rested server has.
    pub credits_size: CoreSeconds,
    /// The limit that stands; `None` is none of ours.
    pub limit: Option<Cores>,
    /// Where it stands.
    pub stage: Stage,
    /// Memory in use, in bytes; `None` without the memory controller.
    pub memory: Option<u64>,
    /// Processes and threads; `None` without the pids controller.
    pub pids: Option<u64>,
    /// Verdicts since the daemon started, by the stage they led to.
    pub verdicts: Tally,
    /// Packets refused since the daemon started, as the packet rules counted them.
    pub refusals: u64,
    /// Packets that the server sent, as the packet rules counted them since the daemon started.
    pub sent_packets: u64,
    /// Bytes of those packets.
    pub sent_bytes: u64,
}

/// What has been counted since the daemon started, of servers that are gone too.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Packets refused, as the packet rules counted them.
    pub refusals: u64,
    /// Those of them that the kernel told of one by one.
    pub refusals_told: u64,
    /// What was over senders' shares, in the order of [`Shared::ALL`](crate::report::Shared::ALL).
    pub over_shares: [u64; 3],
    /// Verdicts, by the stage they led to.
    pub verdicts: Tally,
    /// How long the ticks took.
    pub ticks: Durations,
    /// CPU time all servers used.
    pub cpu: Duration,
    /// Time all servers stood throttled.
    pub throttled: Duration,
}

/// How much of what users run is not covered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Units that may be servers, but nobody can tell whose.
    pub unknown_units: u64,
    /// Places that limits or packet rules do not hold, though they should.
    pub uncovered: u64,
}

/// Everything that is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricsSnapshot {
    /// When it was taken, since 1970.
    pub taken: Duration,
    /// Whether `servers` is shown.
    pub user_names: bool,
    /// Whether verdicts are carried out.
    pub enforcing: bool,
    /// Whether `hubwarden off` was said.
    pub off: bool,
    /// Whether the packet rules stand as they should.
    pub egress_loaded: bool,
    /// Who is not covered.
    pub coverage: Coverage,
    /// Journal entries lost since the daemon started.
    pub journal_lost: u64,
    /// The daemon's threads that are watched, and whether each runs and answers.
    pub threads: Vec<(&'static str, bool)>,
    /// Starts of programs that the sensors could not read, since the daemon started.
    pub starts_missed: Missed,
    /// What became of resolvers' answers since the daemon started.
    pub answers: Answers,
    /// What was counted since the daemon started.
    pub totals: Totals,
    /// Servers now, by stage.
    pub stages: Tally,
    /// Memory of all servers now, in bytes.
    pub memory: u64,
    /// Processes and threads of all servers now.
    pub pids: u64,
    /// Each server, ordered by user and name.
    pub servers: Vec<ServerMetrics>,
}
