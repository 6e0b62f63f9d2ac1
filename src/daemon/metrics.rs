//! Once a tick: what monitoring systems are shown.

use super::Shell;
use super::cgroups::{Cgroup, Guarded};
use crate::config::Config;
use crate::report::metrics::{
    Coverage, Exporter, Ledger, MetricsSnapshot, Reading, ServerMetrics, Tally,
};
use crate::report::{Kind, Level, LogEntry};
use cgroup::Gauges;
use hubwarden_core::accounts::Place;
use quantities::CgroupId;
use quantities::{Cores, Mode};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// What the daemon keeps for metrics.
pub(super) struct Meter {
    exporter: Exporter,
    /// Verdicts, refusals and sums; written to as they happen.
    pub ledger: Ledger,
    gauges: BTreeMap<CgroupId, Gauges>,
    /// The last trouble told, so that a lasting one is told once.
    told: Option<String>,
}

impl Meter {
    pub fn new(config: &Config) -> Meter {
        Meter {
            exporter: Exporter::new(config.metrics.clone()),
            ledger: Ledger::default(),
            gauges: BTreeMap::new(),
            told: None,
        }
    }

    /// A configuration came into force.
    pub fn configure(&mut self, config: &Config) {
        self.exporter.configure(config.metrics.clone());
    }
}

impl Shell {
    /// While supervision is off nobody samples; who watches wants to see all the same.
    pub(super) fn watch_on(&mut self) {
        if !self.off || !(self.report.meter.exporter.wanted() || self.report.trace.wanted()) {
            return;
        }
        for (id, entry) in &mut self.registry.entries {
            if let Cgroup::Server(guarded) = entry {
                guarded.stat = self.registry.sampler.stat(*id);
            }
        }
    }

    /// Hands a snapshot over, where anybody is to see it; `took` is how long the tick took.
    pub(super) fn show_metrics(&mut self, took: Duration) {
        self.report.meter.ledger.ticked(took);
        if !self.report.meter.exporter.wanted() {
            self.report.meter.gauges.clear();
            self.report.meter.ledger.pause();
            return;
        }
        let mut snapshot = self.node_metrics();
        let readings = self.readings();
        self.report.meter.ledger.book(readings, &mut snapshot);
        let trouble = match self.report.meter.exporter.publish(snapshot) {
            Ok(()) => None,
            Err(errors) => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Some(errors.join("; "))
            }
        };
        if trouble != self.report.meter.told {
            if let Some(text) = &trouble {
                let message = format!("Metrics are not shown, which is tried again: {text}.");
                self.log(LogEntry::new(Kind::Trouble, Level::Warning, message));
            }
            self.report.meter.told = trouble;
        }
    }

    /// Whether anybody is to see them.
    pub(super) fn shows_metrics(&self) -> bool {
        self.report.meter.exporter.wanted()
    }

    fn node_metrics(&self) -> MetricsSnapshot {
        let unknown = |entry: &&Cgroup| {
            matches!(
                entry,
                Cgroup::Ignored {
                    is_admins: false,
                    ..
                }
            )
        };
        MetricsSnapshot {
            taken: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
            user_names: self.config.metrics.user_names,
            enforcing: self.config.mode == Mode::Enforce && !self.off,
            off: self.off,
            egress_loaded: self.network.rules.stand(),
            coverage: Coverage {
                unknown_units: self.registry.entries.values().filter(unknown).count() as u64,
                uncovered: self.uncovered(),
            },
            journal_lost: self.report.journal.lost(),
            threads: Self::threads_up(self.sensors.heartbeats()),
            starts_missed: self.sensors.starts_missed(),
            answers: self.network.answers.tally(),
            ..MetricsSnapshot::default()
        }
    }

    fn readings(&mut self) -> Vec<Reading> {
        let shared = self.node.accounts().shared_limits();
        let Shell {
            registry,
            node,
            report,
            root,
            ..
        } = self;
        let (entries, meter) = (&registry.entries, &mut report.meter);
        meter.gauges.retain(|id, _| entries.contains_key(id));
        let mut readings = Vec::new();
        for (id, entry) in entries {
            let Cgroup::Server(guarded) = entry else {
                continue;
            };
            let gauges = meter
                .gauges
                .entry(*id)
                .or_insert_with(|| Gauges::open(root, &guarded.cgroup));
            // A slice is a part of the server that it follows, whose account is the one that counts.
            let lead = node.accounts().account_of(*id);
            let account = match entries.get(&lead) {
                Some(Cgroup::Server(server)) => server,
                _ => guarded,
            };
            let Some(place) = node.accounts().place(account.id) else {
                continue;
            };
            let limit = shared.get(&account.id).copied().or(place.limit());
            readings.extend(reading(guarded, account, place, limit, gauges));
        }
        readings
    }
}

/// What one cgroup of a server's shows; nothing before its first sample.
fn reading(
    guarded: &Guarded,
    account: &Guarded,
    place: &Place,
    limit: Option<Cores>,
    gauges: &Gauges,
) -> Option<Reading> {
    let stat = guarded.stat?;
    let server = ServerMetrics {
        user: guarded.server.user.as_str().to_owned(),
        server: account.server.name.clone(),
        cpu: stat.usage,
        throttled: stat.throttled,
        credits: place.standing().credits.left,
        credits_size: place.policy().size,
        limit,
        stage: place.standing().stage,
        memory: gauges.memory(),
        pids: gauges.pids(),
        verdicts: Tally::default(),
        refusals: 0,
        sent_packets: 0,
        sent_bytes: 0,
    };
    let id = guarded.id;
    Some(Reading { id, server })
}
