//! What was installed, as this process remembers it.

mod numbers;
mod place;
mod sorting;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Admitted, BitsPerSecond, Bridges, CgroupId, ClassName, Error, Policy, UidRules, bridges,
    filled,
    names::Learned,
    phrases::MARK,
    ruleset::Ruleset,
    senders::Known,
    sets,
    shape::{self, Shaping},
    table, uid_rules,
};

pub use place::Place;

/// The whole of what the kernel should hold.
#[derive(Clone, Debug)]
pub struct Installed {
    policy: Policy,
    guarded: BTreeSet<CgroupId>,
    servers: BTreeMap<CgroupId, Admitted>,
    numbers: BTreeMap<u32, CgroupId>,
    /// The addresses of names.
    pub learned: Learned,
    /// The containers of the moment.
    bridges: Bridges,
    /// Where servers' packets wait.
    pub shaping: Shaping,
    /// The users outside their servers.
    uid_rules: UidRules,
    /// Whose a slice is, and a number of a user's.
    slices: BTreeMap<CgroupId, u32>,
    people_s: BTreeMap<u32, u32>,
    /// How many servers the sets have room for: a set whose size is known is filled in a third of
    /// the time, since its buckets are there from the start and not grown under way.
    room: u32,
}

/// Room for servers in the smallest table.
const ROOM: u32 = 1_024;

/// A change of servers and slices: what goes, then what comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Servers that are forgotten, or replaced by one in `come`.
    pub gone: Vec<Admitted>,
    /// Servers that are admitted.
    pub come: Vec<Admitted>,
    /// Slices no longer guarded.
    pub unguarded: Vec<CgroupId>,
    /// Slices guarded from now on.
    pub guarded: Vec<CgroupId>,
}

impl Delta {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Installed {
    /// A policy with nobody admitted and nothing guarded.
    ///
    /// # Errors
    /// [`Error::Policy`].
    pub fn new(policy: &Policy) -> Result<Self, Error> {
        policy.check()?;
        Ok(Self {
            policy: policy.clone(),
            guarded: BTreeSet::new(),
            servers: BTreeMap::new(),
            numbers: BTreeMap::new(),
            learned: Learned::default(),
            bridges: Bridges::default(),
            shaping: Shaping::default(),
            uid_rules: UidRules::default(),
            slices: BTreeMap::new(),
            people_s: BTreeMap::new(),
            room: ROOM,
        })
    }

    /// What it is built from.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The users outside their servers.
    pub fn uid_rules(&self) -> &UidRules {
        &self.uid_rules
    }

    /// Remember other users outside their servers.
    ///
    /// # Errors
    /// [`Error::UidRule`].
    pub fn set_uid_rules(&mut self, uid_rules: &UidRules) -> Result<(), Error> {
        uid_rules.check(&self.policy, &self.servers)?;
        self.uid_rules = uid_rules.clone();
        self.slices.clear();
        self.people_s.clear();
        for (uid, uid_rule) in &uid_rules.by_uid {
            let places = uid_rule.servers.iter().chain(&uid_rule.slice);
            let numbers = places.map(|place| place.number).chain([uid_rule.number]);
            self.people_s.extend(numbers.map(|number| (number, *uid)));
            let slice = uid_rule.slice.map(|slice| (slice.cgroup, *uid));
            self.slices.extend(slice);
        }
        self.forget_senders();
        Ok(())
    }

    /// Makes room for twice the servers that there are, for a table that is made anew.
    pub fn make_room(&mut self) {
        // A user outside the server is four elements of `own_loopback`, mostly.
        let elements = self.servers.len() + 4 * self.uid_rules.by_uid.len();
        let servers = u32::try_from(elements).unwrap_or(u32::MAX / 4);
        self.room = (servers * 2).max(ROOM).next_power_of_two();
    }

    /// The containers of the moment.
    pub fn bridges(&self) -> &Bridges {
        &self.bridges
    }

    /// Remember other containers.
    pub fn set_bridges(&mut self, bridges: Bridges) {
        self.bridges = bridges;
        self.forget_senders();
    }

    /// The table of the family `bridge`, where there are containers.
    pub fn bridge_ruleset(&self) -> Option<Ruleset> {
        if self.bridges.is_empty() {
            return None;
        }
        let mut ruleset = bridges::build(&self.policy);
        filled::make_room(&mut ruleset.sets, self.room);
        self.bridges.fill(&mut ruleset, &self.policy);
        Some(ruleset)
    }

    /// The table of the family `netdev`, where packets wait.
    pub fn netdev_ruleset(&self) -> Option<Ruleset> {
        shape::ruleset(&self.policy, &self.shaping)
    }

    /// How fast each server whose class is shaped may send, by number.
    pub fn shaped(&self) -> BTreeMap<shape::Sender, BitsPerSecond> {
        let policy = &self.policy;
        if !shape::is_used(policy) {
            return BTreeMap::new();
        }
        let cgroup = |id: CgroupId| (Known::Cgroup, id.0.to_ne_bytes().to_vec());
        let mark = |number: u32| (Known::Mark, (MARK | number).to_ne_bytes().to_vec());
        let uid = |uid: u32| (Known::Uid, uid.to_ne_bytes().to_vec());
        let contained: BTreeSet<CgroupId> =
            self.bridges.servers.values().map(|s| s.cgroup).collect();
        let here = self.servers.values();
        let here = here.filter(|server| !contained.contains(&server.cgroup));
        let of_cgroups = here.map(|s| (cgroup(s.cgroup), &s.class));
        let of_ports = self.bridges.servers.values();
        let of_ports = of_ports.map(|s| (mark(s.number), &s.class));
        let rate = |(sender, class)| {
            let class = policy.classes.get(class)?;
            let rate = class.limits.shaped()?;
            shape::shapes(policy, class).then_some((sender, rate))
        };
        let uid_rules = self.uid_rules.by_uid.values();
        let outside = uid_rules.flat_map(|uid_rule| {
            let slice = uid_rule.slice.map(|slice| cgroup(slice.cgroup));
            let senders = slice.into_iter().chain([uid(uid_rule.uid)]);
            senders.map(|sender| (sender, &uid_rule.class))
        });
        let all = of_cgroups.chain(of_ports).chain(outside);
        all.filter_map(rate).collect()
    }

    /// The whole table of the family `inet` with all its elements.
    pub fn ruleset(&self) -> Ruleset {
        let mut ruleset = table::build(&self.policy);
        if !self.bridges.is_empty() {
            bridges::extend(&mut ruleset, &self.policy);
            self.bridges.fill(&mut ruleset, &self.policy);
        }
        shape::fill(&mut ruleset, &self.shaping);
        let mut elements: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let guards = self.guarded.iter().map(|slice| sets::guard(*slice));
        elements.insert(sets::GUARDED.to_owned(), guards.collect());
        let of_servers = self.servers.values();
        for (set, element) in of_servers.flat_map(|s| sets::elements_of(&self.policy, s)) {
            elements.entry(set).or_default().push(element);
        }
        for (set, element) in self.uid_rules.elements(&self.policy) {
            elements.entry(set).or_default().push(element);
        }
        filled::make_room(&mut ruleset.sets, self.room);
        for set in &mut ruleset.sets {
            if sets::is_of_servers(&set.name) || uid_rules::is_of_uid_rules(&set.name) {
                set.size = self.room;
            }
            if let Some(mut elements) = elements.remove(&set.name) {
                sets::one_owner(&mut elements);
                set.elements = elements;
            }
        }
        self.learned
            .fill(&mut ruleset.sets, std::time::Instant::now());
        ruleset
    }

    /// What admitting these changes. Those already admitted just so are left out; the last
    /// word counts where a cgroup is named twice.
    ///
    /// # Errors
    /// [`Error::Level`], [`Error::UnknownClass`], [`Error::Number`].
    pub fn admit(&self, servers: &[Admitted]) -> Result<Delta, Error> {
        let mut come: BTreeMap<CgroupId, &Admitted> = BTreeMap::new();
        let mut numbers: BTreeMap<u32, CgroupId> = BTreeMap::new();
        for server in servers {
            self.check(server)?;
            if let Some(before) = come.insert(server.cgroup, server) {
                numbers.remove(&before.number);
            }
            if server.class != ClassName::pending()
                && numbers
                    .insert(server.number, server.cgroup)
                    .is_some_and(|c| c != server.cgroup)
            {
                return Err(number(server, "is given to two cgroups at once"));
            }
        }
        for server in come.values() {
            if server.class == ClassName::pending() {
                continue;
            }
            // Another's number is free if that one gets a new number in the same change.
            let holder = self
                .numbers
                .get(&server.number)
                .filter(|h| !come.contains_key(h));
            if holder.is_some_and(|holder| *holder != server.cgroup) {
                return Err(number(
                    server,
                    "is held by another cgroup; forget that first",
                ));
            }
        }
        let mut delta = Delta::default();
        for server in come.into_values() {
            match self.servers.get(&server.cgroup) {
                Some(before) if before == server => continue,
                Some(before) => delta.gone.push(before.clone()),
                None => {}
            }
            delta.come.push(server.clone());
        }
        Ok(delta)
    }

    fn check(&self, server: &Admitted) -> Result<(), Error> {
        let Admitted {
            cgroup,
            level,
            ref class,
            number: n,
        } = *server;
        if !sets::LEVELS.contains(&level) {
            return Err(Error::Level { cgroup, level });
        }
        if *class == ClassName::pending() {
            return Ok(());
        }
        if !self.policy.classes.contains_key(class) && *class != ClassName::exempt() {
            return Err(Error::UnknownClass {
                cgroup,
                class: class.clone(),
            });
        }
        if !(1..=Admitted::NUMBER_MAX).contains(&n) {
            return Err(number(server, "is not within 1 and 2^23-1"));
        }
        Ok(())
    }

    /// What forgetting these changes; those not admitted are left out.
    pub fn forget(&self, cgroups: &[CgroupId]) -> Delta {
        let cgroups: BTreeSet<_> = cgroups.iter().collect();
        let gone = cgroups
            .into_iter()
            .filter_map(|cgroup| self.servers.get(cgroup))
            .cloned();
        Delta {
            gone: gone.collect(),
            ..Delta::default()
        }
    }

    /// What judging these by other classes changes.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`], [`Error::UnknownClass`].
    pub fn reclass(&self, changes: &[(CgroupId, ClassName)]) -> Result<Delta, Error> {
        let mut servers = Vec::new();
        for (cgroup, class) in changes {
            let server = self
                .servers
                .get(cgroup)
                .ok_or(Error::NotAdmitted { cgroup: *cgroup })?;
            servers.push(Admitted {
                class: class.clone(),
                ..server.clone()
            });
        }
        self.admit(&servers)
    }

    /// What guarding exactly these slices changes.
    pub fn guard(&self, slices: &[CgroupId]) -> Delta {
        let slices: BTreeSet<_> = slices.iter().copied().collect();
        Delta {
            guarded: slices.difference(&self.guarded).copied().collect(),
            unguarded: self.guarded.difference(&slices).copied().collect(),
            ..Delta::default()
        }
    }

    /// Remember a change that was made.
    pub fn apply(&mut self, delta: Delta) {
        for server in delta.gone {
            self.servers.remove(&server.cgroup);
            if self.numbers.get(&server.number) == Some(&server.cgroup) {
                self.numbers.remove(&server.number);
            }
        }
        for server in delta.come {
            if server.class != ClassName::pending() {
                self.numbers.insert(server.number, server.cgroup);
            }
            self.servers.insert(server.cgroup, server);
        }
        self.forget_senders();
        for slice in delta.unguarded {
            self.guarded.remove(&slice);
        }
        self.guarded.extend(delta.guarded);
    }
}

fn number(server: &Admitted, why: &'static str) -> Error {
    Error::Number {
        cgroup: server.cgroup,
        number: server.number,
        why,
    }
}

#[cfg(test)]
mod tests;
