//! Once a tick: the diary of samples, where it is wanted.

use super::Inner;
use super::cgroups::Cgroup;
use crate::config::Config;
use crate::record::{Recorder, Sighting};
use crate::report::{Kind, Level, LogEntry};
use policy::Stage;
use quantities::Time;
use std::path::Path;

/// What the daemon keeps for records.
pub(super) struct Diary {
    recorder: Recorder,
    /// The last trouble told, so that a lasting one is told once.
    told: Option<String>,
}

impl Diary {
    pub fn new(config: &Config, state: &Path) -> Diary {
        let directory = crate::record::directory(state);
        Diary {
            recorder: Recorder::new(directory, config.record.clone(), config.tick),
            told: None,
        }
    }

    /// A configuration came into force.
    pub fn configure(&mut self, config: &Config) {
        self.recorder.configure(config.record.clone(), config.tick);
    }

    pub fn wanted(&self) -> bool {
        self.recorder.wanted()
    }
}

impl Inner {
    /// Writes down what this tick saw.
    pub(super) fn record(&mut self, now: Time) {
        if !self.diary.wanted() {
            return;
        }
        let acts = self.acts();
        let mut seen = Vec::new();
        for (id, entry) in &self.entries {
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
        let trouble = self.diary.recorder.write(now, &seen).err();
        let trouble = trouble.map(|error| error.to_string());
        if trouble != self.diary.told {
            if let Some(text) = &trouble {
                let message = format!("Samples are not recorded, which is tried again: {text}.");
                self.log(LogEntry::new(Kind::Trouble, Level::Warning, message));
            }
            self.diary.told = trouble;
        }
    }
}
