//! Who appeared, who they are, who is gone.

use super::cgroup_filter::{filter, slices, top};
use super::cgroups::{Cgroup, Guarded, unit_of};
use super::identify::FindOutError;
use super::state::ServerState;
use super::user_slices::uid_of_cgroup;
use super::{Daemon, Shell, now};
use crate::act::CpuControl;
use crate::hub::{ContainerCgroup, Finding, Server, Spawner, UnitName, Units};
use crate::report::{Kind, Level, LogEntry};
use cgroup::Change;
use hubwarden_core::accounts::{Newcomer, PlaceKind};
use hubwarden_core::node::{self, Input};
use policy::Standing;
use quantities::{CgroupId, CgroupPath, ClassName, CoreSeconds};
use std::collections::BTreeSet;
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
    pub(super) fn take_in(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Gone(_, id) => self.gone(id),
                Change::Appeared(cgroup, id) => self.appeared(cgroup, id),
            }
        }
    }

    fn appeared(&mut self, cgroup: CgroupPath, id: CgroupId) {
        let shell = &mut self.shell;
        if shell.registry.entries.contains_key(&id) {
            return;
        }
        if let Some(uid) = uid_of_cgroup(&cgroup) {
            shell.registry.insert(id, Cgroup::UserSlice { cgroup, uid });
            shell.attach_outside();
            self.due.network(now());
            self.enforce(vec![id]);
            return;
        }
        let asked = Cgroup::Pending {
            cgroup: cgroup.clone(),
            asking: true,
            why: None,
        };
        shell.registry.insert(id, asked);
        self.due.hub.news(now());
        self.ask(cgroup, id);
    }

    /// Asks systemd or a container's engine what it is, without holding up the loop.
    pub(super) fn ask(&mut self, cgroup: CgroupPath, id: CgroupId) {
        self.tasks.begin(async move |tasks| {
            let found = tasks.find_out(cgroup.clone()).await;
            tasks.post(move |daemon| daemon.found_out(cgroup, id, found));
        });
    }

    fn found_out(
        &mut self,
        cgroup: CgroupPath,
        id: CgroupId,
        found: Result<Finding, FindOutError>,
    ) {
        let finding = match found {
            Ok(finding) => finding,
            Err(error) => return self.shell.not_told(&cgroup, id, &error),
        };
        let container = ContainerCgroup::of(&cgroup).is_some();
        self.identified(cgroup, id, finding);
        if container {
            self.follow_containers();
            // It is nobody's no more, or for certain.
            self.due.network(now());
        }
    }

    /// Once a tick: those whom systemd could not tell us about.
    pub(super) fn ask_again(&mut self) {
        let mut again = Vec::new();
        for (id, entry) in &mut self.shell.registry.entries {
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

    fn identified(&mut self, cgroup: CgroupPath, id: CgroupId, finding: Finding) {
        let shell = &mut self.shell;
        match (shell.registry.entries.get_mut(&id), &finding) {
            (Some(Cgroup::Pending { .. }), _) => {}
            (Some(Cgroup::Server(guarded)), Finding::Server(server))
                if guarded.server.user == server.user =>
            {
                // The hub may have told the server's name meanwhile.
                guarded.server.name.clone_from(&server.name);
                return;
            }
            (Some(Cgroup::Server(_)), _) => {
                self.drive(Input::Released(id));
                return;
            }
            (Some(Cgroup::Ignored { .. }), Finding::Server(_)) => {
                // What was set aside as exempt has rules to take back.
                self.gone(id);
            }
            // Set aside it is already, or it has gone while somebody was asked.
            _ => return,
        }
        // It may be in a slice that is to be guarded from now on, or not any more.
        self.due.network(now());
        let shell = &mut self.shell;
        match finding {
            Finding::Server(server) => {
                let class = shell.policy_of(&server).1;
                let found = Found {
                    class,
                    server,
                    cgroup,
                    id,
                };
                let was_not_covered = shell.is_not_covered(&found.cgroup);
                let slices = shell.registry.spawner_slices.len();
                shell.guard(found, None, None);
                // A slice that was just learned of is kept from now on: the next server may come at once.
                let is_new_slice = shell.registry.spawner_slices.len() != slices;
                shell.attach_outside();
                let disowned = shell.shared_slices();
                let uid = shell.guarded(id).and_then(|guarded| guarded.own_uid());
                for id in disowned {
                    self.drive(Input::Released(id));
                }
                if let Some(uid) = uid {
                    self.ask_account(uid);
                }
                self.due.sensors(now());
                if was_not_covered {
                    self.due.survey(now());
                }
                if is_new_slice {
                    self.place_new_servers();
                }
                self.enforce(vec![id]);
            }
            Finding::NotAServer(why) => {
                let is_unit = ContainerCgroup::of(&cgroup).is_none();
                shell.set_aside(cgroup, id, why, true);
                // Our drop-in may have moved it; its next start is where its admin has it.
                if is_unit {
                    self.place_new_servers();
                }
            }
            Finding::Unknown(why) => shell.set_aside(cgroup, id, why, false),
        }
    }

    /// What was changed on a server that is not what it was taken for is put back: it is looked at afresh.
    pub(super) fn let_go(&mut self, id: CgroupId) {
        let cgroup = match self.shell.registry.entries.get(&id) {
            Some(Cgroup::Server(guarded)) => guarded.cgroup.clone(),
            _ => return,
        };
        self.gone(id);
        self.appeared(cgroup, id);
    }

    /// After a change of how servers are told: everybody is asked about again.
    pub(super) fn identify_anew(&mut self) {
        let shell = &mut self.shell;
        shell.look_for_servers();
        let mut known = Vec::new();
        let mut aside = Vec::new();
        for (id, entry) in &shell.registry.entries {
            match entry {
                Cgroup::Server(guarded) if guarded.is_outside() => {}
                Cgroup::Server(guarded) => known.push((guarded.cgroup.clone(), *id)),
                Cgroup::Pending { .. } | Cgroup::UserSlice { .. } => {}
                Cgroup::Ignored { .. } => aside.push(*id),
            }
        }
        for id in aside {
            self.gone(id);
        }
        self.rescan();
        for (cgroup, id) in known {
            self.ask(cgroup, id);
        }
    }

    /// Reads the whole tree anew: the truth that events only hurry ahead of.
    pub(super) fn rescan(&mut self) {
        let result = self.shell.registry.tree.rescan();
        match result {
            Ok(changes) => {
                self.shell.registry.tree_reads = true;
                self.take_in(changes);
            }
            Err(error) => {
                // Once, until it reads again.
                if std::mem::take(&mut self.shell.registry.tree_reads) {
                    let message = format!("The cgroup tree cannot be read: {error}.");
                    let told = LogEntry::new(Kind::Trouble, Level::Error, message);
                    self.shell.log(told);
                }
            }
        }
    }

    fn gone(&mut self, id: CgroupId) {
        let shell = &mut self.shell;
        let mode = shell.config.mode;
        shell.log_last_refused(id, now());
        let owner = shell.node.actuator(id).map(|one| one.owner().clone());
        shell.feed(Input::Gone(id));
        // What there is to log of it needs to know whose it was.
        self.perform();
        let shell = &mut self.shell;
        match shell.registry.remove(id) {
            Some(Cgroup::Server(guarded)) => {
                shell.registry.sampler.forget(id);
                if let Some(owner) = owner {
                    shell.limits.undo.disclaim(&owner);
                }
                shell.reconcile_sender(id);
                if guarded.is_outside() {
                    // Its elements are those of its user.
                    shell.reconcile_network();
                }
                shell.log(guarded.story(mode).gone());
                if let Err(error) = shell.limits.placement.ended(&guarded.server.unit) {
                    let text =
                        format!("A server is still started in a slice of hubwarden's: {error}.");
                    shell.log_once(LogEntry::new(Kind::Trouble, Level::Error, text));
                }
                shell.storage.dirty = true;
                if shell.node.actuator(id).is_some() {
                    shell.registry.departed.insert(id, guarded);
                }
            }
            Some(Cgroup::Ignored {
                exempt: Some(_), ..
            }) => shell.reconcile_sender(id),
            _ => {}
        }
        self.due.network(now());
    }
}

impl Shell {
    /// Has the tree sort names by the configuration and by what the hub lists.
    pub(super) fn look_for_servers(&mut self) {
        let listed = self.hub.directory.units().map(|(unit, _)| unit.clone());
        let mut listed: BTreeSet<UnitName> = listed.collect();
        // A hub that forgets a server which runs lets nobody go.
        for entry in self.registry.entries.values() {
            if let Cgroup::Server(guarded) = entry {
                listed.insert(guarded.server.unit.clone());
            }
        }
        let filter = filter(&self.config.hub, self.guarded_tops(), listed);
        self.registry.tree.retarget(&slices(), filter);
    }

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
        let record = self.limits.undo.claim(&owner);
        self.feed(Input::Found(Box::new(node::Found {
            id,
            record,
            start: self.limits.undo.start_of(&owner),
            owner,
            newcomer,
            lead,
        })));
        let guarded = Guarded::new(found, self.node.number_of(id).unwrap_or(0));
        let story = guarded.story(self.config.mode);
        if let Err(error) = self.registry.sampler.open(&self.root, &guarded.cgroup, id) {
            self.log(story.trouble("Reading the counters", &error));
        }
        self.note_slice(&guarded.server);
        let place = self.node.accounts().place(id);
        let credits = place.map_or(CoreSeconds(0.0), |place| place.standing().credits.left);
        let told = story.found(guarded.class.as_str(), credits, known.is_some());
        self.registry.insert(id, Cgroup::Server(Box::new(guarded)));
        self.reconcile_sender(id);
        self.log(told);
        self.storage.dirty = true;
    }

    pub(super) fn set_aside(
        &mut self,
        cgroup: CgroupPath,
        id: CgroupId,
        why: String,
        is_admins: bool,
    ) {
        let exempt = is_admins;
        let in_slice = self.guarded_tops().contains(top(&cgroup));
        if exempt {
            self.note_admins_unit(&cgroup);
        }
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
        // A restart must not close it until it has been asked about.
        self.storage.dirty |= exempt.is_some();
        self.registry.insert(
            id,
            Cgroup::Ignored {
                cgroup,
                why,
                is_admins,
                exempt,
            },
        );
        self.reconcile_sender(id);
    }

    /// The servers an earlier daemon knew, of those that still are what they were.
    pub(super) fn resume(&mut self, records: Vec<ServerState>) {
        for record in records {
            if self.registry.tree.members().get(&record.cgroup) == Some(&record.id) {
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
