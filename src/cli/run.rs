//! `hubwarden run`: the daemon.

use super::answer::complain;
use super::off::undo_directory;
use super::{Failure, runtime};
use crate::act::{ByOwner, CgroupCpu, Placement, SystemdCpu, UndoStore};
use crate::config::Config;
use crate::control::{Members, Outbox, SOCKET, ServeError};
use crate::daemon::{self, DaemonLock, Inlets, OffSwitch, Parts, Store};
use crate::heartbeats::{Heartbeats, Pulse};
use crate::hub::Units;
use crate::report::{Journal, Kind, Level, LogEntry};
use crate::sd_bus::SdBus;
use egress::names::{Asked, Counts, Reader};
use egress::{HOLDER, Kernel, Refusal, Repair, RepairThread};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Where systemd's `StateDirectory=` puts it.
pub(super) const STATE_DIRECTORY: &str = "/var/lib/hubwarden";
/// Where systemd's `RuntimeDirectory=` puts what one boot needs.
pub(super) const RUNTIME_DIRECTORY: &str = "/run/hubwarden";

/// A holder that is only being started answers within this; one that takes longer is used when it does.
const HOLDER_WITHIN: Duration = Duration::from_secs(5);
/// A thread that waits for the kernel rests; one that does not rest is busy no longer than this.
const MOST_BUSY: Duration = Duration::from_secs(180);

pub(super) fn run(config_path: PathBuf, state: &Path) -> Result<(), Failure> {
    let config = Config::load(&config_path).map_err(Failure::input)?;
    let root = cgroup::find_root().map_err(Failure::new)?;
    let runtime_directory = Path::new(RUNTIME_DIRECTORY);
    let _lock = DaemonLock::take(runtime_directory).map_err(Failure::new)?;
    let store = Store::new(state).map_err(Failure::new)?;
    let heartbeats = Heartbeats::default();
    let journal = Journal::start(&heartbeats).map_err(Failure::new)?;
    daemon::log_panics(&journal);
    runtime()?.block_on(async {
        let bus = SdBus::open().await.map_err(Failure::new)?;
        if let Some(why) = bus.lack() {
            let message = format!("systemd is reached in a way that users can block: {why}.");
            journal.log(LogEntry::new(Kind::Trouble, Level::Warning, message));
        }
        let (ask, commands) = crate::control::mailbox();
        serve(ask, &journal).await?;
        let firewall = firewall(&journal)?;
        let firewall = Arc::new(Mutex::new(firewall));
        let answers = Arc::default();
        let parts = Parts {
            placement: Placement::new(&root),
            cpu: ByOwner::new(SystemdCpu::new(bus.clone()), CgroupCpu::new(&root)),
            root,
            store,
            undo: UndoStore::new(&undo_directory()),
            switch: OffSwitch::new(runtime_directory, state),
            units: bus,
            inlets: Inlets {
                asked: names(
                    &firewall,
                    config.egress.dns_queue,
                    &answers,
                    &journal,
                    &heartbeats,
                ),
                repairs: repairs(&firewall, &journal, &heartbeats),
                refusals: refusals(config.egress.log_group, &journal),
                commands,
            },
            answers,
            firewall: Box::new(firewall),
            journal,
            config,
            config_path,
            heartbeats: heartbeats.clone(),
        };
        let mut term = signal(SignalKind::terminate()).map_err(Failure::new)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::new)?;
        let shutdown = async {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        daemon::run(parts, shutdown).await.map_err(Failure::new)
    })
}

/// Offers the service on the system bus and on the control socket. Without one of them it goes on
/// with the other: supervision needs neither.
async fn serve(ask: Outbox, journal: &Journal) -> Result<(), Failure> {
    let members = Arc::new(Members::default());
    let trouble = |error: &dyn std::fmt::Display| {
        LogEntry::new(
            Kind::Trouble,
            Level::Error,
            format!("Trouble with the service: {error}."),
        )
    };
    let told = journal.clone();
    let tell = move |error: &ServeError| told.log(trouble(error));
    match crate::control::serve(ask.clone(), Arc::clone(&members), tell).await {
        Ok(()) => {}
        Err(error @ ServeError::Taken) => return Err(Failure::new(error)),
        Err(error) => journal.log(trouble(&error)),
    }
    let listening = crate::control::listen(Path::new(SOCKET), ask, members).await;
    if let Err(error) = listening {
        journal.log(trouble(&format_args!(
            "{SOCKET} cannot be had, so that orders come over the system bus alone, where users \
             can delay them: {error}"
        )));
    }
    Ok(())
}

/// The packet rules' driver, proven able to do its work.
fn firewall(journal: &Journal) -> Result<Kernel, Failure> {
    use egress::Firewall;
    let firewall = Kernel::open().map_err(Failure::new)?;
    let mut firewall = firewall.owning().held(Path::new(HOLDER));
    // Before anything is loaded: what an earlier daemon left may be for the held socket alone to change.
    // Where there is no holder the tables are as they were, and `status` says what that means.
    firewall
        .follow_holder(HOLDER_WITHIN)
        .map_err(Failure::new)?;
    if let Err(error) = firewall.probe() {
        // CPU supervision goes on; every tick tries again, and `status` shows it.
        let message = format!("This kernel refuses the packet rules: {error}.");
        journal.log(LogEntry::new(Kind::Trouble, Level::Error, message));
    }
    Ok(firewall)
}

/// Puts back what others do to the packet rules on a thread of its own, so that no repair waits for
/// the daemon's loop; what was done comes out of the queue.
fn repairs(
    firewall: &Arc<Mutex<Kernel>>,
    journal: &Journal,
    heartbeats: &Heartbeats,
) -> mpsc::Receiver<Repair> {
    let (sender, repairs) = mpsc::channel(64);
    let down = |error: &dyn std::fmt::Display| {
        let message = format!("Changes of the packet rules are only seen at each tick: {error}.");
        LogEntry::new(Kind::Trouble, Level::Error, message)
    };
    let thread = match RepairThread::open(Arc::clone(firewall)) {
        Ok(thread) => thread,
        Err(error) => {
            journal.log(down(&error));
            return repairs;
        }
    };
    let (told, rules) = (journal.clone(), Arc::clone(firewall));
    // The first has listened since before the rules were loaded.
    let first = Mutex::new(Some(thread));
    let keep = move |pulse: &Pulse| {
        pulse.rest();
        let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = first.map_or_else(|| RepairThread::open(Arc::clone(&rules)), Ok);
        if let Err(error) = thread.and_then(|thread| thread.run(&sender)) {
            told.log(down(&error));
        }
        if sender.is_closed() {
            pulse.done();
        }
    };
    if let Err(error) = heartbeats.keep("repairs", MOST_BUSY, false, keep) {
        journal.log(down(&error));
    }
    repairs
}

/// Reads resolvers' answers on a thread of its own, so that no answer waits for the daemon's loop;
/// who asked for denied names comes out of the queue.
fn names(
    firewall: &Arc<Mutex<Kernel>>,
    queue: u16,
    counts: &Arc<Counts>,
    journal: &Journal,
    heartbeats: &Heartbeats,
) -> mpsc::Receiver<Asked> {
    let (sender, asked) = mpsc::channel(256);
    let (rules, told) = (Arc::clone(firewall), journal.clone());
    let counts = Arc::clone(counts);
    let read = move |pulse: &Pulse| {
        pulse.rest();
        let mut last = None;
        while !sender.is_closed() {
            let ended = Reader::open(
                queue,
                Arc::clone(&rules),
                Arc::clone(&counts),
                sender.clone(),
            )
            .and_then(|mut reader| reader.run(&AtomicBool::new(false)));
            if let Err(error) = ended {
                let message = format!(
                    "Resolvers' answers cannot be read, which is tried again every second: \
                     {error}. Meanwhile classes with names reach what they know already, and \
                     nothing new."
                );
                if last.as_ref() != Some(&message) {
                    told.log(LogEntry::new(Kind::Trouble, Level::Error, message.clone()));
                    last = Some(message);
                }
            }
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        pulse.done();
    };
    if let Err(error) = heartbeats.keep("names", MOST_BUSY, true, read) {
        let message = format!("Resolvers' answers cannot be read: no thread: {error}.");
        journal.log(LogEntry::new(Kind::Trouble, Level::Error, message));
    }
    asked
}

/// Refused packets, as the kernel tells of them.
fn refusals(group: u16, journal: &Journal) -> mpsc::Receiver<Refusal> {
    let (sender, refusals) = mpsc::channel(256);
    match egress::Refusals::listen(group) {
        Ok(mut log) => {
            tokio::spawn(async move {
                loop {
                    match log.next().await {
                        Ok(refusal) => {
                            if sender.send(refusal).await.is_err() {
                                return;
                            }
                        }
                        Err(error) => {
                            complain(format_args!(
                                "hubwarden: refusals are not told any more: {error}"
                            ));
                            return;
                        }
                    }
                }
            });
        }
        Err(error) => {
            let message = format!("Refusals cannot be told, though they happen: {error}.");
            journal.log(LogEntry::new(Kind::Trouble, Level::Error, message));
        }
    }
    refusals
}
