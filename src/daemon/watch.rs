//! Who appeared, who they are, who is gone.

use super::entries::{Entry, Guarded, level, unit_of};
use super::outside::uid_of_cgroup;
use super::places::{filter, slices, within};
use super::state::Record;
use super::{Daemon, Inner, now};
use crate::act::CpuControl;
use crate::hub::{ContainerCgroup, Finding, Server, Units};
use crate::report::{Entry as Told, Kind, Level};
use cgroup::{Change, Reader};
use egress::ClassName;
use quantities::{CgroupId, CgroupPath};
use std::rc::Rc;

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
            inner.entries.insert(id, Entry::Outside { cgroup, uid });
            let parts = inner.attach_outside(now());
            drop(inner);
            self.outsiders_due.notify_one();
            self.enforce_in_turn(parts);
            self.enforce(id);
            return;
        }
        let asked = Entry::Asked {
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
            if let Entry::Asked { cgroup, asking, .. } = entry
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
            (Some(Entry::Asked { .. }), _) => {}
            (Some(Entry::Guarded(guarded)), Finding::Server(server))
                if guarded.server.user == server.user =>
            {
                // The hub may have told the server's name meanwhile.
                guarded.server.name.clone_from(&server.name);
                return;
            }
            (Some(Entry::Guarded(guarded)), _) => {
                guarded.released = true;
                drop(inner);
                self.release(cgroup, id);
                return;
            }
            (Some(Entry::Other { .. }), Finding::Server(_)) => {
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
                let (policy, class) = inner.policy_of(&server);
                let record = Record {
                    class,
                    case: inner.case_for(&server, &policy, now()),
                    used_outside: std::time::Duration::ZERO,
                    server,
                    cgroup,
                    id,
                };
                inner.rested.remove(record.server.user.as_str());
                inner.guard(record, false);
                let parts = inner.attach_outside(now());
                let disowned = inner.disown_slices();
                let uid = inner.guarded(id).and_then(|guarded| guarded.own_uid());
                drop(inner);
                for (cgroup, id) in disowned {
                    self.release(cgroup, id);
                }
                if let Some(uid) = uid {
                    self.ask_account(uid);
                }
                self.senses_due.notify_one();
                self.enforce_in_turn(parts);
                self.enforce(id);
            }
            Finding::NotAServer(why) => inner.set_aside(cgroup, id, why, true),
            Finding::Unknown(why) => inner.set_aside(cgroup, id, why, false),
        }
    }

    /// Puts back what we changed on a server that is not what it was taken for, and looks at it
    /// afresh.
    fn release(self: &Rc<Self>, cgroup: CgroupPath, id: CgroupId) {
        let daemon = Rc::clone(self);
        tokio::task::spawn_local(async move {
            daemon.enforce_now(id).await;
            daemon.gone(id);
            daemon.appeared(cgroup, id);
        });
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
                Entry::Guarded(guarded) if guarded.is_outside() => {}
                Entry::Guarded(guarded) => known.push((guarded.cgroup.clone(), *id)),
                Entry::Asked { .. } | Entry::Outside { .. } => {}
                Entry::Other { .. } => aside.push(*id),
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
                    let told = Told::new(Kind::Trouble, Level::Error, message);
                    self.inner.borrow().tell(told);
                }
            }
        }
    }

    fn gone(self: &Rc<Self>, id: CgroupId) {
        let mut inner = self.inner.borrow_mut();
        let mode = inner.config.mode;
        inner.tell_last_refused(id, now());
        match inner.entries.remove(&id) {
            Some(Entry::Guarded(guarded)) => {
                inner.bequeath(&guarded, now());
                inner.undo.disclaim(&guarded.owner());
                inner.numbers.remove(&guarded.number);
                match guarded.is_outside() {
                    // Its elements are those of its user.
                    true => inner.settle_outsiders(),
                    false => inner.shut_out(id),
                }
                if let Some(told) = guarded.was_stopped(mode)
                    && inner.acts()
                {
                    inner.tell(told);
                }
                inner.tell(guarded.story(mode).gone());
                inner.dirty = true;
            }
            Some(Entry::Other { exempt: true, .. }) => inner.shut_out(id),
            _ => {}
        }
        self.outsiders_due.notify_one();
    }
}

impl Inner {
    /// Puts a server under supervision; its egress first, since that is what cannot wait.
    pub(super) fn guard(&mut self, record: Record, known: bool) {
        let number = self.free_number();
        let (policy, _) = self.policy_of(&record.server);
        let mut guarded = Guarded::new(record, number, policy);
        guarded.take_over(self.undo.claim(&guarded.owner()));
        self.numbers.insert(number, guarded.id);
        if let Some(admitted) = guarded.admitted() {
            self.let_in(&admitted, &guarded.server);
        }
        self.open(&mut guarded);
        let story = guarded.story(self.config.mode);
        let told = story.found(guarded.class.as_str(), guarded.case.credits.left, known);
        self.tell(told);
        self.entries
            .insert(guarded.id, Entry::Guarded(Box::new(guarded)));
        self.dirty = true;
    }

    /// Opens a server's counters and takes the first reading.
    fn open(&mut self, guarded: &mut Guarded) {
        match Reader::open(&self.root, &guarded.cgroup) {
            Ok(reader) => guarded.reader = Some(reader),
            Err(error) if error.is_gone() => {}
            Err(error) => {
                let story = guarded.story(self.config.mode);
                self.journal
                    .tell(story.trouble("Reading the counters", &error));
            }
        }
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
        if exempt && in_slice {
            let admitted = egress::Admitted {
                cgroup: id,
                level: level(&cgroup),
                class: ClassName::exempt(),
                number: self.free_number(),
            };
            self.admit_exempt(&admitted);
        }
        if news && (in_slice || !exempt) {
            let level = if exempt {
                Level::Notice
            } else {
                Level::Warning
            };
            let message = format!("{unit} is no known user's server: {why}. {consequence}");
            self.tell(
                Told::new(Kind::ServerNotMapped, level, message)
                    .with("UNIT_NAME", unit.as_str())
                    .with("CGROUP", &cgroup)
                    .with("REASON", &why),
            );
        }
        let exempt = exempt && in_slice;
        self.entries.insert(
            id,
            Entry::Other {
                cgroup,
                why,
                exempt,
            },
        );
    }

    /// A number no living server has. There are 2²⁴, and cgroups are far fewer.
    pub(super) fn free_number(&mut self) -> u32 {
        loop {
            self.next_number = self.next_number % egress::Admitted::NUMBER_MAX + 1;
            if !self.numbers.contains_key(&self.next_number) {
                return self.next_number;
            }
        }
    }

    /// The servers an earlier daemon knew, of those that still are what they were.
    pub(super) fn resume(&mut self, records: Vec<Record>) {
        for record in records {
            if self.tree.members().get(&record.cgroup) == Some(&record.id) {
                let (_, class) = self.policy_of(&record.server);
                self.guard(Record { class, ..record }, true);
            }
        }
        // All of them are enforced in a moment.
        self.attach_outside(now());
    }
}

/// For messages that need a server's user only.
pub(super) fn user_of(server: &Server) -> String {
    server.user.to_string()
}
