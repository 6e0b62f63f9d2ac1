//! What has to be remembered from tick to tick so that counters only ever grow.
//!
//! A sum over the servers that are there falls when one stops, and a monitoring system takes a
//! counter that falls for one that began anew: a user who logs out would look like a burst. So
//! the node's sums add up what each cgroup used since the tick before. A server that is more than
//! one cgroup keeps what a part of it had used, for as long as another part lives.

use super::snapshot::{MetricsSnapshot, ServerMetrics, Tally, Totals};
use crate::report::Shared;
use policy::Stage;
use quantities::CgroupId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One cgroup of a server, just read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The cgroup.
    pub id: CgroupId,
    /// What it shows; `verdicts` and `refusals` are the ledger's to fill in.
    pub server: ServerMetrics,
}

/// Counters of one cgroup, or of those of a server that are gone.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    cpu: Duration,
    throttled: Option<Duration>,
    verdicts: Tally,
    refusals: u64,
    sent_packets: u64,
    sent_bytes: u64,
}

impl Counters {
    fn add(&mut self, other: &Counters) {
        self.cpu += other.cpu;
        self.throttled = sum(self.throttled, other.throttled, |a, b| a + b);
        self.verdicts.add_all(&other.verdicts);
        self.refusals += other.refusals;
        self.sent_packets += other.sent_packets;
        self.sent_bytes += other.sent_bytes;
    }
}

fn sum<T>(a: Option<T>, b: Option<T>, add: impl Fn(T, T) -> T) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(add(a, b)),
        (a, b) => a.or(b),
    }
}

/// A hub user and the name of their server.
type Key = (String, String);

/// The daemon's memory for metrics.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    living: BTreeMap<CgroupId, (Option<Key>, Counters)>,
    /// Of cgroups that are gone while their server is not.
    carried: BTreeMap<Key, Counters>,
    /// Whether a first look was taken: what was used before it is not the daemon's to count.
    begun: bool,
    totals: Totals,
}

impl Ledger {
    /// A verdict was reached on a server.
    pub fn verdict(&mut self, id: CgroupId, stage: Stage) {
        self.totals.verdicts.add(stage);
        self.living.entry(id).or_default().1.verdicts.add(stage);
    }

    /// So much was over a sender's share.
    pub fn over_share(&mut self, shared: Shared, count: u64) {
        let all = Shared::ALL.into_iter().zip(&mut self.totals.over_shares);
        for (_, sum) in all.filter(|(one, _)| *one == shared) {
            *sum = sum.saturating_add(count);
        }
    }

    /// So many more packets were refused; whose, where that is known.
    pub fn refused(&mut self, id: Option<CgroupId>, packets: u64) {
        self.totals.refusals = self.totals.refusals.saturating_add(packets);
        if let Some(id) = id {
            self.living.entry(id).or_default().1.refusals += packets;
        }
    }

    /// The kernel told of one of them.
    pub fn told(&mut self) {
        self.totals.refusals_told += 1;
    }

    /// A server sent so much more.
    pub fn sent(&mut self, id: CgroupId, packets: u64, bytes: u64) {
        let counters = &mut self.living.entry(id).or_default().1;
        counters.sent_packets += packets;
        counters.sent_bytes += bytes;
    }

    /// A tick took so long.
    pub fn ticked(&mut self, took: Duration) {
        self.totals.ticks.observe(took);
    }

    /// Nobody looks for now: forgets all that is kept by server.
    pub fn pause(&mut self) {
        self.living.clear();
        self.carried.clear();
        self.begun = false;
    }

    /// Books one reading of every server's cgroups, and fills in what follows from them.
    pub fn book(&mut self, readings: Vec<Reading>, snapshot: &mut MetricsSnapshot) {
        let mut here: BTreeSet<CgroupId> = BTreeSet::new();
        let mut servers: BTreeMap<Key, ServerMetrics> = BTreeMap::new();
        for Reading { id, mut server } in readings {
            here.insert(id);
            let key = (server.user.clone(), server.server.clone());
            self.read(id, &key, &mut server);
            snapshot.memory += server.memory.unwrap_or(0);
            snapshot.pids += server.pids.unwrap_or(0);
            match servers.get_mut(&key) {
                Some(other) => merge(other, server),
                None => drop(servers.insert(key, server)),
            }
        }
        self.begun = true;
        self.forget_all_but(&here, &servers);
        for (key, server) in &mut servers {
            if let Some(carried) = self.carried.get(key) {
                let mut counters = counters(server);
                counters.add(carried);
                set_counters(server, &counters);
            }
            snapshot.stages.add(server.stage);
        }
        snapshot.totals = self.totals;
        if snapshot.user_names {
            snapshot.servers = servers.into_values().collect();
        }
    }

    /// Adds to the node's sums what a cgroup used since it was last read, or in all if it is new.
    fn read(&mut self, id: CgroupId, key: &Key, server: &mut ServerMetrics) {
        let begun = self.begun;
        let (known, counters) = self.living.entry(id).or_default();
        if known.is_some() || begun {
            self.totals.cpu += server.cpu.saturating_sub(counters.cpu);
            let throttled = server.throttled.unwrap_or_default();
            self.totals.throttled +=
                throttled.saturating_sub(counters.throttled.unwrap_or_default());
        }
        counters.cpu = server.cpu;
        counters.throttled = server.throttled;
        *known = Some(key.clone());
        let counters = *counters;
        set_counters(server, &counters);
    }

    fn forget_all_but(
        &mut self,
        here: &BTreeSet<CgroupId>,
        servers: &BTreeMap<Key, ServerMetrics>,
    ) {
        let carried = &mut self.carried;
        self.living.retain(|id, (key, counters)| {
            if here.contains(id) {
                return true;
            }
            if let Some(key) = key.take_if(|key| servers.contains_key(key)) {
                carried.entry(key).or_default().add(counters);
            }
            false
        });
        self.carried.retain(|key, _| servers.contains_key(key));
    }
}

fn counters(server: &ServerMetrics) -> Counters {
    Counters {
        cpu: server.cpu,
        throttled: server.throttled,
        verdicts: server.verdicts,
        refusals: server.refusals,
        sent_packets: server.sent_packets,
        sent_bytes: server.sent_bytes,
    }
}

fn set_counters(server: &mut ServerMetrics, counters: &Counters) {
    server.cpu = counters.cpu;
    server.throttled = counters.throttled;
    server.verdicts = counters.verdicts;
    server.refusals = counters.refusals;
    server.sent_packets = counters.sent_packets;
    server.sent_bytes = counters.sent_bytes;
}

/// Another cgroup of the same server: amounts are added up, of standings the worse one shows.
fn merge(server: &mut ServerMetrics, other: ServerMetrics) {
    let mut sums = counters(server);
    sums.add(&counters(&other));
    set_counters(server, &sums);
    server.memory = sum(server.memory, other.memory, |a, b| a + b);
    server.pids = sum(server.pids, other.pids, |a, b| a + b);
    if (other.stage, -other.credits.0) > (server.stage, -server.credits.0) {
        server.stage = other.stage;
        server.credits = other.credits;
        server.credits_size = other.credits_size;
        server.limit = other.limit;
    }
}
