//! How much each Unix user may ask of the daemon over the system bus.
//!
//! Every question costs tokens of its asker's, which come back with time. All users without rights
//! share a second budget, since one person can have many uids (`/etc/subuid`). Root and admins have
//! budgets of their own that users cannot use up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How fast tokens come back, and how many there can be.
#[derive(Debug, Clone, Copy)]
struct Rate {
    /// Tokens a second.
    refill: f64,
    /// Tokens of one who has not asked lately.
    burst: f64,
    /// Questions that wait for their answer at one time.
    in_flight: usize,
}

/// `hubwarden top` asks for 12 tokens a second.
const USER: Rate = Rate {
    refill: 20.0,
    burst: 80.0,
    in_flight: 4,
};
const ADMIN: Rate = Rate {
    refill: 200.0,
    burst: 800.0,
    in_flight: 16,
};
const ALL_USERS: Rate = Rate {
    refill: 200.0,
    burst: 800.0,
    in_flight: 24,
};
/// Refusals that are answered. After that the bus itself refuses who does not wait: it lets a
/// connection have 128 unanswered calls (dbus-daemon's `max_replies_per_connection`).
const REFUSED: Rate = Rate {
    refill: 5.0,
    burst: 20.0,
    in_flight: usize::MAX,
};
/// Uids that are remembered; those who have not asked lately are forgotten first.
const MOST_UIDS: usize = 4096;

/// Who asks, as far as budgets go. Rights are checked at each order, and not by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// Shares in what all users have.
    User,
    /// Root, or a member of the group.
    Admin,
}

/// Why a question is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The asker is to be told.
    Told,
    /// So many were refused that not even that is worth a message.
    Silent,
}

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Instant,
    in_flight: usize,
}

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Bucket {
        Bucket {
            rate,
            tokens: rate.burst,
            at: now,
            in_flight: 0,
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * self.rate.refill).min(self.rate.burst);
    }

    fn has(&self, cost: f64) -> bool {
        self.tokens >= cost && self.in_flight < self.rate.in_flight
    }

    fn is_idle(&self, now: Instant) -> bool {
        let full = Duration::from_secs_f64(self.rate.burst / self.rate.refill);
        self.in_flight == 0 && now.saturating_duration_since(self.at) > full
    }
}

#[derive(Debug)]
struct One {
    asks: Bucket,
    refused: Bucket,
    rank: Rank,
}

/// See the module's text.
#[derive(Debug)]
pub struct Budgets {
    each: BTreeMap<u32, One>,
    users: Bucket,
    users_refused: Bucket,
}

impl Budgets {
    pub fn new(now: Instant) -> Budgets {
        Budgets {
            each: BTreeMap::new(),
            users: Bucket::new(ALL_USERS, now),
            users_refused: Bucket::new(
                Rate {
                    refill: 10.0 * REFUSED.refill,
                    burst: 10.0 * REFUSED.burst,
                    ..REFUSED
                },
                now,
            ),
        }
    }

    /// Takes a question that costs so many tokens, or refuses it.
    ///
    /// # Errors
    /// It is refused, and the error says how.
    pub fn ask(&mut self, uid: u32, rank: Rank, cost: f64, now: Instant) -> Result<(), Refusal> {
        self.forget_idle(uid, now);
        if self.each.len() >= MOST_UIDS && !self.each.contains_key(&uid) && rank == Rank::User {
            return Err(Refusal::Silent);
        }
        let rate = match rank {
            Rank::User => USER,
            Rank::Admin => ADMIN,
        };
        let one = self.each.entry(uid).or_insert_with(|| One {
            asks: Bucket::new(rate, now),
            refused: Bucket::new(REFUSED, now),
            rank,
        });
        // A question that is under way counts in the budget that it was taken from.
        if one.rank != rank && one.asks.in_flight == 0 {
            (one.rank, one.asks) = (rank, Bucket::new(rate, now));
        }
        one.asks.refill(now);
        self.users.refill(now);
        let shares = one.rank == Rank::User;
        if one.asks.has(cost) && (!shares || self.users.has(cost)) {
            one.asks.tokens -= cost;
            one.asks.in_flight += 1;
            if shares {
                self.users.tokens -= cost;
                self.users.in_flight += 1;
            }
            return Ok(());
        }
        one.refused.refill(now);
        self.users_refused.refill(now);
        if !one.refused.has(1.0) || !self.users_refused.has(1.0) {
            return Err(Refusal::Silent);
        }
        one.refused.tokens -= 1.0;
        self.users_refused.tokens -= 1.0;
        Err(Refusal::Told)
    }

    /// A question that was taken has its answer.
    pub fn answered(&mut self, uid: u32) {
        if let Some(one) = self.each.get_mut(&uid) {
            one.asks.in_flight = one.asks.in_flight.saturating_sub(1);
            if one.rank == Rank::User {
                self.users.in_flight = self.users.in_flight.saturating_sub(1);
            }
        }
    }

    fn forget_idle(&mut self, uid: u32, now: Instant) {
        if self.each.len() >= MOST_UIDS && !self.each.contains_key(&uid) {
            self.each.retain(|_, one| !one.asks.is_idle(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many questions at one moment are taken; each is answered at once.
    fn taken(budgets: &mut Budgets, uid: u32, rank: Rank, asked: u32, now: Instant) -> u32 {
        let mut taken = 0;
        for _ in 0..asked {
            if budgets.ask(uid, rank, 1.0, now).is_ok() {
                budgets.answered(uid);
                taken += 1;
            }
        }
        taken
    }

    #[test]
    fn a_user_has_a_burst_and_then_what_comes_back_with_time() {
        let now = Instant::now();
        let mut budgets = Budgets::new(now);
        assert_eq!(taken(&mut budgets, 1000, Rank::User, 1000, now), 80);
        let later = now + Duration::from_secs(1);
        assert_eq!(taken(&mut budgets, 1000, Rank::User, 1000, later), 20);
        assert_eq!(taken(&mut budgets, 1001, Rank::User, 10, later), 10);
    }

    #[test]
    fn many_uids_share_one_budget_and_leave_the_admins_theirs() {
        let now = Instant::now();
        let mut budgets = Budgets::new(now);
        let all: u32 = (100_000..101_000)
            .map(|uid| taken(&mut budgets, uid, Rank::User, 100, now))
            .sum();
        assert_eq!(all, 800);
        for admin in [0, 1000] {
            assert_eq!(taken(&mut budgets, admin, Rank::Admin, 500, now), 500);
        }
    }

    #[test]
    fn unanswered_questions_are_bounded_for_each_user() {
        let now = Instant::now();
        let mut budgets = Budgets::new(now);
        for _ in 0..4 {
            budgets.ask(1000, Rank::User, 1.0, now).unwrap();
        }
        assert!(budgets.ask(1000, Rank::User, 1.0, now).is_err());
        budgets.answered(1000);
        budgets.ask(1000, Rank::User, 1.0, now).unwrap();
    }

    #[test]
    fn refusals_are_told_a_few_times_and_cost_no_message_after_that() {
        let now = Instant::now();
        let mut budgets = Budgets::new(now);
        taken(&mut budgets, 1000, Rank::User, 80, now);
        let told = (0..1000)
            .filter(|_| budgets.ask(1000, Rank::User, 1.0, now) == Err(Refusal::Told))
            .count();
        assert_eq!(told, 20);
    }

    #[test]
    fn uids_without_end_take_no_memory_without_end() {
        let mut now = Instant::now();
        let mut budgets = Budgets::new(now);
        for uid in 0..50_000 {
            now += Duration::from_micros(10);
            let _ = budgets.ask(uid, Rank::User, 1.0, now);
        }
        assert!(budgets.each.len() <= MOST_UIDS);
        // Who comes after they have gone quiet is remembered again.
        for uid in 0..50_000 {
            budgets.answered(uid);
        }
        now += Duration::from_secs(60);
        budgets.ask(60_000, Rank::User, 1.0, now).unwrap();
        assert_eq!(budgets.each.len(), 1);
    }
}
