//! The addresses that names have, as this process remembers them.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::rules;
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
/// Addresses of one class and family; the kernel's set has the same bound.
pub const ADDRESSES_MAX: u32 = 65_535;
/// What has ended is forgotten a little later than the kernel does.
const LATE: Duration = Duration::from_secs(20);

/// Which set an address is in.
type Place = (ClassName, Family);

/// What is known of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// When it ends.
    pub until: Instant,
    /// The name that was asked for.
    pub name: String,
}

/// The addresses of all classes with names.
#[derive(Clone, Debug, Default)]
pub struct Learned(BTreeMap<Place, BTreeMap<IpAddr, Known>>);

/// A change to one set.
#[derive(Debug)]
pub struct News {
    /// The class and family.
    pub place: Place,
    /// The set's name.
    pub set: String,
    /// The address's element.
    pub element: Element,
    /// Whether an element of that key may be there.
    pub known: bool,
    address: IpAddr,
    until: Instant,
}

impl Learned {
    /// What has to change in the kernel for these classes to reach the addresses of a name, but
    /// for those that are closed to them.
    pub fn news(
        &self,
        classes: &[&ClassName],
        closed: impl Fn(&ClassName, IpAddr) -> bool,
        name: &str,
        addresses: &[(IpAddr, u32)],
        now: Instant,
    ) -> Vec<News> {
        let mut news: Vec<News> = Vec::new();
        for class in classes {
            for (address, ttl) in addresses {
                if closed(class, *address) {
                    continue;
                }
                let family = Family::of(*address);
                let ttl = Duration::from_secs((*ttl).into()).clamp(TTL_MIN, TTL_MAX);
                let place = ((*class).clone(), family);
                let known = self.0.get(&place).and_then(|known| known.get(address));
                let left = known.map(|known| known.until.saturating_duration_since(now));
                if left.is_some_and(|left| left >= ttl.mul_f64(FRESH).max(TTL_MIN)) {
                    continue;
                }
                let twice = |one: &News| one.address == *address && one.place.0 == **class;
                if news.iter().any(twice) {
                    continue;
                }
                let known_until = left.map_or(ttl, |left| left.max(ttl));
                news.push(News {
                    set: rules::names_set(&place.0, family),
                    place,
                    element: element(*address, known_until, name),
                    known: known.is_some(),
                    address: *address,
                    until: now + known_until,
                });
            }
        }
        news
    }

    /// Remembers changes that were made.
    pub fn apply(&mut self, news: Vec<News>, name: &str, now: Instant) {
        for one in news {
            let known = self.0.entry(one.place).or_default();
            if known.len() >= ADDRESSES_MAX as usize / 2 && known.len().is_multiple_of(1024) {
                known.retain(|_, known| known.until + LATE > now);
            }
            let (until, name) = (one.until, name.to_owned());
            known.insert(one.address, Known { until, name });
        }
    }

    /// Takes in what an earlier daemon left in a set.
    pub fn restore(&mut self, class: &ClassName, family: Family, found: &[Element], now: Instant) {
        let known = self.0.entry((class.clone(), family)).or_default();
        for element in found {
            let Some(address) = address_of(&element.key) else {
                continue;
            };
            let left = Duration::from_millis(element.timeout_ms).min(TTL_MAX);
            let name = element.comment.clone();
            let until = now + left;
            known.insert(address, Known { until, name });
        }
    }

    /// Forgets what has ended, and what a policy does not allow any more, or not for so long.
    pub fn settle(&mut self, policy: &Policy, now: Instant) {
        let latest = now + policy.names_ttl_max.clamp(TTL_MIN, TTL_MAX);
        self.0.retain(|(class, _), known| {
            let Some(class) = policy.classes.get(class) else {
                return false;
            };
            let closed = Closed::to(class, policy);
            known.retain(|address, known| {
                let allowed = class.names.iter().any(|name| name.matches(&known.name));
                let denied = class
                    .deny_names
                    .iter()
                    .any(|name| name.matches(&known.name));
                known.until = known.until.min(latest);
                allowed && !denied && !closed.has(*address) && known.until > now
            });
            true
        });
    }

    /// Fills the sets of a ruleset.
    pub fn fill(&self, sets: &mut [Set], now: Instant) {
        for ((class, family), known) in &self.0 {
            let name = rules::names_set(class, *family);
            if let Some(set) = sets.iter_mut().find(|set| set.name == name) {
                set.elements
                    .extend(known.iter().filter_map(|(address, known)| {
                        let left = known.until.checked_duration_since(now)?;
                        (left.as_millis() > 0).then(|| element(*address, left, &known.name))
                    }));
            }
        }
    }
}

/// The messages that make changes. An element's time cannot be changed in place before kernel 6.12:
/// it is added, in case it has just ended, deleted and added anew, all in one transaction.
///
/// # Errors
/// None in practice: an element is short.
pub fn messages(news: &[News]) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    for one in news {
        let element = std::slice::from_ref(&one.element);
        let write =
            |change| encode::elements(NFPROTO_INET, table::TABLE, &one.set, change, element);
        messages.extend(write(Change::Add)?);
        if one.known {
            messages.extend(write(Change::Delete)?);
            messages.extend(write(Change::Add)?);
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
mod tests {
    use super::*;
    use crate::{Class, Mode};

    fn class() -> ClassName {
        "research".parse().unwrap()
    }

    fn learn(learned: &mut Learned, ttl: u32, now: Instant) -> usize {
        let addresses = [("192.0.2.1".parse().unwrap(), ttl)];
        let news = learned.news(&[&class()], |_, _| false, "a.example", &addresses, now);
        let count = news.len();
        learned.apply(news, "a.example", now);
        count
    }

    fn left(learned: &Learned, now: Instant) -> Option<u64> {
        let mut sets = [Set {
            name: "names4_research".into(),
            ..Set::default()
        }];
        learned.fill(&mut sets, now);
        sets[0]
            .elements
            .first()
            .map(|element| element.timeout_ms / 1000)
    }

    #[test]
    fn an_address_lives_for_its_time_within_bounds() {
        let now = Instant::now();
        for (ttl, expected) in [(0, 60), (300, 300), (u32::MAX, 86_400)] {
            let mut learned = Learned::default();
            learn(&mut learned, ttl, now);
            assert_eq!(left(&learned, now), Some(expected));
            let end = now + Duration::from_secs(expected);
            assert_eq!(left(&learned, end), None);
        }
    }

    #[test]
    fn a_policy_cuts_the_time_of_what_is_known() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        learn(&mut learned, 86_400, now);
        let mut policy = Policy::standard(Mode::Enforce);
        let research = Class {
            names: vec!["*".parse().unwrap()],
            ..Class::standard()
        };
        policy.classes.insert(class(), research);
        for (most, expected) in [(7_200, 7_200), (300, 300), (1, 60)] {
            policy.names_ttl_max = Duration::from_secs(most);
            learned.settle(&policy, now);
            assert_eq!(left(&learned, now), Some(expected));
        }
    }

    #[test]
    fn what_is_known_for_long_enough_is_not_written_again_and_never_shortened() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        assert_eq!(learn(&mut learned, 300, now), 1);
        assert_eq!(learn(&mut learned, 300, now + Duration::from_secs(100)), 0);
        assert_eq!(learn(&mut learned, 300, now + Duration::from_secs(200)), 1);
        let later = now + Duration::from_secs(200);
        assert_eq!(left(&learned, later), Some(300));
        assert_eq!(learn(&mut learned, 1, later), 0);
        assert_eq!(left(&learned, later), Some(300));
    }

    #[test]
    fn a_policy_that_does_not_allow_a_name_any_more_takes_its_addresses_along() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        learn(&mut learned, 300, now);
        let mut policy = Policy::standard(Mode::Enforce);
        let mut with = |names: &str, deny: &[&str]| {
            let research = Class {
                names: vec![names.parse().unwrap()],
                deny_names: deny.iter().map(|name| name.parse().unwrap()).collect(),
                ..Class::standard()
            };
            policy.classes.insert(class(), research);
            let mut learned = learned.clone();
            learned.settle(&policy, now);
            left(&learned, now)
        };
        assert_eq!(with("*.example", &[]), Some(300));
        assert_eq!(with("*.example", &["a.example"]), None);
        assert_eq!(with("b.example", &[]), None);
    }

    #[test]
    fn a_policy_that_closes_a_network_takes_the_addresses_in_it_along() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        learn(&mut learned, 300, now);
        let mut policy = Policy::standard(Mode::Enforce);
        let mut research = Class {
            names: vec!["*".parse().unwrap()],
            ..Class::standard()
        };
        policy.private = vec!["192.0.2.0/24".parse().unwrap()];
        for (networks, expected) in [(vec!["192.0.2.1/32"], Some(300)), (vec![], None)] {
            research.networks = networks.iter().map(|net| net.parse().unwrap()).collect();
            policy.classes.insert(class(), research.clone());
            learned.settle(&policy, now);
            assert_eq!(left(&learned, now), expected);
        }
    }
}
