//! What each user may use: configuration by user and group, and grants on top.

use super::cgroups::Cgroup;
use super::{Daemon, Shell};
use crate::act::CpuControl;
use crate::config::{Limits, ThrottleWhen};
use crate::hub::{Server, Units};
use egress::ClassName;
use hubwarden_core::node::Input;
use policy::{Consequences, PlainLimits, Policy};
use std::collections::{BTreeMap, BTreeSet};

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// After a change of grants or groups: works out what everybody may use, and brings it about.
    pub(super) fn policies_changed(&mut self) {
        let shell = &mut self.shell;
        shell.resolve_all();
        shell.reconcile_network();
        shell.storage.dirty = true;
        let ids = shell.guarded_ids();
        self.enforce(ids);
    }
}

impl Shell {
    /// The policy and egress class of a server's user now.
    pub(super) fn policy_of(&self, server: &Server) -> (Policy, ClassName) {
        self.policy_of_user(server.user.as_str())
    }

    /// The same, of a user whose server is not there.
    pub(super) fn policy_of_user(&self, user: &str) -> (Policy, ClassName) {
        let person = self
            .hub
            .directory
            .person(&quantities::HubUser(user.to_owned()));
        let groups: BTreeSet<String> = person
            .into_iter()
            .flat_map(|person| person.groups.iter().cloned())
            .collect();
        let limits = self.config.limits_of(user, &groups);
        let mut policy = Policy {
            evidence: self.config.evidence.consequences,
            ..policy(&limits)
        };
        let mut class = limits.class;
        if let Some(grant) = self.limits.grants.get(user) {
            grant.apply(&mut policy);
            class = grant.class.clone().or(class);
        }
        // A class that a grant names may have gone from the configuration since.
        let class = class
            .filter(|class| self.config.egress.classes.contains_key(class))
            .unwrap_or_else(|| self.config.egress.class.clone());
        (policy, class)
    }

    /// After a change of configuration, grants or groups: every server's policy and class anew.
    pub(super) fn resolve_all(&mut self) {
        let (mut policies, mut classes) = (BTreeMap::new(), BTreeMap::new());
        for (id, entry) in &self.registry.entries {
            if let Cgroup::Server(guarded) = entry {
                let (policy, class) = self.policy_of(&guarded.server);
                policies.insert(*id, policy);
                classes.insert(*id, class);
            }
        }
        self.feed(Input::Policies(policies));
        for (id, class) in classes {
            if let Some(guarded) = self.guarded(id) {
                guarded.class = class;
            }
        }
    }
}

/// What the judge needs of one user's limits.
pub fn policy(limits: &Limits) -> Policy {
    let cpu = &limits.cpu;
    Policy {
        limit: cpu.limit,
        baseline: cpu.baseline,
        size: cpu.credits,
        unlimited: false,
        contended_above: match cpu.throttle_when {
            ThrottleWhen::Always => None,
            ThrottleWhen::Contended => Some(cpu.contended_above.0),
        },
        deprioritise_below: cpu.deprioritise_below.0,
        free_above: cpu.free_above.0,
        weight: cpu.weight,
        period: cpu.period,
        min_stay: cpu.min_stay,
        sustained: limits.sustained,
        repeat: limits.repeat,
        time: limits.time,
        plain: PlainLimits {
            memory_high: limits.memory_high,
            memory_max: limits.memory_max,
            tasks_max: limits.tasks_max,
            io_weight: limits.io_weight,
        },
        evidence: Consequences::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_what_the_policy_has_by_default() {
        assert_eq!(policy(&Limits::default()), Policy::default());
    }
}
