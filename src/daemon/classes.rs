//! Which class judges a server now: its user's, or one that stands in for it.

use super::Shell;
use super::cgroups::{Cgroup, Guarded};
use crate::config::Egress;
use egress::ClassName;
use policy::finding::Strength;
use policy::{FindingKind, Stage};
use quantities::CgroupId;
use quantities::Time;
use std::collections::BTreeMap;

/// Why another class than its user's judges a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instead {
    /// Evidence of mining holds it back.
    Evidence,
    /// Evidence of abuse of the network does.
    Abuse,
    /// It has had its bytes for the day.
    Spent,
}

impl Shell {
    /// Once a tick and when evidence was found: has every server judged by the class that it
    /// should be judged by now. What is open already is judged by it too.
    pub(super) fn reconcile_classes(&mut self, now: Time) {
        let mut changed = false;
        let mut entries = std::mem::take(&mut self.registry.entries);
        for entry in entries.values_mut() {
            let Cgroup::Server(guarded) = entry else {
                continue;
            };
            if guarded.is_outside() {
                continue;
            }
            let wanted = self.instead(guarded, now);
            let before = guarded.class_in_force().clone();
            let why = wanted.as_ref().map(|(why, _)| *why);
            guarded.instead = wanted.map(|(_, class)| class);
            if *guarded.class_in_force() == before {
                continue;
            }
            changed = true;
            let story = guarded.story(self.config.mode);
            self.log(story.class_changed(&before, guarded.class_in_force(), why_in_words(why)));
        }
        let outside = self.follow_classes(&mut entries, now);
        self.storage.dirty |= outside;
        self.registry.entries = entries;
        // A restart has to find what called for it.
        self.storage.dirty |= changed;
        self.registry.changes += u64::from(changed || outside);
    }

    /// What stands in for a server's class does for its user's slice. A slice that carries a standing
    /// on goes by that. Returns whether anything changed.
    fn follow_classes(&self, entries: &mut BTreeMap<CgroupId, Cgroup>, now: Time) -> bool {
        let mut standing = BTreeMap::new();
        for (id, entry) in &*entries {
            if let Cgroup::Server(guarded) = entry {
                standing.insert(*id, guarded.instead.clone());
            }
        }
        let mut changed = false;
        for entry in entries.values_mut() {
            let Cgroup::Server(guarded) = entry else {
                continue;
            };
            if !guarded.is_outside() {
                continue;
            }
            let lead = self.node.accounts().account_of(guarded.id);
            let lead = (lead != guarded.id).then_some(lead);
            let wanted = match lead.and_then(|lead| standing.get(&lead)) {
                Some(instead) => instead.clone(),
                None => self.instead(guarded, now).map(|(_, class)| class),
            };
            changed |= guarded.instead != wanted;
            guarded.instead = wanted;
        }
        changed
    }

    /// After a change of configuration: a class that stood in may be there no more. The next tick
    /// works it out anew.
    pub(super) fn drop_stand_ins(&mut self) {
        let known = &self.config.egress.classes;
        for entry in self.registry.entries.values_mut() {
            if let Cgroup::Server(guarded) = entry {
                let there = |class: &ClassName| known.contains_key(class);
                guarded.instead.take_if(|class| !there(class));
            }
        }
    }

    /// What stands in for a server's class, if anything does.
    fn instead(&self, guarded: &Guarded, now: Time) -> Option<(Instead, ClassName)> {
        if self.off {
            return None;
        }
        let egress: &Egress = &self.config.egress;
        let place = self.node.accounts().place(guarded.id)?;
        let (standing, stage) = (place.standing().accusation(now), place.standing().stage);
        if let Some(quarantine) = &egress.quarantine {
            let held = guarded.instead.as_ref() == Some(quarantine);
            // Less than certain evidence may be wrong about the program: it costs speed, not work.
            let accused = standing.is_some_and(|it| it.level == Strength::Certain)
                && stage >= Stage::Throttled;
            if accused || (held && stage > Stage::Free) {
                return Some((Instead::Evidence, quarantine.clone()));
            }
        }
        if let Some(class) = &egress.abusing {
            let accused = standing.is_some_and(|it| it.of == FindingKind::Network)
                && stage >= Stage::Throttled;
            if accused {
                return Some((Instead::Abuse, class.clone()));
            }
        }
        let most = egress.classes.get(&guarded.class)?.limits.bytes_per_day?;
        let used = self.network.traffic.used(guarded.server.user.as_str());
        (used >= most).then(|| (Instead::Spent, ClassName::spent()))
    }
}

fn why_in_words(why: Option<Instead>) -> &'static str {
    match why {
        Some(Instead::Evidence) => {
            "certain evidence of mining holds it back, until it is free again"
        }
        Some(Instead::Abuse) => "evidence that it abuses the network holds it back",
        Some(Instead::Spent) => "it has had its bytes for today, and has them again at midnight",
        None => "what held it back is over",
    }
}

/// What `spent` reaches: the hub, this server's own listeners, and nothing else.
pub(super) fn spent(config: &Egress) -> Option<(ClassName, egress::Class)> {
    let limited = |class: &egress::Class| class.limits.bytes_per_day.is_some();
    let any = config.classes.values().any(limited);
    any.then(|| (ClassName::spent(), egress::Class::default()))
}
