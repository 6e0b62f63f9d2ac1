//! Egress of what users run outside their servers: their slices, and what cron, at or `sudo -u`
//! run under their uids.
//!
//! It is judged by the class of the user's server while there is one. Who is judged is worked out
//! anew from what is known, at every tick and soon after anything that bears on it; the packet
//! rules are told what is new.

use super::cgroups::{Cgroup, Guarded, level};
use super::refusal_log::Refusals;
use super::{Daemon, Shell, now};
use crate::act::CpuControl;
use crate::config::Outside;
use crate::hub::{Account, ContainerCgroup, Spawner, Units};
use crate::report::{
    Journal, LogEntry, Shared, not_logged_outside, over_share_outside, refused_outside,
};
use egress::{ClassName, Place, Refusal, UidRule, UidRules};
use hubwarden_core::numbers::Numbers;
use quantities::{CgroupId, HubUser};
use quantities::{Mode, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Services that run users' jobs in their own cgroup. Debian's cron and at open no session for
/// them; Red Hat's do, and the jobs are in users' slices.
pub(super) const JOBS: [&str; 4] = [
    "cron.service",
    "crond.service",
    "atd.service",
    "anacron.service",
];
/// Services whose processes take on users' uids to speak with the directory in their name; sssd's
/// `krb5_child` asks for an ssh login's ticket so. Nobody's own programs run in them.
pub(super) const IDENTITY_SERVICES: [&str; 5] = [
    "sssd.service",
    "winbind.service",
    "rpc-gssd.service",
    "gssproxy.service",
    "autofs.service",
];

/// Who is judged outside the server, and what is known of accounts.
pub(super) struct UidEgress {
    /// By uid; those with a server.
    pub accounts: BTreeMap<u32, Account>,
    /// How they are kept up to date.
    pub(super) following: super::following::Following,
    /// Those who are judged, by uid.
    judged: BTreeMap<u32, OutsideUser>,
    numbers: Numbers<u32>,
    /// Where subordinate uids are given to accounts.
    pub(super) subuid: PathBuf,
}

/// One who is judged.
pub(super) struct OutsideUser {
    user: HubUser,
    uid_rule: UidRule,
    pub(super) refusals: Refusals,
}

/// The cgroups that belong to one uid.
#[derive(Default)]
struct Belongings {
    users: BTreeSet<HubUser>,
    servers: Vec<Place>,
    slice: Option<Place>,
    class: Option<ClassName>,
    /// What stands in for the class somewhere.
    instead: Option<ClassName>,
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Asks what the account of a server's uid is, unless that is known and followed.
    pub(super) fn ask_account(&mut self, uid: u32) {
        if self.shell.network.uid_egress.accounts.contains_key(&uid) {
            self.due.network(now());
            return;
        }
        self.ask_accounts();
    }
}

impl Shell {
    /// The uids that servers run as.
    pub(super) fn server_uids(&self) -> BTreeSet<u32> {
        let uid = |entry: &Cgroup| match entry {
            Cgroup::Server(guarded) => guarded.own_uid(),
            _ => None,
        };
        self.registry.entries.values().filter_map(uid).collect()
    }

    /// Works out who is judged outside the server, and by what.
    pub(super) fn uid_rules_now(&mut self) -> UidRules {
        let mut judged = BTreeMap::new();
        if self.config.egress.outside == Outside::Judge {
            for (uid, belongings) in self.belongings() {
                if let Some((user, class)) = self.judges(uid, &belongings) {
                    judged.insert(uid, (user, class, belongings));
                }
            }
        }
        // A uid that is another's now gets another number: a refusal may be on its way.
        let same = |uid: &u32, outside_user: &OutsideUser| {
            judged
                .get(uid)
                .is_some_and(|(user, ..)| *user == outside_user.user)
        };
        self.log_last_refused_outside(&same);
        let before = std::mem::take(&mut self.network.uid_egress.judged);
        let (mut kept, ended): (BTreeMap<_, _>, BTreeMap<_, _>) =
            before.into_iter().partition(|(uid, one)| same(uid, one));
        for outside_user in ended.into_values() {
            self.network
                .uid_egress
                .numbers
                .take_back(outside_user.uid_rule.number);
        }
        let mut uid_rules = UidRules {
            jobs: self.services(&JOBS),
            identity_services: self.services(&IDENTITY_SERVICES),
            ..UidRules::default()
        };
        uid_rules
            .identity_services
            .extend(self.containers_of_nobody());
        for (uid, (user, class, belongings)) in judged {
            let before = kept.remove(&uid);
            let number = match &before {
                Some(outside_user) => outside_user.uid_rule.number,
                // There are 2²³ numbers, and uids with a server are far fewer.
                None => self.network.uid_egress.numbers.give(uid).unwrap_or(0),
            };
            let uid_rule = UidRule {
                uid,
                class,
                number,
                slice: belongings.slice,
                servers: belongings.servers,
            };
            uid_rules.by_uid.insert(uid, uid_rule.clone());
            let refusals = before
                .map(|outside_user| outside_user.refusals)
                .unwrap_or_default();
            let outside_user = OutsideUser {
                user,
                uid_rule,
                refusals,
            };
            self.network.uid_egress.judged.insert(uid, outside_user);
        }
        self.add_subordinate(&mut uid_rules);
        uid_rules
    }

    /// Those who are judged no more: what no line stands for is told before that.
    fn log_last_refused_outside(&mut self, stays: &dyn Fn(&u32, &OutsideUser) -> bool) {
        if self
            .network
            .uid_egress
            .judged
            .iter()
            .all(|(uid, one)| stays(uid, one))
        {
            return;
        }
        self.book_refused(now());
        let (mode, journal) = (self.config.mode, self.report.journal.clone());
        for (uid, outside_user) in &mut self.network.uid_egress.judged {
            if !stays(uid, outside_user) {
                let left = outside_user.refusals.rest();
                outside_user.log_left(&journal, left, mode);
            }
        }
    }

    /// What belongs to each uid that a server or a slice has.
    fn belongings(&self) -> BTreeMap<u32, Belongings> {
        let mut all: BTreeMap<u32, Belongings> = BTreeMap::new();
        for entry in self.registry.entries.values() {
            let Cgroup::Server(guarded) = entry else {
                continue;
            };
            let uid = match guarded.is_outside() {
                true => guarded.server.uid,
                false => guarded.own_uid(),
            };
            let Some(uid) = uid else { continue };
            let belongings = all.entry(uid).or_default();
            let place = Place {
                cgroup: guarded.id,
                level: level(&guarded.cgroup),
                number: guarded.number,
            };
            belongings.users.insert(guarded.server.user.clone());
            belongings.class = Some(guarded.class.clone());
            match guarded.is_outside() {
                true => belongings.slice = Some(place),
                false if guarded.admitted().is_some() => belongings.servers.push(place),
                false => {}
            }
            if guarded.instead.is_some() {
                belongings.instead.clone_from(&guarded.instead);
            }
        }
        all
    }

    /// Whose doing it is what a uid does outside, and the class that judges it; none where nobody
    /// is to be judged for it. Several users' uid is nobody's, and an admin is left alone. When
    /// the last server ends, so does this, unless something holds the user back: to stop the
    /// server is no way out of that.
    fn judges(&self, uid: u32, belongings: &Belongings) -> Option<(HubUser, ClassName)> {
        if belongings.servers.is_empty() && belongings.instead.is_none() {
            return None;
        }
        let mut users = belongings.users.iter();
        let (Some(user), None) = (users.next(), users.next()) else {
            return None;
        };
        let account = self.network.uid_egress.accounts.get(&uid)?;
        // Who administers the hub is held as its other users are: the hub's word alone exempts
        // nobody. Who may become root on the node is known by the account.
        if !account.is_own_of(uid, user, &self.config.hub) {
            return None;
        }
        let class = belongings.instead.as_ref().or(belongings.class.as_ref())?;
        Some((user.clone(), class.clone()))
    }

    /// Those services of these that run.
    pub(super) fn services(&self, units: &[&str]) -> BTreeSet<CgroupId> {
        let path = |unit: &&str| self.root.join("system.slice").join(unit);
        let found = units
            .iter()
            .filter_map(|unit| std::fs::metadata(path(unit)).ok());
        found.map(|metadata| CgroupId(metadata.ino())).collect()
    }

    /// The services that run users' jobs, where those are judged.
    pub(super) fn job_services(&self) -> BTreeSet<CgroupId> {
        match self.config.egress.outside {
            Outside::Judge => self.services(&JOBS),
            Outside::Leave => BTreeSet::new(),
        }
    }

    /// Containers that are no server, or nobody knows whose: an admin's, whose uid 1000 is not the
    /// node's. Whoever may start one may be root in it, so that to judge it by uid would hold
    /// nobody. One that is being asked about for the first time may be a user's.
    fn containers_of_nobody(&self) -> impl Iterator<Item = CgroupId> {
        self.registry.entries.iter().filter_map(|(id, entry)| {
            let (Cgroup::Pending {
                cgroup,
                why: Some(_),
                ..
            }
            | Cgroup::Ignored { cgroup, .. }) = entry
            else {
                return None;
            };
            (ContainerCgroup::of(cgroup).is_some() && level(cgroup) == 2).then_some(*id)
        })
    }

    /// The cgroup whose account something goes to that a number outside names.
    pub(super) fn account_outside(&self, number: u32) -> Option<CgroupId> {
        let uid = self.network.uid_egress.numbers.holder(number)?;
        let uid_rule = &self.network.uid_egress.judged.get(&uid)?.uid_rule;
        let place = uid_rule.servers.first().or(uid_rule.slice.as_ref())?;
        Some(place.cgroup)
    }

    /// Tells a refusal of somebody outside; false if the number is nobody's.
    pub(super) fn refused_outside(&mut self, refusal: &Refusal, now: Time) -> bool {
        let mode = self.config.mode;
        let uid = refusal
            .number
            .and_then(|number| self.network.uid_egress.numbers.holder(number));
        let Some(outside_user) = uid.and_then(|uid| self.network.uid_egress.judged.get_mut(&uid))
        else {
            return false;
        };
        if let Some(more) = outside_user.refusals.line(refusal, mode, now) {
            let told =
                refused_outside(&outside_user.user, outside_user.uid_rule.uid, mode, refusal);
            self.log(told.and_not_logged(more));
        }
        true
    }
}

impl UidEgress {
    /// Whom a number of the packet rules' names.
    pub(super) fn by_number(&mut self, number: u32) -> Option<&mut OutsideUser> {
        self.judged.get_mut(&self.numbers.holder(number)?)
    }

    /// The uids that are one user's own.
    pub(super) fn users(&self) -> impl Iterator<Item = (u32, HubUser)> {
        let judged = self.judged.iter();
        judged.map(|(uid, one)| (*uid, one.user.clone()))
    }

    /// Everybody who is judged.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut OutsideUser> {
        self.judged.values_mut()
    }

    /// Whose doing it is what a number of the packet rules' names.
    pub(super) fn user_of(&self, number: u32) -> Option<&HubUser> {
        Some(&self.judged.get(&self.numbers.holder(number)?)?.user)
    }
}

impl Default for UidEgress {
    fn default() -> Self {
        UidEgress {
            accounts: BTreeMap::new(),
            following: super::following::Following::default(),
            judged: BTreeMap::new(),
            numbers: Numbers::new(UidRule::NUMBER_MIN..=UidRule::NUMBER_MAX),
            subuid: PathBuf::from("/etc/subuid"),
        }
    }
}

impl OutsideUser {
    /// It ran into a share: so much was over.
    pub(super) fn over_share(&self, shared: Shared, count: u64, mode: Mode) -> LogEntry {
        over_share_outside(&self.user, self.uid_rule.uid, mode, shared, count)
    }

    /// A line for packets that have none.
    pub(super) fn log_left(&self, journal: &Journal, left: u64, mode: Mode) {
        if left > 0 {
            journal.log(not_logged_outside(
                &self.user,
                self.uid_rule.uid,
                mode,
                left,
            ));
        }
    }
}

impl Guarded {
    /// The uid that it runs as by its unit's `User=`. A container's uids are its own business.
    pub(super) fn own_uid(&self) -> Option<u32> {
        let uid = self.server.uid?;
        (self.server.spawner == Spawner::Systemd).then_some(uid)
    }
}
