//! Made-up days of made-up users, whose sessions use as much CPU as real ones did.
//!
//! Known of 439,248 sessions on Binder: half of them used 6 CPU-seconds or less, nine of ten 33 s,
//! 99 of 100 13.5 min; 0.5 % used half an hour or more, 0.3 % an hour or more. The amounts drawn
//! here follow these points; how a session's work is spread over its time, on how many cores, and
//! when people come, is plausible and not measured. Spinners are mixed in, known as such, so that
//! a policy can be asked whether it catches them.

use super::random::Random;
use super::server::Burst;
use quantities::{CoreSeconds, Cores, Time};
use std::time::Duration;

/// What to make up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Population {
    /// Hub users.
    pub users: u32,
    /// Days, of which the first is a Monday.
    pub days: u32,
    /// The same seed gives the same days.
    pub seed: u64,
    /// Share of users, 0.0 to 1.0, who run something that spins for hours, once.
    pub spinners: f64,
}

impl Default for Population {
    fn default() -> Self {
        Population {
            users: 10_000,
            days: 7,
            seed: 1,
            spinners: 0.005,
        }
    }
}

/// What a session is, as its maker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody works.
    Honest,
    /// Something keeps cores busy from beginning to end.
    Spinner,
}

/// One server from start to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Whose, counted from 1.
    pub user: u32,
    /// What it is.
    pub kind: Kind,
    /// When it starts.
    pub start: Time,
    /// When its user is through; an honest one waits for work that is not done by then.
    pub end: Time,
    /// The work, in the order in which it is asked for.
    pub bursts: Vec<Burst>,
}

/// Share of sessions and the CPU-seconds that these use at most.
const CPU: [(f64, f64); 7] = [
    (0.0, 0.5),
    (0.5, 6.0),
    (0.9, 33.0),
    (0.99, 810.0),
    (0.995, 1800.0),
    (0.997, 3600.0),
    (1.0, 43_200.0),
];

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// Sessions of one user in a week.
const A_WEEK: f64 = 6.0;

impl Population {
    /// All sessions, user by user and each user's in order of time.
    pub fn sessions(&self) -> impl Iterator<Item = Session> + '_ {
        self.users().flat_map(|(_, sessions)| sessions)
    }

    /// All users with their sessions in order of time.
    pub(super) fn users(&self) -> impl Iterator<Item = (u32, Vec<Session>)> + '_ {
        (1..=self.users).map(|user| (user, self.sessions_of(user)))
    }

    fn sessions_of(&self, user: u32) -> Vec<Session> {
        let mut random = Random::new(self.seed, u64::from(user));
        let mut sessions = Vec::new();
        let over = f64::from(self.days) * DAY;
        // Whoever comes at a quiet hour mostly does not: the busiest hours set the pace.
        let busy_hours: f64 = (0..7 * 24)
            .map(|hour| presence(f64::from(hour) * HOUR))
            .sum();
        let pace = busy_hours * HOUR / A_WEEK;
        let mut now = random.exponential(pace);
        while now < over {
            if random.unit() < presence(now) {
                let session = honest(user, now, &mut random);
                now = session.end.0.as_secs_f64();
                sessions.push(session);
            }
            now += random.exponential(pace);
        }
        if random.unit() < self.spinners {
            sessions.push(spinner(user, random.between(0.0, over), &mut random));
        }
        sessions.sort_by_key(|session| session.start);
        sessions
    }
}

/// How many are there at this time, of those who are at the busiest.
fn presence(at: f64) -> f64 {
    let weekend = (at / DAY) as u64 % 7 >= 5;
    let part = match (at % DAY / HOUR) as u64 {
        0..6 => 0.05,
        6..9 => 0.3,
        9..18 => 1.0,
        _ => 0.5,
    };
    if weekend { 0.4 * part } else { part }
}

/// The CPU-seconds that a share of all sessions stays below; between the known points evenly by
/// order of magnitude.
fn cpu_seconds(share: f64) -> f64 {
    let above = CPU.iter().position(|(end, _)| share < *end);
    let above = above.unwrap_or(CPU.len() - 1).max(1);
    let ((from, least), (to, most)) = (CPU[above - 1], CPU[above]);
    least * (most / least).powf((share - from) / (to - from))
}

fn honest(user: u32, start: f64, random: &mut Random) -> Session {
    let cpu = cpu_seconds(random.unit());
    let cores = random.choose(1.0, &[(2.0, 0.15), (4.0, 0.10)]);
    let stays = random
        .log_normal(25.0 * 60.0, 1.1)
        .clamp(180.0, 12.0 * HOUR);
    let stays = stays.max(1.2 * cpu / cores);
    let starting = cpu.min(3.0);
    let mut bursts = vec![burst(start, starting, 1.0)];
    let left = cpu - starting;
    if left > 0.0 {
        // The more there is to compute the longer single computations are.
        let count = (left / left.powf(0.7).max(0.5)).ceil().clamp(1.0, 200.0) as usize;
        let weights: Vec<f64> = (0..count).map(|_| random.exponential(1.0)).collect();
        let mut times: Vec<f64> = (0..count).map(|_| random.unit().powf(1.3)).collect();
        times.sort_by(f64::total_cmp);
        let total: f64 = weights.iter().sum();
        for (weight, time) in weights.iter().zip(times) {
            let at = start + 3.0 + time * (stays - 3.0);
            bursts.push(burst(at, left * weight / total, cores));
        }
    }
    Session {
        user,
        kind: Kind::Honest,
        start: at(start),
        end: at(start + stays),
        bursts,
    }
}

fn spinner(user: u32, start: f64, random: &mut Random) -> Session {
    // The last kind keeps below a core, to look like work.
    let part = random.between(0.6, 0.9);
    let cores = random.choose(1.0, &[(2.0, 0.25), (4.0, 0.15), (8.0, 0.10), (part, 0.10)]);
    let stays = random.between(6.0 * HOUR, 24.0 * HOUR);
    Session {
        user,
        kind: Kind::Spinner,
        start: at(start),
        end: at(start + stays),
        bursts: vec![burst(start, cores * stays, cores)],
    }
}

fn burst(time: f64, work: f64, cores: f64) -> Burst {
    Burst {
        at: at(time),
        work: CoreSeconds(work),
        cores: Cores(cores),
    }
}

fn at(seconds: f64) -> Time {
    Time(Duration::from_secs_f64(seconds))
}
