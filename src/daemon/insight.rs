//! What runs in servers, when people ask.
//!
//! A helper looks, a process of ours, since a file of a user's may lie on a file system that answers
//! late or never; whoever asks is told so then, and nothing else waits.

use super::entries::Entry;
use super::{Daemon, Inner};
use crate::act::CpuControl;
use crate::cgroup::CgroupId;
use crate::control::{ProcessGroup, ServerProcesses};
use crate::evidence::insight::{Group, Groups, Servers};
use crate::hub::Units;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// Askers that wait for the thread.
const MOST_WAITING: usize = 8;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(5);

type Question = (Servers, oneshot::Sender<Groups>);

/// The thread that waits for the helper, once somebody has asked.
#[derive(Default)]
pub(super) struct Observer(OnceCell<Option<SyncSender<Question>>>);

impl Observer {
    async fn look(&self, servers: Servers) -> Result<Groups, String> {
        let thread = self.0.get_or_init(|| {
            let (ask, questions) = sync_channel(MOST_WAITING);
            std::thread::Builder::new()
                .name("insight".into())
                .spawn(move || answer(&questions))
                .ok()
                .map(|_| ask)
        });
        let Some(ask) = thread else {
            return Err("processes cannot be looked at: there can be no thread more".to_owned());
        };
        let (reply, answer) = oneshot::channel();
        let late = || {
            "processes cannot be looked at now: a file of one of them is slow to read".to_owned()
        };
        ask.try_send((servers, reply)).map_err(|_| late())?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(groups)) => Ok(groups),
            _ => Err(late()),
        }
    }
}

/// Ends when the daemon does.
fn answer(questions: &Receiver<Question>) {
    let mut look = looker();
    for (servers, reply) in questions {
        // Whoever does not wait any more needs no answer.
        if !reply.is_closed()
            && let Ok(groups) = look(&servers)
        {
            let _ = reply.send(groups);
        }
    }
}

/// Who looks: a helper. One that has ended is asked no more; whoever asks next gets another.
#[cfg(not(test))]
fn looker() -> impl FnMut(&Servers) -> std::io::Result<Groups> {
    use crate::evidence::helpers::{Helper, OURSELVES, command};
    use crate::evidence::insight::WORK;
    let mut helper: Option<Helper<Servers, Groups>> = None;
    move |servers| {
        let mut asked = match helper.take() {
            Some(known) => known,
            None => Helper::start(command(OURSELVES.as_ref(), WORK))?,
        };
        asked.give(servers)?;
        let groups = asked.answer()?;
        helper = Some(asked);
        Ok(groups)
    }
}

/// These tests are no hubwarden that could be started as a helper; tests/evidence/ starts one.
#[cfg(test)]
fn looker() -> impl FnMut(&Servers) -> std::io::Result<Groups> {
    let mut insight = crate::evidence::insight::Insight::default();
    move |servers| Ok(insight.look(servers))
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// What runs in every server, or in those of one Unix user.
    pub(super) async fn processes(
        &self,
        whose: Option<u32>,
    ) -> Result<Vec<ServerProcesses>, String> {
        let places = self.inner.borrow().places_of_processes(whose);
        let asked = places
            .iter()
            .flat_map(|place| place.directories.iter().cloned())
            .collect();
        let mut found = self.observer.look(asked).await?;
        Ok(places
            .into_iter()
            .map(|place| {
                let directories = place.directories.iter();
                let groups =
                    together(directories.flat_map(|(id, _)| found.remove(id).unwrap_or_default()));
                ServerProcesses {
                    cgroup: place.cgroup,
                    groups: groups.into_iter().map(shown).collect(),
                }
            })
            .collect())
    }
}

/// Where a server's processes are.
struct Place {
    cgroup: String,
    directories: Servers,
}

impl Inner {
    fn places_of_processes(&self, whose: Option<u32>) -> Vec<Place> {
        let directory = |id: CgroupId, cgroup: &crate::cgroup::CgroupPath| {
            let path = cgroup.as_str().trim_start_matches('/');
            (id.0, self.root.join(path))
        };
        let guarded = || {
            self.entries.values().filter_map(|entry| match entry {
                Entry::Guarded(guarded) => Some(guarded),
                _ => None,
            })
        };
        // What a user runs outside the server is shown with it.
        let mut outside: BTreeMap<CgroupId, Servers> = BTreeMap::new();
        for follower in guarded() {
            if let Some(lead) = follower.lead {
                let place = directory(follower.id, &follower.cgroup);
                outside.entry(lead).or_default().push(place);
            }
        }
        guarded()
            .filter(|guarded| guarded.lead.is_none())
            .filter(|guarded| whose.is_none() || guarded.server.uid == whose)
            .map(|guarded| {
                let mut directories = vec![directory(guarded.id, &guarded.cgroup)];
                directories.extend(outside.remove(&guarded.id).unwrap_or_default());
                Place {
                    cgroup: guarded.cgroup.to_string(),
                    directories,
                }
            })
            .collect()
    }
}

/// A program that runs both in a server and outside it is one line; busiest first, and what is left
/// of many last.
fn together(all: impl Iterator<Item = Group>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for group in all {
        let same =
            |known: &&mut Group| (known.kind, &known.program) == (group.kind, &group.program);
        match groups.iter_mut().find(same) {
            Some(known) => {
                known.processes += group.processes;
                known.cpu.0 += group.cpu.0;
            }
            None => groups.push(group),
        }
    }
    groups.sort_by(|a, b| {
        let by_cpu = || b.cpu.0.total_cmp(&a.cpu.0);
        a.kind.is_none().cmp(&b.kind.is_none()).then_with(by_cpu)
    });
    groups
}

fn shown(group: Group) -> ProcessGroup {
    ProcessGroup {
        kind: group.kind.map_or("others", |kind| kind.as_str()).to_owned(),
        program: group.program,
        processes: u32::try_from(group.processes).unwrap_or(u32::MAX),
        cpu_cores: group.cpu.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::binary::Kind;
    use crate::units::Cores;

    #[test]
    fn a_program_in_a_server_and_outside_it_is_one_line_and_what_is_left_comes_last() {
        let group = |kind, program: &str, processes, cpu| Group {
            kind,
            program: program.into(),
            processes,
            cpu: Cores(cpu),
        };
        let python = "/usr/bin/python3.11";
        let inside = [
            group(Some(Kind::Python), python, 3, 0.25),
            group(None, "", 9, 2.0),
        ];
        let outside = [
            group(Some(Kind::System), "/usr/bin/bash", 1, 0.5),
            group(Some(Kind::Python), python, 1, 0.5),
            group(None, "", 1, 1.0),
        ];
        let groups = together(inside.into_iter().chain(outside));
        let expected = [
            group(Some(Kind::Python), python, 4, 0.75),
            group(Some(Kind::System), "/usr/bin/bash", 1, 0.5),
            group(None, "", 10, 3.0),
        ];
        assert_eq!(groups, expected);
    }
}
