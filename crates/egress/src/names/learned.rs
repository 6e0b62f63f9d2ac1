//! The addresses that names have, as this process remembers them.

mod account;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use self::account::{Account, Known, Plan};
use super::{questions::Sender, rules};
use crate::{
    ClassName, Error, Policy,
    encode::{self, Change},
    message::Message,
    phrases::Family,
    private::Closed,
    ruleset::{Element, Set},
    table,
    uapi::NFPROTO_INET,
};

/// An address lives at least so long: programs keep what they were told for a while, and try
/// several addresses one after another.
const TTL_MIN: Duration = Duration::from_secs(60);
/// And at most so long, whatever its record and the policy say.
const TTL_MAX: Duration = Duration::from_secs(86_400);
/// One that is known for at least this share of its time is not written again.
const FRESH: f64 = 0.5;

/// Which set an address is in.
type Place = (ClassName, Family);

/// The addresses of all classes with names.
#[derive(Clone, Debug, Default)]
pub struct Learned(BTreeMap<Place, Account>);

/// What a resolver answered to whom.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// The name that was asked for.
    pub name: &'a str,
    /// Its addresses, each with its time to live, seconds.
    pub addresses: &'a [(IpAddr, u32)],
    /// Whoever asked.
    pub by: Sender,
    /// When.
    pub now: Instant,
}

/// What becomes of one set by a lesson.
#[derive(Debug)]
pub struct News {
    place: Place,
    /// The set's name.
    set: String,
    /// What comes: the address, until when it stays, and whether it may be there already.
    come: Vec<(IpAddr, Instant, bool)>,
    plan: Plan,
}

impl News {
    /// How many addresses are written.
    pub fn written(&self) -> usize {
        self.come.len()
    }

    /// By whom how many addresses had to go that were still good.
    pub fn evicted(&self) -> &BTreeMap<Sender, usize> {
        &self.plan.evicted
    }

    fn changes_nothing(&self) -> bool {
        self.come.is_empty() && self.plan.deleted.is_empty()
    }
}

impl Learned {
    /// What has to change for these classes to reach the addresses of a name, but for those that are closed
    /// to them. Addresses that the same sender, or whoever has the most, brought in before may have to go
    /// for it.
    pub fn news(
        &mut self,
        classes: &[&ClassName],
        closed: impl Fn(&ClassName, IpAddr) -> bool,
        lesson: &Lesson<'_>,
    ) -> Vec<News> {
        let mut news = Vec::new();
        for class in classes {
            for family in [Family::V4, Family::V6] {
                let mut addresses: BTreeMap<IpAddr, u32> = BTreeMap::new();
                for (address, ttl) in lesson.addresses {
                    if Family::of(*address) == family && !closed(class, *address) {
                        addresses.entry(*address).or_insert(*ttl);
                    }
                }
                if addresses.is_empty() {
                    continue;
                }
                let place = ((*class).clone(), family);
                let account = self.0.entry(place.clone()).or_default();
                account.make_ready(lesson.by, lesson.now);
                let come = addresses.iter().filter_map(|(address, ttl)| {
                    let known = account.until(*address);
                    let until = renewed(known, *ttl, lesson.now)?;
                    Some((*address, until, known.is_some()))
                });
                let come = come.collect();
                let plan = account.plan(lesson.by, addresses.keys().copied(), lesson.now);
                news.push(News {
                    set: rules::names_set(class, family),
                    place,
                    come,
                    plan,
                });
            }
        }
        news
    }

    /// Remembers changes that were made.
    pub fn apply(&mut self, news: Vec<News>, lesson: &Lesson<'_>) {
        for one in news {
            let account = self.0.entry(one.place).or_default();
            for (address, until, _) in one.come {
                account.learn(address, until, lesson.name);
            }
            account.apply(one.plan, lesson.by);
        }
    }

    /// Those of other numbers ask no more: what they brought in is the first to go where there is too much.
    pub fn keep_senders(&mut self, asks: impl Fn(u32) -> bool) {
        for account in self.0.values_mut() {
            account.keep_senders(&asks);
        }
    }

    /// Takes in what an earlier daemon left in a set.
    pub fn restore(&mut self, class: &ClassName, family: Family, found: &[Element], now: Instant) {
        let account = self.0.entry((class.clone(), family)).or_default();
        for element in found {
            let Some(address) = address_of(&element.key) else {
                continue;
            };
            let left = Duration::from_millis(element.timeout_ms).min(TTL_MAX);
            account.learn(address, now + left, &element.comment);
            account.claim(Sender::Gone, address);
        }
    }

    /// Forgets what has ended, and what a policy does not allow any more, or not for so long.
    pub fn settle(&mut self, policy: &Policy, now: Instant) {
        let latest = now + policy.names_ttl_max.clamp(TTL_MIN, TTL_MAX);
        self.0.retain(|(class, _), account| {
            let Some(class) = policy.classes.get(class) else {
                return false;
            };
            let closed = Closed::to(class, policy);
            account.retain(|address, known: &mut Known| {
                let allowed = class.names.iter().any(|name| name.matches(&known.name));
                let denied = class
                    .deny_names
                    .iter()
                    .any(|name| name.matches(&known.name));
                known.until = known.until.min(latest);
                allowed && !denied && !closed.has(address) && known.until > now
            });
            true
        });
    }

    /// Fills the sets of a ruleset.
    pub fn fill(&self, sets: &mut [Set], now: Instant) {
        for ((class, family), account) in &self.0 {
            let name = rules::names_set(class, *family);
            if let Some(set) = sets.iter_mut().find(|set| set.name == name) {
                set.elements
                    .extend(account.all().filter_map(|(address, known)| {
                        let left = known.until.checked_duration_since(now)?;
                        (left.as_millis() > 0).then(|| element(*address, left, &known.name))
                    }));
            }
        }
    }
}

/// Until when an address stays that is told of with a time to live, if it has to be written for that.
fn renewed(known: Option<Instant>, ttl: u32, now: Instant) -> Option<Instant> {
    let ttl = Duration::from_secs(ttl.into()).clamp(TTL_MIN, TTL_MAX);
    let left = known.map(|until| until.saturating_duration_since(now));
    let fresh = left.is_some_and(|left| left >= ttl.mul_f64(FRESH).max(TTL_MIN));
    (!fresh).then(|| now + left.map_or(ttl, |left| left.max(ttl)))
}

/// The messages that make changes; none where there are none to make. An element's time cannot be changed in
/// place before kernel 6.12: it is added, in case it has just ended, deleted and added anew, all in one
/// transaction. What goes is added and deleted, for the same reason, and goes first.
///
/// # Errors
/// None in practice: an element is short.
pub fn messages(news: &[News], lesson: &Lesson<'_>) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    for one in news.iter().filter(|one| !one.changes_nothing()) {
        let write = |change, elements: &[Element]| {
            encode::elements(NFPROTO_INET, table::TABLE, &one.set, change, elements)
        };
        // Any time will do for what is deleted at once.
        let gone = one.plan.deleted.iter();
        let gone: Vec<_> = gone.map(|address| element(*address, TTL_MIN, "")).collect();
        if !gone.is_empty() {
            messages.extend(write(Change::Add, &gone)?);
            messages.extend(write(Change::Delete, &gone)?);
        }
        let come = |(address, until, _): &(IpAddr, Instant, bool)| {
            let left = until.saturating_duration_since(lesson.now);
            element(*address, left, lesson.name)
        };
        let all: Vec<_> = one.come.iter().map(come).collect();
        messages.extend(write(Change::Add, &all)?);
        let known = one.come.iter().filter(|(_, _, known)| *known);
        let known: Vec<_> = known.map(come).collect();
        if !known.is_empty() {
            messages.extend(write(Change::Delete, &known)?);
            messages.extend(write(Change::Add, &known)?);
        }
    }
    Ok(messages)
}

fn element(address: IpAddr, left: Duration, name: &str) -> Element {
    let key = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    Element {
        timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        comment: name.to_owned(),
        ..Element::key(key)
    }
}

fn address_of(key: &[u8]) -> Option<IpAddr> {
    match key.len() {
        4 => <[u8; 4]>::try_from(key).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(key).ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests;
