//! Who brought in which addresses of one set, and how many each may.
//!
//! An address that several asked for is on the account of each, and goes when the last of them loses it. A
//! sender who has its share loses its own oldest for what it asks for next. Where all together have too
//! many, the oldest of whoever has the most goes: so who has less than that keeps what it has, however
//! many others there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    filled::{NAMES, NAMES_SHARE},
    names::questions::{Sender, weight},
};

/// On all accounts together: an address is on several.
const CLAIMS: usize = 4 * NAMES as usize;
/// What has ended is forgotten a little later than the kernel does.
const LATE: Duration = Duration::from_secs(20);
/// What has ended is looked for so often at most, where all together have much.
const PRUNE_AGAIN: Duration = Duration::from_secs(1);
/// An answer has at most so many addresses, and so many may have to go for it.
const ROOM: usize = 256;

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// When it ends.
    pub until: Instant,
    /// The name that was asked for.
    pub name: String,
    /// Who asked for it, with its place among what each asked for.
    by: BTreeMap<Sender, u64>,
}

/// The addresses of one set.
#[derive(Clone, Debug, Default)]
pub struct Account {
    known: BTreeMap<IpAddr, Known>,
    /// By sender, in the order in which they were asked for last.
    of: BTreeMap<Sender, BTreeMap<u64, IpAddr>>,
    next: u64,
    /// How many addresses are on accounts.
    claims: usize,
    pruned: Option<Instant>,
}

/// What has to go for what comes.
#[derive(Debug, Default)]
pub struct Plan {
    /// What the sender asks for.
    asked: BTreeSet<IpAddr>,
    /// What goes from accounts.
    unclaimed: Vec<(Sender, IpAddr)>,
    /// What is on no account then.
    pub deleted: Vec<IpAddr>,
    /// By sender, how many of these were still good.
    pub evicted: BTreeMap<Sender, usize>,
}

fn share(sender: Sender) -> usize {
    NAMES_SHARE as usize * weight(sender)
}

impl Account {
    /// All addresses.
    pub fn all(&self) -> impl Iterator<Item = (&IpAddr, &Known)> {
        self.known.iter()
    }

    /// When an address ends, if it is known.
    pub fn until(&self, address: IpAddr) -> Option<Instant> {
        Some(self.known.get(&address)?.until)
    }

    fn count(&self, sender: Sender) -> usize {
        self.of.get(&sender).map_or(0, BTreeMap::len)
    }

    /// Forgets what has ended, where it could be taken for too much.
    pub fn make_ready(&mut self, sender: Sender, now: Instant) {
        let ended = |known: &Known| known.until + LATE <= now;
        let full = self.known.len() + ROOM > NAMES as usize || self.claims + ROOM > CLAIMS;
        let due = |at: Instant| now.saturating_duration_since(at) >= PRUNE_AGAIN;
        if full && self.pruned.is_none_or(due) {
            self.pruned = Some(now);
            self.retain(|_, known| !ended(known));
        } else if self.count(sender) + ROOM > share(sender) {
            let own = self.of.get(&sender).into_iter().flat_map(BTreeMap::values);
            let is_ended = |address: &&IpAddr| self.known.get(address).is_some_and(ended);
            let gone: Vec<IpAddr> = own.filter(is_ended).copied().collect();
            for address in gone {
                self.forget(address);
            }
        }
    }

    /// What has to go for a sender to have these.
    pub fn plan(&self, sender: Sender, asked: impl Iterator<Item = IpAddr>, now: Instant) -> Plan {
        let mut plan = Plan {
            asked: asked.collect(),
            ..Plan::default()
        };
        let is_own = |address: &&IpAddr| {
            let known = self.known.get(address);
            known.is_some_and(|known| known.by.contains_key(&sender))
        };
        let claimed = plan.asked.len() - plan.asked.iter().filter(is_own).count();
        let known = |address: &&IpAddr| self.known.contains_key(address);
        let new = plan.asked.len() - plan.asked.iter().filter(known).count();
        let mut left = Left::of(self, now);

        // What an earlier daemon left may be more than a share: it goes little by little.
        let over = (self.count(sender) + claimed).saturating_sub(share(sender));
        for _ in 0..over.min(2 * ROOM) {
            if !left.oldest_of(sender, &mut plan) {
                break;
            }
        }
        let too_many = |plan: &Plan| {
            let known = self.known.len() + new - plan.deleted.len();
            let claims = self.claims + claimed - plan.unclaimed.len();
            known > NAMES as usize || claims > CLAIMS
        };
        while too_many(&plan) {
            let Some(most) = left.most() else { break };
            // Who has none left is not asked again.
            left.oldest_of(most, &mut plan);
        }
        plan
    }

    /// Does what was planned.
    pub fn apply(&mut self, plan: Plan, sender: Sender) {
        for (sender, address) in plan.unclaimed {
            self.unclaim(sender, address);
        }
        for address in plan.deleted {
            self.forget(address);
        }
        for address in plan.asked {
            self.claim(sender, address);
        }
    }

    /// Knows an address from now on.
    pub fn learn(&mut self, address: IpAddr, until: Instant, name: &str) {
        let known = self.known.entry(address).or_insert_with(|| Known {
            until,
            name: String::new(),
            by: BTreeMap::new(),
        });
        known.until = until;
        name.clone_into(&mut known.name);
    }

    /// Puts a known address on a sender's account, as its newest.
    pub fn claim(&mut self, sender: Sender, address: IpAddr) {
        self.unclaim(sender, address);
        if let Some(known) = self.known.get_mut(&address) {
            known.by.insert(sender, self.next);
            self.of
                .entry(sender)
                .or_default()
                .insert(self.next, address);
            self.next += 1;
            self.claims += 1;
        }
    }

    fn unclaim(&mut self, sender: Sender, address: IpAddr) -> Option<u64> {
        let order = self.known.get_mut(&address)?.by.remove(&sender)?;
        self.claims -= 1;
        if let Some(of) = self.of.get_mut(&sender) {
            of.remove(&order);
            if of.is_empty() {
                self.of.remove(&sender);
            }
        }
        Some(order)
    }

    fn forget(&mut self, address: IpAddr) {
        let by = self.known.get(&address).map(|known| known.by.clone());
        for sender in by.into_iter().flatten().map(|(sender, _)| sender) {
            self.unclaim(sender, address);
        }
        self.known.remove(&address);
    }

    /// Keeps those of which this is said.
    pub fn retain(&mut self, mut keeps: impl FnMut(IpAddr, &mut Known) -> bool) {
        let of = self.known.iter_mut();
        let gone = of.filter_map(|(address, known)| (!keeps(*address, known)).then_some(*address));
        let gone: Vec<IpAddr> = gone.collect();
        for address in gone {
            self.forget(address);
        }
    }

    /// Those of other numbers are gone.
    pub fn keep_senders(&mut self, asks: impl Fn(u32) -> bool) {
        let is_gone = |sender: &&Sender| matches!(sender, Sender::Number(number) if !asks(*number));
        let gone: Vec<Sender> = self.of.keys().filter(is_gone).copied().collect();
        for sender in gone {
            let of = self.of.get(&sender).cloned().unwrap_or_default();
            for (order, address) in of {
                self.unclaim(sender, address);
                let Some(known) = self.known.get_mut(&address) else {
                    continue;
                };
                // Whoever else asked for it has it still.
                if known.by.is_empty() {
                    known.by.insert(Sender::Gone, order);
                    self.of
                        .entry(Sender::Gone)
                        .or_default()
                        .insert(order, address);
                    self.claims += 1;
                }
            }
        }
    }
}

/// What would be left on accounts.
struct Left<'a> {
    account: &'a Account,
    now: Instant,
    counts: BTreeMap<Sender, usize>,
    /// By sender, the place of the last that went.
    went: BTreeMap<Sender, u64>,
    /// Of addresses that went from some account, on how many they still are.
    on: BTreeMap<IpAddr, usize>,
}

impl<'a> Left<'a> {
    fn of(account: &'a Account, now: Instant) -> Self {
        let counts = account.of.iter().map(|(sender, of)| (*sender, of.len()));
        Self {
            account,
            now,
            counts: counts.collect(),
            went: BTreeMap::new(),
            on: BTreeMap::new(),
        }
    }

    /// Whoever has the most, for as many as it stands for.
    fn most(&self) -> Option<Sender> {
        let counts = self.counts.iter().filter(|(_, count)| **count > 0);
        // Both compared as if divided by the weights.
        let most = counts.max_by(|(one, count), (other, others)| {
            (*count * weight(**other)).cmp(&(*others * weight(**one)))
        });
        most.map(|(sender, _)| *sender)
    }

    /// Has the oldest of a sender's go that is not asked for now; false if it has none.
    fn oldest_of(&mut self, sender: Sender, plan: &mut Plan) -> bool {
        let from = self.went.get(&sender).map_or(0, |order| order + 1);
        let of = self.account.of.get(&sender).into_iter();
        let mut rest = of.flat_map(|of| of.range(from..));
        let Some((order, address)) = rest.find(|(_, address)| !plan.asked.contains(address)) else {
            self.counts.remove(&sender);
            return false;
        };
        self.went.insert(sender, *order);
        if let Some(count) = self.counts.get_mut(&sender) {
            *count -= 1;
        }
        plan.unclaimed.push((sender, *address));
        let Some(known) = self.account.known.get(address) else {
            return true;
        };
        let on = self.on.entry(*address).or_insert(known.by.len());
        *on = on.saturating_sub(1);
        if *on == 0 {
            plan.deleted.push(*address);
        }
        if known.until > self.now {
            *plan.evicted.entry(sender).or_default() += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests;
