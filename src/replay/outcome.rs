//! What a replay came to, for people and programs.

use super::generate::Kind;
use super::server::Server;
use policy::Policy;
use quantities::{CoreSeconds, Time};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// The sum of it. Serialises with seconds and core-seconds; fields are only ever added.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// How much time was replayed.
    #[serde(rename = "span_seconds", serialize_with = "seconds")]
    pub span: Duration,
    /// Users who had a server.
    pub users: usize,
    /// Users who were throttled at least once.
    pub users_throttled: usize,
    /// Servers from start to stop.
    pub sessions: usize,
    /// Sessions that would have been stopped, their work lost.
    pub sessions_stopped: usize,
    /// CPU asked for.
    pub asked_core_seconds: f64,
    /// CPU used; less than asked for where a server stopped before its work was done.
    pub used_core_seconds: f64,
    /// CPU that throttled servers would have used and did not, at that time.
    pub given_back_core_seconds: f64,
    /// Sessions that were throttled already while they were recorded: what these would have used
    /// beyond is not known.
    pub throttled_while_recorded: usize,
    /// Every session that would have been throttled, the longest first.
    pub throttled: Vec<Throttled>,
    /// Where it is known which sessions spin: how these fared.
    pub spinners: Option<Spinners>,
    #[serde(skip)]
    pub(super) seen: BTreeSet<String>,
}

/// One session that would have been throttled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Throttled {
    /// Whose; a number where users are not named.
    pub user: String,
    /// Whether its maker knows that it spins; absent in traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spinner: Option<bool>,
    /// When its server started, since the beginning.
    #[serde(rename = "started_seconds", serialize_with = "time")]
    pub started: Time,
    /// When it was throttled first, since the beginning.
    #[serde(rename = "throttled_at_seconds", serialize_with = "time")]
    pub at: Time,
    /// How often.
    pub times: u32,
    /// For how long in all.
    #[serde(rename = "throttled_seconds", serialize_with = "seconds")]
    pub total: Duration,
    /// CPU it asked for.
    pub asked_core_seconds: f64,
    /// CPU it got until it stopped.
    pub used_core_seconds: f64,
    /// CPU it would have used while it was throttled, and others could.
    pub given_back_core_seconds: f64,
}

/// How the spinners fared that a generator mixed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spinners {
    /// How many there were.
    pub sessions: usize,
    /// How many were throttled before they had used more than their credits above the baseline,
    /// but for one tick's worth.
    pub caught: usize,
    /// The longest time that one of them ran before it was throttled.
    #[serde(rename = "slowest_seconds", serialize_with = "seconds")]
    pub slowest: Duration,
}

impl Outcome {
    pub(super) fn add(
        &mut self,
        user: &str,
        kind: Option<Kind>,
        server: &Server,
        policy: &Policy,
        tick: Duration,
    ) {
        self.sessions += 1;
        self.sessions_stopped += usize::from(server.is_stopped());
        self.asked_core_seconds += server.asked().0;
        self.used_core_seconds += server.used().0;
        if !self.seen.contains(user) {
            self.seen.insert(user.to_owned());
        }
        if kind == Some(Kind::Spinner) {
            self.spinner(server, policy, tick);
        }
        let Some(held) = server.held() else {
            return;
        };
        self.given_back_core_seconds += held.given_back.0;
        self.throttled.push(Throttled {
            user: user.to_owned(),
            spinner: kind.map(|kind| kind == Kind::Spinner),
            started: server.started(),
            at: held.first,
            times: held.times,
            total: held.total,
            asked_core_seconds: server.asked().0,
            used_core_seconds: server.used().0,
            given_back_core_seconds: held.given_back.0,
        });
    }

    fn spinner(&mut self, server: &Server, policy: &Policy, tick: Duration) {
        let spinners = self.spinners.get_or_insert_default();
        spinners.sessions += 1;
        let Some(held) = server.held() else {
            return;
        };
        // Without a limit of ours nothing bounds a tick's worth but the node.
        let most = policy.limit.map_or(f64::INFINITY, |limit| {
            policy.size.0 + CoreSeconds::of(limit, tick).0
        });
        spinners.caught += usize::from(held.above_baseline.0 <= most);
        spinners.slowest = spinners.slowest.max(held.first.since(server.started()));
    }

    pub(super) fn finish(&mut self) {
        self.users = self.seen.len();
        let throttled: BTreeSet<&str> = self.throttled.iter().map(|t| t.user.as_str()).collect();
        self.users_throttled = throttled.len();
        let key = |t: &Throttled| (std::cmp::Reverse(t.total), t.at, t.user.clone());
        self.throttled.sort_by_cached_key(key);
    }

    /// Sessions throttled, of those that are not known to spin, in per cent.
    pub fn honest_throttled_percent(&self) -> f64 {
        let spinners = self.spinners.map_or(0, |spinners| spinners.sessions);
        let honest = |t: &&Throttled| t.spinner != Some(true);
        let throttled = self.throttled.iter().filter(honest).count();
        100.0 * throttled as f64 / (self.sessions - spinners).max(1) as f64
    }
}

impl Spinners {
    /// Those caught, in per cent.
    pub fn caught_percent(&self) -> f64 {
        100.0 * self.caught as f64 / self.sessions.max(1) as f64
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn time<S: serde::Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
    seconds(&time.0, serializer)
}
