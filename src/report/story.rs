//! The sentences of a server's story, so that `journalctl HUB_USER=alice` reads as one.

use super::{Kind, Level, LogEntry};
use crate::hub::{Server, Spawner};
use hubwarden_core::actuator::{Acts, Event};
use policy::finding::{Evidence, Fact, Strength};
use policy::{Controls, FindingKind, Reason, Stage, Verdict, Warning};
use quantities::{CgroupId, CgroupPath};
use quantities::{CoreSeconds, Cores, Mode, in_words};
use std::collections::BTreeSet;

/// What every entry on one server has in common.
#[derive(Debug, Clone, Copy)]
pub struct Story<'a> {
    /// Whose server.
    pub server: &'a Server,
    /// Where it runs.
    pub cgroup: &'a CgroupPath,
    /// Its cgroup's id, which is the standing's number too.
    pub id: CgroupId,
    /// Whether verdicts are carried out.
    pub mode: Mode,
    /// The baseline that it shares with other places of its user's, where there are any.
    pub shares: Option<Cores>,
}

impl Story<'_> {
    pub(super) fn entry(&self, kind: Kind, level: Level, message: String) -> LogEntry {
        LogEntry::new(kind, level, message)
            .with("HUB_USER", self.server.user.as_str())
            .with("HUB_SERVER", &self.server.name)
            .with("HUB_SPAWNER", self.server.spawner.as_str())
            .with("UNIT_NAME", self.server.unit.as_str())
            .with("CGROUP", self.cgroup)
            .with("CASE_ID", self.id)
            .with("VERDICT_MODE", self.mode)
    }

    /// Whom an entry is about: a server, or what its user runs beside it.
    pub(super) fn whose(&self) -> String {
        match self.server.spawner {
            Spawner::Login => format!("what {} runs outside the server", self.server.user),
            _ => format!("{}'s server", self.server.user),
        }
    }

    /// What became of bringing its limits about, or of ending it.
    pub fn event(&self, event: &Event) -> LogEntry {
        match event {
            Event::Verdict {
                verdict,
                now,
                before,
            } => self.verdict(verdict, now, before),
            Event::Limited { now, before } => self.limited(now, before),
            Event::Restored { now, why } => self.restored(*why, now),
            Event::LimitChanged { found, ours } => self.limit_changed(found, ours),
            Event::HubDidNotStop(why) => self.hub_did_not_stop(why),
            Event::Trouble(trouble) => self.trouble("Setting the CPU limit", trouble),
        }
    }

    /// The server was found.
    pub fn found(&self, class: &str, credits: CoreSeconds, known: bool) -> LogEntry {
        let how = if known {
            "is still there after our restart"
        } else {
            "was found"
        };
        let message = format!(
            "{} {how} in {}: egress class {class}, {credits} of CPU credits.",
            self.whose(),
            self.server.unit
        );
        self.entry(Kind::ServerFound, Level::Notice, message)
            .with("EGRESS_CLASS", class)
    }

    /// The server stopped.
    pub fn gone(&self) -> LogEntry {
        let message = format!("{} in {} stopped.", self.whose(), self.server.unit);
        self.entry(Kind::ServerGone, Level::Notice, message)
    }

    /// A verdict, carried out or only decided.
    pub fn verdict(&self, verdict: &Verdict, now: &Controls, before: &Controls) -> LogEntry {
        let limit = limit_in_words(now);
        let (kind, done, would) = match verdict.to {
            Stage::Throttled => {
                let part = match self.shares {
                    Some(all) => format!(", its part of the {all} left to {}", self.server.user),
                    None => String::new(),
                };
                (
                    Kind::Throttled,
                    format!("is throttled to {limit}{part}"),
                    format!("would be throttled to {limit}{part}"),
                )
            }
            Stage::Frozen => (
                Kind::Frozen,
                "is frozen: its processes stand still and lose nothing".to_owned(),
                "would be frozen".to_owned(),
            ),
            Stage::Stopped => (
                Kind::ServerStopped,
                "is stopped".to_owned(),
                "would be stopped".to_owned(),
            ),
            Stage::Deprioritised => (
                Kind::Deprioritised,
                "now yields to others when the CPU is contended".to_owned(),
                "would yield to others when the CPU is contended".to_owned(),
            ),
            Stage::Free => (
                Kind::Freed,
                format!("is free again, with {limit}"),
                "would be free again".to_owned(),
            ),
        };
        let what = match self.mode {
            Mode::Enforce => done,
            Mode::Observe => format!("{would} (observe mode: nothing is changed)"),
        };
        let message = format!("{} {what}: {}.", self.whose(), verdict.reason);
        let evidence = match verdict.reason {
            Reason::Evidence {
                of: FindingKind::Network,
                ..
            } => "network",
            Reason::Evidence { .. } => "mining",
            _ => "cpu credits",
        };
        self.entry(kind, Level::Notice, message)
            .with("VERDICT", verdict.to)
            .with("VERDICT_FROM", verdict.from)
            .with("REASON", &verdict.reason)
            .with("EVIDENCE", evidence)
            .with("CPU_LIMIT_NOW", limit_in_words(now))
            .with("CPU_LIMIT_BEFORE", limit_in_words(before))
    }

    /// It does something that miners do, or that only looks like it: what all that was found
    /// amounts to.
    pub fn evidence(&self, level: Strength, all: &[Evidence]) -> LogEntry {
        // What proves most comes first; of each sensor one reading, the latest, says enough.
        let mut shown: Vec<&Evidence> = all.iter().rev().collect();
        shown.sort_by_key(|one| std::cmp::Reverse((one.strength(), proves(one))));
        let mut sensors = BTreeSet::new();
        shown.retain(|one| sensors.insert(one.fact.sensor()));
        if level > Strength::Exonerates {
            shown.retain(|one| one.strength() > Strength::Exonerates);
        }
        let words: Vec<String> = shown.iter().map(|one| one.to_string()).collect();
        let words = words.join("; ");
        let of_network = shown.first().is_some_and(|one| one.fact.is_of_network());
        let message = match level {
            Strength::Exonerates => {
                format!("{} does nothing that miners do: {words}.", self.whose())
            }
            Strength::Suspicious if of_network => format!(
                "{} does something that abuses the network; by itself that proves too little, and \
                 nothing comes of it: {words}.",
                self.whose()
            ),
            Strength::High if of_network => format!(
                "{} abuses the network, and the evidence is {level}: {words}.",
                self.whose()
            ),
            Strength::Suspicious => format!(
                "{} does something that miners do; by itself that proves too little, and nothing \
                 comes of it: {words}.",
                self.whose()
            ),
            Strength::High | Strength::Certain => format!(
                "{} does what miners do, and the evidence is {level}: {words}.",
                self.whose()
            ),
        };
        let urgency = match level {
            Strength::Exonerates | Strength::Suspicious => Level::Notice,
            Strength::High | Strength::Certain => Level::Warning,
        };
        let sensors: Vec<&str> = shown.iter().map(|one| one.fact.sensor().as_str()).collect();
        self.entry(Kind::EvidenceFound, urgency, message)
            .with("EVIDENCE", sensors.join(","))
            .with("EVIDENCE_LEVEL", level)
            .with("REASON", words)
    }

    /// Its running time is about to end.
    pub fn warned(&self, warning: &Warning) -> LogEntry {
        let then = match warning.then {
            Stage::Free | Stage::Deprioritised | Stage::Throttled => "throttled for good",
            Stage::Frozen => "frozen",
            Stage::Stopped => "stopped",
        };
        let would = match self.mode {
            Mode::Enforce => "is",
            Mode::Observe => "would be (observe mode)",
        };
        let message = format!(
            "{} has {} of its running time left; then it {would} {then}.",
            self.whose(),
            in_words(warning.left)
        );
        self.entry(Kind::Warned, Level::Notice, message)
            .with("VERDICT", warning.then)
            .with("SECONDS_LEFT", warning.left.as_secs())
    }

    /// The limit that everybody has was set.
    fn limited(&self, now: &Controls, before: &Controls) -> LogEntry {
        let message = format!(
            "{} may use up to {} (before: {}), as every server here.",
            self.whose(),
            limit_in_words(now),
            limit_in_words(before)
        );
        self.entry(Kind::Limited, Level::Notice, message)
            .with("CPU_LIMIT_NOW", limit_in_words(now))
            .with("CPU_LIMIT_BEFORE", limit_in_words(before))
    }

    /// What stood there before is back.
    fn restored(&self, why: Acts, now: &Controls) -> LogEntry {
        let why = match why {
            Acts::Off => "supervision is off",
            Acts::Observes => "hubwarden only observes",
            Acts::Released => "it is not whose it was taken for",
            Acts::Yes => "nothing is to be limited there",
        };
        let message = format!(
            "{} has {} again, as before hubwarden: {why}.",
            self.whose(),
            limit_in_words(now)
        );
        self.entry(Kind::Freed, Level::Notice, message)
            .with("VERDICT", Stage::Free)
            .with("REASON", why)
            .with("CPU_LIMIT_NOW", limit_in_words(now))
    }

    /// Somebody else set a limit while ours stood.
    fn limit_changed(&self, theirs: &Controls, ours: &Controls) -> LogEntry {
        let message = format!(
            "Somebody set {} to {}; that is remembered and put back when our limit of {} \
             ends.",
            self.whose(),
            limit_in_words(theirs),
            limit_in_words(ours)
        );
        self.entry(Kind::LimitChanged, Level::Notice, message)
            .with("CPU_LIMIT_BEFORE", limit_in_words(theirs))
            .with("CPU_LIMIT_NOW", limit_in_words(ours))
    }

    /// The hub was asked to stop the server and did not.
    fn hub_did_not_stop(&self, why: &str) -> LogEntry {
        let message = format!(
            "The hub did not stop {}, so hubwarden ends it without the hub: {why}.",
            self.whose()
        );
        self.entry(Kind::Trouble, Level::Warning, message)
            .with("REASON", why)
    }

    /// Something about this server did not work.
    pub fn trouble(&self, what: &str, error: &dyn std::error::Error) -> LogEntry {
        let message = format!(
            "{what} of {} failed and is tried again: {error}.",
            self.whose()
        );
        self.entry(Kind::Trouble, Level::Error, message)
    }
}

/// Whether it is rule R, which is nothing by itself and everything with a second sign.
fn proves(evidence: &Evidence) -> bool {
    matches!(evidence.fact, Fact::RandomRounding(_))
}

/// A quota in words.
pub(super) fn limit_in_words(settings: &Controls) -> String {
    match settings.quota {
        Some(Cores(quota)) => Cores(quota).to_string(),
        None => "no limit".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::hub::{Control, Spawner, UnitName};
    use quantities::HubUser;
    use std::time::Duration;

    fn server() -> Server {
        Server {
            user: HubUser("alice".into()),
            name: String::new(),
            spawner: Spawner::Systemd,
            unit: UnitName("jupyter-alice.service".into()),
            uid: Some(1001),
            control: Control::Systemd,
        }
    }

    pub(in crate::report) fn told(mode: Mode, tell: impl Fn(&Story<'_>) -> LogEntry) -> LogEntry {
        let (server, cgroup) = (
            server(),
            CgroupPath::new("jupyter.slice/jupyter-alice.service"),
        );
        tell(&Story {
            server: &server,
            cgroup: &cgroup,
            id: CgroupId(42),
            mode,
            shares: None,
        })
    }

    fn settings(quota: Option<f64>) -> Controls {
        Controls {
            quota: quota.map(Cores),
            ..Controls::default()
        }
    }

    fn throttled() -> Verdict {
        Verdict {
            from: Stage::Deprioritised,
            to: Stage::Throttled,
            reason: Reason::CreditsSpent {
                size: CoreSeconds(3600.0),
                rate: Cores(2.0),
                rest: Duration::from_secs(1440),
            },
        }
    }

    #[test]
    fn a_verdict_says_what_why_and_when_it_ends() {
        let entry = told(Mode::Enforce, |story| {
            story.verdict(&throttled(), &settings(Some(0.25)), &settings(Some(1.5)))
        });
        assert_eq!(
            entry.message,
            "alice's server is throttled to 0.25 cores: its 1 core-hour of CPU credits are spent, \
             and it uses 2 cores; it is free again after 24 min of rest."
        );
        let field = |key| {
            entry
                .fields
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, v)| v.as_str())
        };
        assert_eq!(field("HUB_USER"), Some("alice"));
        assert_eq!(field("VERDICT"), Some("throttled"));
        assert_eq!(field("VERDICT_MODE"), Some("enforce"));
        assert_eq!(field("CPU_LIMIT_BEFORE"), Some("1.5 cores"));
    }

    #[test]
    fn observe_mode_never_claims_to_have_acted() {
        let entry = told(Mode::Observe, |story| {
            story.verdict(&throttled(), &settings(Some(0.25)), &settings(None))
        });
        assert!(
            entry.message.contains("would be throttled to 0.25 cores"),
            "{}",
            entry.message
        );
        assert!(
            entry.message.contains("nothing is changed"),
            "{}",
            entry.message
        );
    }
}
