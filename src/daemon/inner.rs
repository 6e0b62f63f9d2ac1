//! What every part of the daemon asks of the shared state.

use super::Inner;
use super::cgroups::{Cgroup, Guarded};
use super::state::{ServerState, State, StateError};
use crate::report::{Kind, Level, LogEntry};
use quantities::CgroupId;
use quantities::Mode;

impl Inner {
    pub(super) fn log(&self, entry: LogEntry) {
        self.journal.log(entry);
    }

    pub(super) fn guarded(&mut self, id: CgroupId) -> Option<&mut Guarded> {
        match self.entries.get_mut(&id) {
            Some(Cgroup::Server(guarded)) => Some(guarded),
            _ => None,
        }
    }

    pub(super) fn state(&self) -> State {
        let mut state = self.store.empty();
        state.mode = Some(self.config.mode);
        state.grants = self.grants.clone();
        state.rested = self.node.accounts().rested().clone();
        state.changes = self.undo.records().cloned().collect();
        state.other_containers = self.other_containers();
        state.bridges = self.networks.bridges.clone();
        state.traffic = self.traffic.clone();
        let uids = self.server_uids();
        let mut accounts = self.uid_egress.accounts.clone();
        accounts.retain(|uid, _| uids.contains(uid));
        state.accounts = accounts;
        for entry in self.entries.values() {
            if let Cgroup::Server(guarded) = entry {
                state.servers.extend(self.state_of(guarded));
            }
        }
        state
    }

    fn state_of(&self, guarded: &Guarded) -> Option<ServerState> {
        let place = self.node.accounts().place(guarded.id)?;
        Some(ServerState {
            server: guarded.server.clone(),
            cgroup: guarded.cgroup.clone(),
            id: guarded.id,
            class: guarded.class.clone(),
            standing: *place.standing(),
            used_outside: place.used_elsewhere(),
        })
    }

    pub(super) fn state_trouble(&mut self, error: &StateError) {
        self.log_once(LogEntry::new(
            Kind::Trouble,
            Level::Error,
            error.to_string(),
        ));
    }

    /// Logs a trouble, unless the journal has it.
    pub(super) fn log_once(&mut self, entry: LogEntry) {
        if self.troubles.is_news(&entry.message, super::now()) {
            self.log(entry);
        }
    }

    /// For `systemctl status`.
    pub(super) fn status_line(&self) -> String {
        let mut servers = 0;
        let mut held = 0;
        for entry in self.entries.values() {
            if let Cgroup::Server(guarded) = entry {
                servers += 1;
                held += usize::from(self.stands_on(guarded.id) > Some(policy::Stage::Free));
            }
        }
        let mode = if self.off {
            "off"
        } else {
            self.config.mode.as_str()
        };
        let would = match self.config.mode {
            Mode::Observe => "would be ",
            Mode::Enforce => "",
        };
        format!("{mode}: {servers} servers, {held} {would}held back")
    }
}
