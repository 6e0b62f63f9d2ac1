//! What people ask of the daemon over D-Bus.

use super::cgroups::{Cgroup, Guarded};
use super::{Daemon, Shell, now};
use crate::act::CpuControl;
use crate::config::Config;
use crate::control::{Command, NodeStatus, ServerStatus};
use crate::coverage::statuses;
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry};
use egress::lists::{List, ListName};
use hubwarden_core::accounts::Place;
use policy::FindingKind;
use policy::finding::Strength;
use quantities::CgroupId;
use quantities::Cores;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Answers one request; what takes long goes on beside the loop.
    pub(super) fn command(&mut self, command: Command) {
        // Whoever hung up does not want the answer.
        match command {
            Command::Status(reply) => {
                let mut status = self.shell.status();
                if let Some(why) = self.tasks.units.lack() {
                    status.lacks.push(("systemd".to_owned(), why));
                }
                drop(reply.send(status));
            }
            Command::Flows(order, reply) => self.flows(&order, reply),
            Command::Servers(reply) => drop(reply.send(self.shell.servers())),
            Command::Processes(whose, reply) => {
                self.tasks.begin(async move |tasks| {
                    let _ = reply.send(tasks.processes(whose).await);
                });
            }
            Command::Explain(user, whose, reply) => {
                let explained = self.shell.explain(&user, whose, super::now());
                drop(reply.send(explained));
            }
            Command::Reload(who, reply) => drop(reply.send(self.reload(&who))),
            Command::Grant(order, reply) => drop(reply.send(self.grant(order))),
            Command::Grants(reply) => drop(reply.send(self.shell.grants_told())),
            Command::Revoke(who, user, reply) => drop(reply.send(self.revoke(&who, &user))),
            Command::Off(who, reply) => {
                self.tasks.begin(async move |tasks| {
                    let _ = reply.send(tasks.switch_off(who).await);
                });
            }
            Command::On(who, reply) => {
                self.tasks.begin(async move |tasks| {
                    let _ = reply.send(tasks.switch_on(who).await);
                });
            }
        }
    }

    fn reload(&mut self, who: &str) -> Result<String, String> {
        let path = self.config_path.clone();
        match Config::load(&path) {
            Ok(config) => {
                let message = self.adopt(config, who);
                match self.shell.rules_lack() {
                    None => Ok(message),
                    Some(why) => Err(format!("{message} {why}")),
                }
            }
            Err(error) => {
                let message =
                    format!("The configuration was refused, and the one in force stays: {error}");
                let told = LogEntry::new(Kind::ConfigRejected, Level::Error, message);
                self.shell.log(told.with("REASON", &error));
                Err(error.to_string())
            }
        }
    }

    /// Puts a configuration in force, and the deny lists as they are on disk.
    pub(super) fn adopt(&mut self, config: Config, who: &str) -> String {
        let shell = &mut self.shell;
        let hub_changed = config.hub != shell.config.hub;
        let same = config == shell.config;
        let mode = config.mode;
        shell.report.meter.configure(&config);
        shell.report.trace.configure(&config);
        shell.config = config;
        shell.feed_settings();
        shell.try_out(&self.tasks.stopper);
        shell.resolve_all();
        shell.drop_stand_ins();
        if hub_changed {
            shell.registry.spawner_slices.clear();
            shell.registry.shared_slices.clear();
        }
        let lists = Arc::clone(&shell.network.lists);
        shell.read_lists();
        let lists = changed_lists(&lists, &shell.network.lists);
        let message = match (same, lists.is_empty()) {
            (false, _) => format!("A new configuration is in force, in {mode} mode."),
            (true, true) => "The configuration was read again; nothing in it changed.".to_owned(),
            (true, false) => "The deny lists were read again.".to_owned(),
        };
        if !shell.off {
            shell.load_egress();
        }
        shell.storage.dirty = true;
        for text in [message.clone()].into_iter().chain(lists) {
            let told = LogEntry::new(Kind::ConfigReloaded, Level::Notice, text);
            shell.log(told.with("ADMIN", who));
        }
        if hub_changed {
            self.due.hub.news(super::now());
            self.identify_anew();
        }
        self.place_new_servers();
        self.ask_accounts();
        let ids = self.shell.guarded_ids();
        self.enforce(ids);
        self.cap_slice();
        self.due.tick = true;
        message
    }
}

/// What became of each deny list that changed, in words.
fn changed_lists(before: &[List], now: &[List]) -> Vec<String> {
    let find = |lists: &[List], name: &ListName| {
        let found = lists.iter().find(|list| list.name == *name);
        found.cloned()
    };
    let names: BTreeSet<&ListName> = before.iter().chain(now).map(|list| &list.name).collect();
    let change = |name: &ListName| match (find(before, name), find(now, name)) {
        (before, Some(list)) if before.as_ref() != Some(&list) => Some(format!(
            "Deny list {name} is in force with {} entries (before: {}), from {}.",
            list.entries.len(),
            before.map_or(0, |before| before.entries.len()),
            list.source
        )),
        (Some(_), None) => Some(format!("Deny list {name} was removed.")),
        _ => None,
    };
    names.into_iter().filter_map(change).collect()
}

impl Shell {
    /// What evidence of mining on a server amounted to at most, in a word.
    pub(super) fn level_of_mining(&self, id: CgroupId) -> &'static str {
        let log = self.node.evidence().of(id);
        let level = log.and_then(|log| log.level(FindingKind::Mining));
        level.map_or("none", Strength::as_str)
    }

    pub(super) fn guarded_ids(&self) -> Vec<CgroupId> {
        let guarded = |(id, entry): (&CgroupId, &Cgroup)| match entry {
            Cgroup::Server(_) => Some(*id),
            _ => None,
        };
        self.registry.entries.iter().filter_map(guarded).collect()
    }

    /// What of telling miners and ending them, and of the packet rules, does not work here.
    fn lacks(&self) -> Vec<(String, String)> {
        let mut lacks = Self::lacking_threads(self.sensors.heartbeats());
        lacks.extend(self.sensors.lacks());
        if let Some(why) = &self.limits.cannot_stop {
            let why = format!("{why}; miners are throttled, and not ended");
            lacks.push(("stopping".to_owned(), why));
        }
        if let Some(why) = self.placement_lack() {
            lacks.push(("new servers".to_owned(), why));
        }
        if let Some(why) = self.network.rules.lack() {
            lacks.push(("egress".to_owned(), why.to_owned()));
        }
        // Where none stands, `status` says so itself.
        if let Some(why) = self.rules_lack().filter(|_| self.network.rules.stand()) {
            lacks.push(("egress".to_owned(), why));
        }
        if let Some(why) = self.connections_lack() {
            lacks.push(("connections".to_owned(), why));
        }
        if let Some(why) = self.shares_lack(now()) {
            lacks.push(("shares".to_owned(), why));
        }
        if let Some(why) = self.accounts_lack(now()) {
            lacks.push(("accounts".to_owned(), why));
        }
        lacks
    }

    pub(super) fn status(&self) -> NodeStatus {
        let mut unknown = Vec::new();
        for entry in self.registry.entries.values() {
            match entry {
                Cgroup::Ignored {
                    cgroup,
                    why,
                    is_admins: false,
                    ..
                }
                | Cgroup::Pending {
                    cgroup,
                    why: Some(why),
                    ..
                } => unknown.push((cgroup.to_string(), why.clone())),
                _ => {}
            }
        }
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: self.config.mode.as_str().to_owned(),
            off: self.off,
            egress_loaded: self.network.rules.stand(),
            cpu_controller: self.registry.cpu_controller,
            uncovered: match self.off {
                true => Vec::new(),
                false => statuses(&self.hub.coverage.survey),
            },
            unknown,
            lacks: self.lacks(),
            names: self
                .network
                .answers
                .tally()
                .named()
                .map(|(name, count)| (name.to_owned(), count))
                .to_vec(),
        }
    }

    pub(super) fn servers(&self) -> Vec<ServerStatus> {
        let mut servers = Vec::new();
        let shared = self.node.accounts().shared_limits();
        for entry in self.registry.entries.values() {
            let Cgroup::Server(guarded) = entry else {
                continue;
            };
            // A slice that follows a server is in that server's numbers.
            if let Some(place) = self.node.accounts().place(guarded.id)
                && place.lead().is_none()
            {
                servers.push(self.server_status(guarded, place, &shared));
            }
        }
        servers.sort_by(|a, b| (&a.user, &a.server).cmp(&(&b.user, &b.server)));
        servers
    }

    /// One server as it is shown; `shared` is what servers have together with their user's slices.
    pub(super) fn server_status(
        &self,
        guarded: &Guarded,
        place: &Place,
        shared: &BTreeMap<CgroupId, Cores>,
    ) -> ServerStatus {
        let limit = shared.get(&guarded.id).copied().or(place.limit());
        ServerStatus {
            user: guarded.server.user.as_str().to_owned(),
            server: guarded.server.name.clone(),
            spawner: guarded.server.spawner.as_str().to_owned(),
            unit: guarded.server.unit.as_str().to_owned(),
            cgroup: guarded.cgroup.to_string(),
            uid: guarded.server.uid.unwrap_or(u32::MAX),
            cpu_cores: place.rate().0,
            credits_core_seconds: place.standing().credits.left.0,
            credits_size_core_seconds: place.policy().size.0,
            credits_unlimited: place.policy().unlimited,
            granted: self
                .limits
                .grants
                .contains_key(guarded.server.user.as_str()),
            stage: place.standing().stage.as_str().to_owned(),
            class: guarded.class_in_force().as_str().to_owned(),
            limit_cores: limit.map_or(0.0, |limit| limit.0),
            evidence: self.level_of_mining(guarded.id).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_deny_list_that_changed_is_said_with_how_much_it_has() {
        let list = |name: &str, text: &str| List {
            name: name.parse().unwrap(),
            source: "/tmp/feed".to_owned(),
            imported: 7,
            entries: egress::lists::parse(text.as_bytes()).0,
        };
        let (one, two) = (
            list("one", "a.example\n"),
            list("two", "192.0.2.1\n192.0.2.2\n"),
        );
        let changed = changed_lists(&[one.clone(), two.clone()], std::slice::from_ref(&one));
        assert_eq!(changed, ["Deny list two was removed."]);
        let more = list("one", "a.example\nb.example\n");
        let changed = changed_lists(std::slice::from_ref(&one), &[more, two]);
        assert_eq!(
            changed,
            [
                "Deny list one is in force with 2 entries (before: 1), from /tmp/feed.",
                "Deny list two is in force with 2 entries (before: 0), from /tmp/feed.",
            ]
        );
        assert!(changed_lists(std::slice::from_ref(&one), std::slice::from_ref(&one)).is_empty());
    }
}
