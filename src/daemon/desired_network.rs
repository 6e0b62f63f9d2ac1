//! What the packet rules should be, and what of it goes first where the kernel refuses it.

use super::packet_rules::RuleTrouble;
use egress::{Admitted, Bridges, Error, Policy, UidRules};
use quantities::{CgroupId, ClassName};
use std::collections::BTreeMap;

/// What the packet rules should be.
#[derive(Debug, Clone)]
pub(super) struct DesiredNetwork {
    pub policy: Policy,
    /// The slices whose unknown members reach nothing.
    pub slices: Vec<CgroupId>,
    pub admitted: BTreeMap<CgroupId, Admitted>,
    /// Users judged by uid, outside their servers.
    pub uid_rules: UidRules,
    /// Containers' ports.
    pub bridges: Bridges,
}

/// What drops out of rules that the kernel refuses, in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing yet.
    Nothing,
    /// Users outside their servers: what they run there is left alone.
    UidRules,
    /// Containers by their ports: on guarded networks they reach nothing.
    Containers,
    /// Servers' classes: they reach nothing but the hub.
    Classes,
    /// Servers: in guarded slices they reach no more either.
    Servers,
}

impl Part {
    pub const ALL: [Self; 5] = [
        Self::Nothing,
        Self::UidRules,
        Self::Containers,
        Self::Classes,
        Self::Servers,
    ];

    /// What is tried without it, for the journal.
    pub fn loading(self) -> &'static str {
        match self {
            Self::Nothing => "Loading the packet rules",
            Self::UidRules => "Loading the packet rules without users outside their servers",
            Self::Containers => "Loading the packet rules without containers",
            Self::Classes => "Loading the packet rules without servers' classes",
            Self::Servers => "Loading the packet rules without servers",
        }
    }
}

impl DesiredNetwork {
    /// Changes what cannot be judged so that all else can be.
    pub fn sort_out(&mut self) -> Vec<RuleTrouble> {
        let mut servers: Vec<Admitted> = self.admitted.values().cloned().collect();
        // A policy that nothing can be judged by is the load's to refuse.
        let wrong = self.policy.sort_out(&mut servers, &mut self.uid_rules);
        let wrong = wrong.unwrap_or_default();
        if !wrong.is_empty() {
            let by_cgroup = servers.into_iter().map(|server| (server.cgroup, server));
            self.admitted = by_cgroup.collect();
        }
        let trouble = |error| RuleTrouble {
            what: match error {
                Error::UidRule { .. } => "Judging users outside their servers",
                _ => "Admitting a server",
            },
            error,
        };
        wrong.into_iter().map(trouble).collect()
    }

    pub fn drop_out(&mut self, part: Part) {
        match part {
            Part::Nothing => {}
            Part::UidRules => self.uid_rules = UidRules::default(),
            Part::Containers => {
                self.bridges.servers.clear();
                self.bridges.exempt.clear();
                self.bridges.on_guarded.clear();
            }
            Part::Classes => {
                for server in self.admitted.values_mut() {
                    server.class = ClassName::pending();
                }
            }
            Part::Servers => self.admitted.clear(),
        }
    }
}

/// Whether the kernel refused what the rules say, not that they are said.
pub(super) fn is_refused(error: &Error) -> bool {
    use nix::errno::Errno::{EACCES, ENOBUFS, ENOMEM, EPERM};
    let errno = error.errno();
    errno.is_some_and(|errno| ![EACCES, ENOBUFS, ENOMEM, EPERM].contains(&errno))
}
