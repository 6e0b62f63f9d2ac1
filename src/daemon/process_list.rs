//! What runs in servers, when people ask.
//!
//! A thread of its own looks, and workers read what users' processes run: one for each user, since a
//! process can hold up whoever reads it. Whoever asks is told of the other users all the same.

use super::cgroups::{Cgroup, Guarded};
use super::{Shell, Tasks};
use crate::act::CpuControl;
use crate::control::{ProcessGroup, ServerProcesses};
use crate::heartbeats::{Heartbeats, Pulse};
use crate::hub::Units;
use quantities::CgroupId;
use sensors::process_list::{Group, Groups, Place as Asked, ProcessList, Programs};
use sensors::workers::{Holders, Owner};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Askers that wait for the thread.
const MOST_WAITING: usize = 8;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// To answer takes half a second, and three for workers at most.
const MOST_BUSY: Duration = Duration::from_secs(30);

type Question = (Vec<Asked>, oneshot::Sender<Groups>);

/// The thread that looks, once somebody has asked.
pub(super) struct Observer {
    thread: OnceCell<Option<SyncSender<Question>>>,
    holders: Holders,
    heartbeats: Heartbeats,
}

impl Observer {
    /// Beside others who read users' processes.
    pub fn new(holders: &Holders, heartbeats: &Heartbeats) -> Observer {
        Observer {
            thread: OnceCell::new(),
            holders: holders.clone(),
            heartbeats: heartbeats.clone(),
        }
    }

    async fn look(&self, servers: Vec<Asked>) -> Result<Groups, String> {
        let thread = self.thread.get_or_init(|| {
            let (ask, questions) = sync_channel(MOST_WAITING);
            let holders = self.holders.clone();
            let questions = Mutex::new(questions);
            let body = move |pulse: &Pulse| answer(&questions, &holders, pulse);
            let thread = self.heartbeats.keep("insight", MOST_BUSY, false, body);
            thread.ok().map(|()| ask)
        });
        let Some(ask) = thread else {
            return Err("processes cannot be looked at: there can be no thread more".to_owned());
        };
        let (reply, answer) = oneshot::channel();
        let late =
            || "processes cannot be looked at now: too many ask at once; try again".to_owned();
        ask.try_send((servers, reply)).map_err(|_| late())?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(groups)) => Ok(groups),
            _ => Err(late()),
        }
    }
}

/// Ends when the daemon does.
fn answer(questions: &Mutex<Receiver<Question>>, holders: &Holders, pulse: &Pulse) {
    let mut insight = ProcessList::default();
    let mut programs = programs(holders);
    let next = || {
        let questions = questions.lock().unwrap_or_else(PoisonError::into_inner);
        questions.recv()
    };
    loop {
        pulse.rest();
        let Ok((servers, reply)) = next() else {
            return pulse.done();
        };
        if !pulse.beat() {
            return;
        }
        // Whoever does not wait any more needs no answer.
        if !reply.is_closed() {
            let _ = reply.send(insight.look(&servers, &mut programs));
        }
    }
}

/// What reads: workers.
#[cfg(not(test))]
fn programs(
    holders: &Holders,
) -> impl FnMut(BTreeMap<Owner, Vec<u32>>) -> BTreeMap<Owner, Programs> + use<> {
    let mut readers = super::readers::Readers::new(holders, sensors::process_list::WORK);
    move |processes| readers.read(processes)
}

/// These tests are no hubwarden that could be started as a worker; tests/evidence/ starts one.
#[cfg(test)]
fn programs(
    _: &Holders,
) -> impl FnMut(BTreeMap<Owner, Vec<u32>>) -> BTreeMap<Owner, Programs> + use<> {
    let mut reader = sensors::process_list::Reader::default();
    move |processes| {
        let of = |(owner, pids): (Owner, Vec<u32>)| (owner, reader.programs(&pids));
        processes.into_iter().map(of).collect()
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// What runs in every server, or in those of one Unix user.
    pub(super) async fn processes(
        &self,
        whose: Option<u32>,
    ) -> Result<Vec<ServerProcesses>, String> {
        let places = self.turn(move |daemon| daemon.shell.places_of_processes(whose));
        let places = places.await;
        let asked = places
            .iter()
            .flat_map(|place| place.directories.iter().cloned())
            .collect();
        let mut found = self.observer.look(asked).await?;
        Ok(places
            .into_iter()
            .map(|place| {
                let directories = place.directories.iter();
                let groups = together(
                    directories.flat_map(|place| found.remove(&place.id).unwrap_or_default()),
                );
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
    directories: Vec<Asked>,
}

impl Shell {
    fn places_of_processes(&self, whose: Option<u32>) -> Vec<Place> {
        let directory = |guarded: &Guarded| {
            let path = guarded.cgroup.as_str().trim_start_matches('/');
            Asked {
                id: guarded.id.0,
                owner: guarded.read_for(),
                directory: self.root.join(path),
            }
        };
        let guarded = || {
            self.registry
                .entries
                .values()
                .filter_map(|entry| match entry {
                    Cgroup::Server(guarded) => Some(guarded),
                    _ => None,
                })
        };
        // What a user runs outside the server is shown with it.
        let mut outside: BTreeMap<CgroupId, Vec<Asked>> = BTreeMap::new();
        for follower in guarded() {
            let lead = self.node.accounts().account_of(follower.id);
            if lead != follower.id {
                let place = directory(follower);
                outside.entry(lead).or_default().push(place);
            }
        }
        guarded()
            .filter(|guarded| self.node.accounts().account_of(guarded.id) == guarded.id)
            .filter(|guarded| whose.is_none() || guarded.server.uid == whose)
            .map(|guarded| {
                let mut directories = vec![directory(guarded)];
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
    use quantities::Cores;
    use sensors::binary::Kind;

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
