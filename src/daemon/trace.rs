//! Once a tick: the trace of samples, where it is wanted.

use super::Shell;
use super::cgroups::Cgroup;
use crate::config::Config;
use crate::report::{Kind, Level, LogEntry};
use crate::trace::{Recorder, Sighting};
use policy::Stage;
use quantities::Time;
use std::path::Path;

/// What the daemon keeps for traces.
pub(super) struct TraceWriter {
    recorder: Recorder,
    /// The last trouble told, so that a lasting one is told once.
    told: Option<String>,
}

impl TraceWriter {
    pub fn new(config: &Config, state: &Path) -> TraceWriter {
        let directory = crate::trace::directory(state);
        TraceWriter {
            recorder: Recorder::new(directory, config.trace.clone(), config.tick),
            told: None,
        }
    }

    /// A configuration came into force.
    pub fn configure(&mut self, config: &Config) {
        self.recorder.configure(config.trace.clone(), config.tick);
    }

    pub fn wanted(&self) -> bool {
        self.recorder.wanted()
    }
}

impl Shell {
    /// Writes down what this tick saw.
    pub(super) fn write_trace(&mut self, now: Time) {
        if !self.report.trace.wanted() {
            return;
        }
        let acts = self.acts();
        let mut seen = Vec::new();
        for (id, entry) in &self.registry.entries {
            let Cgroup::Server(guarded) = entry else {
                continue;
            };
            seen.extend(guarded.stat.map(|stat| Sighting {
                id: *id,
                user: guarded.server.user.as_str(),
                usage: stat.usage,
                held: acts && self.stands_on(*id) >= Some(Stage::Throttled),
            }));
        }
        let trouble = self.report.trace.recorder.write(now, &seen).err();
        let trouble = trouble.map(|error| error.to_string());
        if trouble != self.report.trace.told {
            if let Some(text) = &trouble {
                let message = format!("Samples are not recorded, which is tried again: {text}.");
                self.log(LogEntry::new(Kind::Trouble, Level::Warning, message));
            }
            self.report.trace.told = trouble;
        }
    }
}
