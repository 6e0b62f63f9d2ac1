//! Who appeared, who they are, who is gone.

use super::cgroup_filter::{filter, slices, within};
use super::cgroups::{Cgroup, Guarded, unit_of};
use super::state::ServerState;
use super::user_slices::uid_of_cgroup;
use super::{Daemon, Inner, now};
use crate::act::CpuControl;
use crate::hub::{ContainerCgroup, Finding, Server, Spawner, Units};
use crate::report::{Kind, Level, LogEntry};
use cgroup::Change;
use hubwarden_core::accounts::{Newcomer, PlaceKind};
use hubwarden_core::node::{self, Input};
use policy::Standing;
use quantities::{CgroupId, CgroupPath, ClassName, CoreSeconds};
use std::rc::Rc;
use std::time::Duration;

/// A server that was found.
pub(super) struct Found {
    pub server: Server,
    pub cgroup: CgroupPath,
    pub id: CgroupId,
    pub class: ClassName,
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Takes in what the tree told.
    pub(super) fn take_in(self: &Rc<Self>, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Gone(_, id) => self.gone(id),
                Change::Appeared(cgroup, id) => self.appeared(cgroup, id),
            }
        }
    }

    fn appeared(self: &Rc<Self>, cgroup: CgroupPath, id: CgroupId) {
        let mut inner = self.inner.borrow_mut();
        if inner.entries.contains_key(&id) {
            return;
        }
        if let Some(uid) = uid_of_cgroup(&cgroup) {
            inner.entries.insert(id, Cgroup::UserSlice { cgroup, uid });
            inner.attach_outside();
            drop(inner);
            self.outsiders_due.notify_one();
            self.enforce(vec![id]);
            return;
        }
        let asked = Cgroup::Pending {
            cgroup: cgroup.clone(),
            asking: true,
            why: None,
        };
        inner.entries.insert(id, asked);
        drop(inner);
        self.hub_news.notify_one();
        self.ask(cgroup, id);
    }

    /// Asks systemd or a container's engine what it is, without holding up the loop.
    pub(super) fn ask(self: &Rc<Self>, cgroup: CgroupPath, id: CgroupId) {
        let daemon = Rc::clone(self);
        tokio::task::spawn_local(async move {
            match daemon.find_out(&cgroup).await {
                Ok(finding) => {
                    let container = ContainerCgroup::of(&cgroup).is_some();
                    daemon.identified(cgroup, id, finding);
                    if container {
                        daemon.follow_containers();
                        // It is nobody's no more, or for certain.
                        daemon.outsiders_due.notify_one();
                    }
                }
                Err(error) => daemon.inner.borrow_mut().not_told(&cgroup, id, &error),
            }
        });
    }

    /// Once a tick: those whom systemd could not tell us about.
    pub(super) fn ask_again(self: &Rc<Self>) {
        let mut again = Vec::new();
        for (id, entry) in &mut self.inner.borrow_mut().entries {
            if let Cgroup::Pending { cgroup, asking, .. } = entry
                && !*asking
            {
                *asking = true;
                again.push((cgroup.clone(), *id));
            }
        }
        for (cgroup, id) in again {
            self.ask(cgroup, id);
        }
    }

    fn identified(self: &Rc<Self>, cgroup: CgroupPath, id: CgroupId, finding: Finding) {
        let mut inner = self.inner.borrow_mut();
        match (inner.entries.get_mut(&id), &finding) {
            (Some(Cgroup::Pending { .. }), _) => {}
            (Some(Cgroup::Server(guarded)), Finding::Server(server))
                if guarded.server.user == server.user =>
            {
                // The hub may have told the server's name meanwhile.
                guarded.server.name.clone_from(&server.name);
                return;
            }
            (Some(Cgroup::Server(_)), _) => {
                drop(inner);
                self.drive(Input::Released(id));
                return;
            }
            (Some(Cgroup::Ignored { .. }), Finding::Server(_)) => {
                // What was set aside as exempt has rules to take back.
                drop(inner);
                self.gone(id);
                inner = self.inner.borrow_mut();
            }
            // Set aside it is already, or it has gone while somebody was asked.
            _ => return,
        }
        match finding {
            Finding::Server(server) => {
                let class = inner.policy_of(&server).1;
                let found = Found {
                    class,
                    server,
                    cgroup,
                    id,
                };
                inner.guard(found, None, None);
                inner.attach_outside();
                let disowned = inner.shared_slices();
                let uid = inner.guarded(id).and_then(|guarded| guarded.own_uid());
                drop(inner);
                for id in disowned {
                    self.drive(Input::Released(id));
                }
                if let Some(uid) = uid {
                    self.ask_account(uid);
                }
                self.sensors_due.notify_one();
                self.enforce(vec![id]);
            }
            Finding::NotAServer(why) => inner.set_aside(cgroup, id, why, true),
            Finding::Unknown(why) => inner.set_aside(cgroup, id, why, false),
        }
    }

    /// What was changed on a server that is not what it was taken for is put back: it is looked at afresh.
    pub(super) fn let_go(self: &Rc<Self>, id: CgroupId) {
        let cgroup = match self.inner.borrow().entries.get(&id) {
            Some(Cgroup::Server(guarded)) => guarded.cgroup.clone(),
            _ => return,
        };
        self.gone(id);
        self.appeared(cgroup, id);
    }

    /// After a change of how servers are told: everybody is asked about again.
    pub(super) fn identify_anew(self: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        let hub = inner.config.hub.clone();
        inner.tree.retarget(&slices(&hub), filter(&hub));
        let mut known = Vec::new();
        let mut aside = Vec::new();
        for (id, entry) in &inner.entries {
            match entry {
                Cgroup::Server(guarded) if guarded.is_outside() => {}
                Cgroup::Server(guarded) => known.push((guarded.cgroup.clone(), *id)),
                Cgroup::Pending { .. } | Cgroup::UserSlice { .. } => {}
                Cgroup::Ignored { .. } => aside.push(*id),
            }
        }
        drop(inner);
        for id in aside {
            self.gone(id);
        }
        self.rescan();
        for (cgroup, id) in known {
            self.ask(cgroup, id);
        }
    }

    /// Reads the whole tree anew: the truth that events only hurry ahead of.
    pub(super) fn rescan(self: &Rc<Self>) {
        let result = self.inner.borrow_mut().tree.rescan();
        match result {
            Ok(changes) => {
                self.tree_reads.set(true);
                self.take_in(changes);
            }
            Err(error) => {
                // Once, until it reads again.
                if self.tree_reads.replace(false) {
                    let message = format!("The cgroup tree cannot be read: {error}.");
                    let told = LogEntry::new(Kind::Trouble, Level::Error, message);
                    self.inner.borrow().log(told);
                }
            }
        }
    }

    fn gone(self: &Rc<Self>, id: CgroupId) {
        let mut inner = self.inner.borrow_mut();
        let mode = inner.config.mode;
        inner.log_last_refused(id, now());
        let owner = inner.node.actuator(id).map(|one| one.owner().clone());
        inner.feed(Input::Gone(id));
        drop(inner);
        // What there is to log of it needs to know whose it was.
        self.perform();
        let mut inner = self.inner.borrow_mut();
        match inner.entries.remove(&id) {
            Some(Cgroup::Server(guarded)) => {
                inner.sampler.forget(id);
                if let Some(owner) = owner {
                    inner.undo.disclaim(&owner);
                }
                inner.reconcile_sender(id);
                if guarded.is_outside() {
                    // Its elements are those of its user.
                    inner.reconcile_network();
                }
                inner.log(guarded.story(mode).gone());
                inner.dirty = true;
                if inner.node.actuator(id).is_some() {
                    inner.departed.insert(id, guarded);
                }
            }
            Some(Cgroup::Ignored {
                exempt: Some(_), ..
            }) => inner.reconcile_sender(id),
            _ => {}
        }
        self.outsiders_due.notify_one();
    }
}

impl Inner {
    /// Puts a server under supervision; its egress first, since that is what cannot wait. What an
    /// earlier daemon knew of it is in `known`: its standing, and what its user used elsewhere.
    pub(super) fn guard(
        &mut self,
        found: Found,
        lead: Option<CgroupId>,
        known: Option<(Standing, Duration)>,
    ) {
        let (policy, _) = self.policy_of(&found.server);
        let id = found.id;
        let owner = found.server.owner(&found.cgroup, id);
        let newcomer = Newcomer {
            user: found.server.user.clone(),
            kind: match found.server.spawner {
                Spawner::Login => PlaceKind::UserSlice,
                _ => PlaceKind::Server,
            },
            policy,
            standing: known.map(|(standing, _)| standing),
            used_elsewhere: known.map_or(Duration::ZERO, |(_, used)| used),
        };
        let record = self.undo.claim(&owner);
        self.feed(Input::Found(Box::new(node::Found {
            id,
            record,
            start: self.undo.start_of(&owner),
            owner,
            newcomer,
            lead,
        })));
        let guarded = Guarded::new(found, self.node.number_of(id).unwrap_or(0));
        let story = guarded.story(self.config.mode);
        if let Err(error) = self.sampler.open(&self.root, &guarded.cgroup, id) {
            self.log(story.trouble("Reading the counters", &error));
        }
        let place = self.node.accounts().place(id);
        let credits = place.map_or(CoreSeconds(0.0), |place| place.standing().credits.left);
        let told = story.found(guarded.class.as_str(), credits, known.is_some());
        self.entries.insert(id, Cgroup::Server(Box::new(guarded)));
        self.reconcile_sender(id);
        self.log(told);
        self.dirty = true;
    }

    fn set_aside(&mut self, cgroup: CgroupPath, id: CgroupId, why: String, exempt: bool) {
        let in_slice = within(&cgroup, &self.config.hub.slice);
        let unit = unit_of(&cgroup);
        // A container keeps its id when it is started again.
        let news = ContainerCgroup::of(&cgroup).is_none() || self.is_news(&unit);
        let consequence = match (in_slice, exempt) {
            (true, true) => "It is left alone, its network too.",
            (true, false) => {
                "It is not acted on; since it is in the guarded slice it reaches no network."
            }
            (false, _) => "It is left alone.",
        };
        if news && (in_slice || !exempt) {
            let level = if exempt {
                Level::Notice
            } else {
                Level::Warning
            };
            let message = format!("{unit} is no known user's server: {why}. {consequence}");
            self.log(
                LogEntry::new(Kind::ServerNotMapped, level, message)
                    .with("UNIT_NAME", unit.as_str())
                    .with("CGROUP", &cgroup)
                    .with("REASON", &why),
            );
        }
        let exempt = match exempt && in_slice {
            true => {
                self.feed(Input::SetAside(id));
                self.node.number_of(id)
            }
            false => None,
        };
        self.entries.insert(
            id,
            Cgroup::Ignored {
                cgroup,
                why,
                exempt,
            },
        );
        self.reconcile_sender(id);
    }

    /// The servers an earlier daemon knew, of those that still are what they were.
    pub(super) fn resume(&mut self, records: Vec<ServerState>) {
        for record in records {
            if self.tree.members().get(&record.cgroup) == Some(&record.id) {
                let (_, class) = self.policy_of(&record.server);
                let known = (record.standing, record.used_outside);
                let found = Found {
                    server: record.server,
                    cgroup: record.cgroup,
                    id: record.id,
                    class,
                };
                self.guard(found, None, Some(known));
            }
        }
        // All of them are enforced in a moment.
        self.attach_outside();
    }
}
