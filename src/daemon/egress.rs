//! Egress as the daemon drives it: the table loaded, servers in and out of it.

use super::Shell;
use super::cgroups::{Cgroup, level};
use super::desired_network::DesiredNetwork;
use super::packet_rules::RuleTrouble;
use super::resolvers::resolvers;
use super::uid_egress::{IDENTITY_SERVICES, JOBS};
use crate::report::{Kind, Level, LogEntry};
use egress::lists::Lists;
use egress::{Admitted, Bridges, Policy, Tracking};
use quantities::{CgroupId, ClassName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Services that ask resolvers for others, who hear of the answer by a socket of the service's: glibc asks the
/// first nscd that it finds.
const RELAYS: [&str; 5] = [
    "systemd-resolved.service",
    "docker.service",
    "nscd.service",
    "unscd.service",
    "nsncd.service",
];

/// What the rules depend on besides the configuration, of which nobody tells: it is read at each tick.
#[derive(Debug, PartialEq)]
pub(super) struct Surroundings {
    changes: u64,
    resolvers: Vec<IpAddr>,
    services: [BTreeSet<CgroupId>; 3],
    slices: Vec<CgroupId>,
    bridges: Bridges,
    tracking: Tracking,
}

impl Shell {
    /// Replaces the whole table by what it should be now.
    pub(super) fn load_egress(&mut self) {
        self.look_up_bridges();
        self.look_at_tracking();
        self.network.reconciled = Some(self.surroundings());
        let desired = self.desired_network();
        let troubles = self.network.rules.load(desired);
        self.log_all_rules(troubles);
    }

    /// Brings the packet rules to what they should be now.
    pub(super) fn reconcile_network(&mut self) {
        self.network.reconciled = Some(self.surroundings());
        // Worked out while supervision is off too: what is known of uids follows.
        let desired = self.desired_network();
        if self.off {
            return;
        }
        let troubles = self.network.rules.reconcile(desired);
        self.log_all_rules(troubles);
    }

    /// The same, where anything is another than it was, or could not be brought about.
    pub(super) fn reconcile_network_if_changed(&mut self) {
        let settled = self.network.trouble.is_empty() && self.network.rules.stand();
        if !settled || self.network.reconciled.as_ref() != Some(&self.surroundings()) {
            self.reconcile_network();
        }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            changes: self.registry.changes,
            resolvers: resolvers(&self.config.egress),
            services: [
                self.services(&JOBS),
                self.services(&IDENTITY_SERVICES),
                self.services(&RELAYS),
            ],
            slices: self.guarded_slices(),
            bridges: self.network.containers.known.clone(),
            tracking: self.network.table.tracking,
        }
    }

    /// Brings the rules of one sender to what they should be, which cannot wait for all others.
    pub(super) fn reconcile_sender(&mut self, id: CgroupId) {
        let wanted = self.admitted_of(id);
        let done = self.network.rules.set(id, wanted.as_ref());
        self.log_rules(done.err());
    }

    /// What the packet rules should be.
    pub(super) fn desired_network(&mut self) -> DesiredNetwork {
        let resolvers = resolvers(&self.config.egress);
        let relays = self.relays();
        DesiredNetwork {
            uid_rules: self.uid_rules_now(),
            policy: self.policy(resolvers, relays),
            slices: self.guarded_slices(),
            admitted: self.admitted(),
            bridges: self.network.containers.known.clone(),
        }
    }

    /// Logs what could not be done.
    pub(super) fn log_rules(&mut self, troubles: impl IntoIterator<Item = RuleTrouble>) {
        for RuleTrouble { what, error } in troubles {
            let text = format!("{what} failed and is tried again: {error}.");
            self.log_once(LogEntry::new(Kind::Trouble, Level::Error, text.clone()));
            self.network.trouble.insert(text);
        }
    }

    /// Why the packet rules are not in force, or not all of them.
    pub(super) fn rules_lack(&self) -> Option<String> {
        if self.off {
            return None;
        }
        let trouble = self.network.trouble.iter().map(String::as_str);
        let trouble = trouble.collect::<Vec<_>>().join(" ");
        match self.network.rules.stand() {
            true if trouble.is_empty() => None,
            true => Some(format!("Not all packet rules are in force. {trouble}")),
            false => Some(format!("The packet rules are not in force. {trouble}")),
        }
    }

    /// The same of all of the rules, and what the configuration asks for and this node cannot do: what
    /// was amiss before and is not now is over.
    fn log_all_rules(&mut self, troubles: Vec<RuleTrouble>) {
        let before = std::mem::take(&mut self.network.trouble);
        self.log_rules(troubles);
        for over in before.difference(&self.network.trouble) {
            self.report.troubles.is_over(over);
        }
        if let Some(lack) = self.network.rules.lack() {
            let lack = lack.to_owned();
            self.log_once(LogEntry::new(Kind::Trouble, Level::Error, lack));
        }
    }

    /// Reads the deny lists; one that cannot be read is told of and left out.
    pub(super) fn read_lists(&mut self) {
        let (lists, troubles) = Lists::new(self.storage.store.directory()).load();
        self.network.lists = Arc::new(lists);
        for trouble in troubles {
            let message = format!("A deny list is not in force: {trouble}.");
            self.log(LogEntry::new(Kind::Trouble, Level::Error, message));
        }
    }

    /// Everything that is let out, and by which class.
    pub(super) fn admitted(&self) -> BTreeMap<CgroupId, Admitted> {
        let ids = self.registry.entries.keys();
        ids.filter_map(|id| Some((*id, self.admitted_of(*id)?)))
            .collect()
    }

    fn admitted_of(&self, id: CgroupId) -> Option<Admitted> {
        match self.registry.entries.get(&id)? {
            Cgroup::Server(guarded) => guarded.admitted(),
            Cgroup::Ignored {
                cgroup,
                exempt: Some(number),
                ..
            } => Some(Admitted {
                cgroup: id,
                level: level(cgroup),
                class: ClassName::exempt(),
                number: *number,
            }),
            _ => None,
        }
    }

    /// The services of this node that ask resolvers for others, of those that run. Whose programs
    /// ask systemd-resolved over D-Bus, or Docker's resolver in a container, get no answer of their
    /// own that could be read.
    pub(super) fn relays(&self) -> Vec<CgroupId> {
        self.services(&RELAYS)
            .into_iter()
            // What jobs are answered is read as well: they are judged by names too.
            .chain(self.job_services())
            .collect()
    }

    /// Whether a server's class reaches names. That a connection began while its name was good is written on
    /// the connection's entry in the kernel's table, so there has to be one.
    fn anybody_has_names(&self) -> bool {
        let classes = &self.config.egress.classes;
        self.registry.entries.values().any(|entry| match entry {
            Cgroup::Server(guarded) => {
                let class = classes.get(guarded.class_in_force());
                class.is_some_and(|class| !class.names.is_empty())
            }
            _ => false,
        })
    }

    /// Ports of the hub's on this node: its API, and what is open to everybody.
    fn hub_ports(&self) -> Vec<u16> {
        let api = self.config.hub.api_ports.iter();
        let ports: BTreeSet<u16> = api.chain(&self.hub.fronts).copied().collect();
        ports.into_iter().collect()
    }

    pub(super) fn policy(&self, resolvers: Vec<IpAddr>, relays: Vec<CgroupId>) -> Policy {
        let config = &self.config;
        let mut classes = config.egress.classes.clone();
        classes.extend(super::classes::spent(&config.egress));
        Policy {
            mode: config.mode,
            classes,
            hub_ports: self.hub_ports(),
            proxies: config.hub.proxies.clone(),
            resolvers,
            denied: config.egress.denied.clone(),
            private: config.egress.private.clone(),
            lists: Arc::clone(&self.network.lists),
            log_group: config.egress.log_group,
            relays,
            dns_queue: self.network.dns_queue,
            names_ttl_max: config.egress.names_ttl_max,
            abuse: config.egress.abuse,
            tracking: Tracking {
                // Who runs containers has their addresses translated.
                by_others: self.network.table.tracking.by_others
                    || !self.network.containers.known.is_empty()
                    || self.anybody_has_names(),
                ..self.network.table.tracking
            },
        }
    }
}
