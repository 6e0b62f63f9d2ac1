//! Users outside their servers: what they run over ssh and in lingering sessions, which is in a
//! slice of their own, and what others run for them under their uid: cron, at, `sudo -u`.
//!
//! The slice is judged by its cgroup, as a server is. The rest is in cgroups that many share, so
//! there the socket's owner says whose it is. Both are elements: a user costs no rule.
//! `docs/egress-table.md` shows the rules and says why each is where it is.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Admitted, CgroupId, Class, ClassName, Error, Policy, phrases as p,
    ruleset::{Chain, Data, DataType, Element, Rule, Set},
    sets::{self, LEVELS, class_chain},
    table::{self, chain, rule},
    uapi::*,
};

/// Prefix of what is logged of refusals of subordinate uids.
pub const SAYS_SUBORDINATE: &str = "subordinate";
/// From a uid to the chain of its user's class.
pub const UIDS: &str = "uids";
/// From a uid to its user's mark.
pub const MARKS: &str = "people_marks";
/// Services that run users' jobs: their cgroups hold listeners of many.
pub const JOBS: &str = "jobs";
/// From ranges of uids that a user may take in a user namespace (`/etc/subuid`) to the user's mark.
const SUBORDINATE: &str = "subordinate";
/// Services that act under users' uids for the system.
const IDENTITY_SERVICES: &str = "identity_services";

/// A hub user outside the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UidRule {
    /// The user's own uid: never root's, and never one that several share.
    pub uid: u32,
    /// The class that judges what the user sends from outside.
    pub class: ClassName,
    /// What refusals name the uid's packets by: [`UidRule::NUMBER_MIN`] to
    /// [`UidRule::NUMBER_MAX`], held by no other.
    pub number: u32,
    /// The user's slice, with a number of its own as a server's; its level is one of
    /// [`Admitted::LEVELS`].
    pub slice: Option<Place>,
    /// The user's servers that run under this uid. They and the slice reach each other's
    /// listeners: processes of one uid can do as they like with each other anyhow.
    pub servers: Vec<Place>,
}

impl UidRule {
    /// The smallest number: above all of servers, so that a mark says which it is.
    pub const NUMBER_MIN: u32 = 1 << 23;
    /// The largest.
    pub const NUMBER_MAX: u32 = (1 << 24) - 1;
}

/// A cgroup of a user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The cgroup.
    pub cgroup: CgroupId,
    /// Its level, as [`Admitted::level`].
    pub level: u8,
    /// What refusals name it by, as [`Admitted::number`].
    pub number: u32,
}

/// The numbers and slices of those who were looked at already.
#[derive(Default)]
struct Taken {
    numbers: BTreeSet<u32>,
    slices: BTreeSet<CgroupId>,
}

impl UidRule {
    fn check(
        &self,
        uid: u32,
        policy: &Policy,
        servers: &BTreeMap<CgroupId, Admitted>,
        taken: &mut Taken,
    ) -> Result<(), Error> {
        let wrong = |why| Err(Error::UidRule { uid, why });
        if self.uid != uid || uid == 0 || uid == u32::MAX {
            return wrong("is no user's own");
        }
        if !policy.classes.contains_key(&self.class) {
            return wrong("has a class that the policy does not define");
        }
        if !(UidRule::NUMBER_MIN..=UidRule::NUMBER_MAX).contains(&self.number)
            || !taken.numbers.insert(self.number)
        {
            return wrong("has a number that is another's, or out of range");
        }
        let Some(slice) = self.slice else {
            return Ok(());
        };
        if !LEVELS.contains(&slice.level)
            || servers.contains_key(&slice.cgroup)
            || !taken.slices.insert(slice.cgroup)
        {
            return wrong("has a slice that is another's, or at a level not looked at");
        }
        if !(1..=Admitted::NUMBER_MAX).contains(&slice.number)
            || !taken.numbers.insert(slice.number)
        {
            return wrong("has a slice whose number is another's, or out of range");
        }
        Ok(())
    }
}

/// The users outside their servers of the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidRules {
    /// By uid, which is said in the rule too.
    pub by_uid: BTreeMap<u32, UidRule>,
    /// The cgroups at level 2 of services that run users' jobs, such as cron: what is sent
    /// under a user's uid reaches listeners there.
    pub jobs: BTreeSet<CgroupId>,
    /// The cgroups at level 2 whose processes take on users' uids for the system, such as
    /// sssd's, which speak with the directory: nothing is refused to them.
    pub identity_services: BTreeSet<CgroupId>,
    /// Uids that a user may take in a user namespace, by the first of a range; no two have one in common.
    /// What a job sends under them is refused: each would have limits of its own.
    pub subordinate: BTreeMap<u32, Subordinate>,
}

/// Uids that a user may take in a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subordinate {
    /// The last of the range.
    pub last: u32,
    /// The number of the user's [`UidRule`].
    pub number: u32,
}

impl UidRules {
    /// Whether a policy can judge them, beside these servers.
    ///
    /// # Errors
    /// [`Error::UidRule`].
    pub fn check(
        &self,
        policy: &Policy,
        servers: &BTreeMap<CgroupId, Admitted>,
    ) -> Result<(), Error> {
        let mut taken = Taken::default();
        let mut all = self.by_uid.iter();
        all.try_for_each(|(uid, one)| one.check(*uid, policy, servers, &mut taken))
    }

    /// Takes out whom a policy cannot judge, and says why.
    pub fn sort_out(
        &mut self,
        policy: &Policy,
        servers: &BTreeMap<CgroupId, Admitted>,
    ) -> Vec<Error> {
        let mut taken = Taken::default();
        let mut wrong = Vec::new();
        self.by_uid.retain(|uid, one| {
            let checked = one.check(*uid, policy, servers, &mut taken);
            checked.map_err(|error| wrong.push(error)).is_ok()
        });
        wrong
    }

    /// All their elements, each with its set's name.
    pub fn elements(&self, policy: &Policy) -> Vec<(String, Element)> {
        let mut all: Vec<_> = self
            .by_uid
            .values()
            .flat_map(|uid_rule| elements_of(policy, uid_rule))
            .collect();
        all.extend(self.services());
        all.extend(self.ranges());
        all
    }

    /// The cgroups that one of the sets of services holds.
    pub fn services_in(&self, set: &str) -> Option<&BTreeSet<CgroupId>> {
        match set {
            JOBS => Some(&self.jobs),
            IDENTITY_SERVICES => Some(&self.identity_services),
            _ => None,
        }
    }

    /// Has a user's uids be the user's, but for those that another has already, and root's.
    pub fn add_subordinate(&mut self, first: u32, last: u32, number: u32) {
        let mut next = first.max(1);
        // From the range that reaches into this one on.
        let before = self.subordinate.range(..next).next_back();
        if let Some((_, one)) = before
            && one.last >= next
        {
            let Some(free) = one.last.checked_add(1) else {
                return;
            };
            next = free;
        }
        while next <= last {
            let taken = self.subordinate.range(next..).next();
            let taken = taken.map(|(first, one)| (*first, one.last));
            let until = taken.map_or(last, |(first, _)| last.min(first.saturating_sub(1)));
            if next <= until {
                let last = until;
                self.subordinate.insert(next, Subordinate { last, number });
            }
            let Some(free) = taken.and_then(|(_, last)| last.checked_add(1)) else {
                return;
            };
            next = free;
        }
    }

    /// A range is its first uid and, marked so, the first beyond it.
    fn ranges(&self) -> Vec<(String, Element)> {
        let mut elements = Vec::new();
        for (first, range) in &self.subordinate {
            let mark = (p::MARK | range.number).to_ne_bytes().to_vec();
            let key = first.to_be_bytes().to_vec();
            elements.push(Element::map(key, Data::Value(mark)));
            if let Some(beyond) = range.last.checked_add(1) {
                elements.push(Element {
                    interval_end: true,
                    ..Element::key(beyond.to_be_bytes().to_vec())
                });
            }
        }
        let named = elements.into_iter();
        named
            .map(|element| (SUBORDINATE.to_owned(), element))
            .collect()
    }

    fn services(&self) -> impl Iterator<Item = (String, Element)> {
        let of = |set: &'static str, cgroups: &BTreeSet<CgroupId>| {
            let elements = cgroups.iter().map(|cgroup| sets::guard(*cgroup));
            let named = elements.map(|element| (set.to_owned(), element));
            named.collect::<Vec<_>>()
        };
        [
            of(JOBS, &self.jobs),
            of(IDENTITY_SERVICES, &self.identity_services),
        ]
        .into_iter()
        .flatten()
    }

    /// What goes and what comes when these take the place of `before`.
    pub fn change(&self, before: &UidRules, policy: &Policy) -> [Vec<(String, Element)>; 2] {
        let only = |these: &UidRules, those: &UidRules| {
            let mut elements = BTreeSet::new();
            for (uid, uid_rule) in &these.by_uid {
                if those.by_uid.get(uid) != Some(uid_rule) {
                    elements.extend(elements_of(policy, uid_rule));
                }
            }
            elements.extend(these.services());
            elements.extend(these.ranges());
            elements
        };
        let (old, new) = (only(before, self), only(self, before));
        let without = |these: &BTreeSet<(String, Element)>, those| {
            these.difference(those).cloned().collect::<Vec<_>>()
        };
        [without(&old, &new), without(&new, &old)]
    }
}

/// The elements by which a user outside the server is judged.
pub fn elements_of(policy: &Policy, uid_rule: &UidRule) -> Vec<(String, Element)> {
    let uid = uid_rule.uid.to_ne_bytes().to_vec();
    let mark = |number: u32| (p::MARK | number).to_ne_bytes().to_vec();
    let mut elements = vec![
        (
            UIDS.to_owned(),
            Element::map(uid.clone(), Data::Goto(uid_chain(&uid_rule.class))),
        ),
        (
            MARKS.to_owned(),
            Element::map(uid, Data::Value(mark(uid_rule.number))),
        ),
    ];
    if let Some(slice) = uid_rule.slice {
        elements.extend(elements_of_slice(policy, &uid_rule.class, slice));
    }
    let places = || uid_rule.servers.iter().chain(&uid_rule.slice);
    let own = |number: u32, listener: &Place| {
        let cgroup = listener.cgroup.0.to_ne_bytes().to_vec();
        let both = [mark(number), cgroup].concat();
        (sets::own(listener.level), Element::key(both))
    };
    for listener in places() {
        elements.push(own(uid_rule.number, listener));
        let others = places().filter(|from| from.cgroup != listener.cgroup);
        elements.extend(others.map(|from| own(from.number, listener)));
    }
    elements
}

/// A slice is judged as a server of the class is, but for what root does in it.
fn elements_of_slice(policy: &Policy, class: &ClassName, slice: Place) -> Vec<(String, Element)> {
    let admitted = Admitted {
        cgroup: slice.cgroup,
        level: slice.level,
        class: class.clone(),
        number: slice.number,
    };
    let mut elements = sets::elements_of(policy, &admitted);
    for (set, element) in &mut elements {
        if *set == sets::servers(slice.level) {
            element.data = Some(Data::Goto(session_chain(class)));
        }
    }
    elements
}

fn uid_chain(class: &ClassName) -> String {
    format!("uid_{class}")
}

fn session_chain(class: &ClassName) -> String {
    format!("session_{class}")
}

/// Whether elements of a set come and go with users outside.
pub fn is_of_uid_rules(set: &str) -> bool {
    [UIDS, MARKS].contains(&set)
}

/// The sets of users outside.
pub fn sets() -> Vec<Set> {
    let mark = DataType::Value {
        kind: TYPE_MARK,
        len: 4,
    };
    vec![
        sets::map(UIDS, TYPE_UID, 4, DataType::Verdict, 0, true),
        sets::map(MARKS, TYPE_UID, 4, mark, BYTEORDER_HOST, false),
        sets::plain(JOBS, TYPE_CGROUPV2, 8),
        sets::plain(IDENTITY_SERVICES, TYPE_CGROUPV2, 8),
        sets::marks_by_uid_range(SUBORDINATE),
    ]
}

/// Sends what goes out under a subordinate uid to the chain that refuses it. Elsewhere than in a job such a
/// uid may be another account's, whom a directory gave it to.
pub fn subordinate_rule() -> Rule {
    let from_job = [p::cgroup_in(2, JOBS), p::mark_by_uid_range(SUBORDINATE)].concat();
    rule("subordinate uids", [from_job, p::goto(SUBORDINATE)])
}

/// The chain that refuses it.
pub fn subordinate(policy: &Policy) -> Chain {
    let refusal = table::refusal(policy, SAYS_SUBORDINATE.to_owned());
    chain(SUBORDINATE, refusal)
}

/// The chains of one class; `rules` are those of its servers, with a sender known by uid.
pub fn chains(name: &ClassName, class: &Class, rules: Vec<Rule>) -> [Chain; 2] {
    let class_s = || vec![rule("", [p::goto(&class_chain(name))])];
    let mut by_uid = vec![rule(
        "acts for the system",
        [p::cgroup_in(2, IDENTITY_SERVICES), p::accept()],
    )];
    match class.unrestricted {
        true => by_uid.extend(class_s()),
        false => by_uid.extend(rules),
    }
    let mut session = vec![rule(
        "root in a user's session",
        [p::is_root_s(), p::accept()],
    )];
    session.extend(class_s());
    [
        chain(&uid_chain(name), by_uid),
        chain(&session_chain(name), session),
    ]
}
