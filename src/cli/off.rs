//! `hubwarden off` and `on`, with a daemon, beside one that hangs, and without one.

use super::answer::{complain, connect, say};
use super::run::RUNTIME_DIRECTORY;
use super::{Failure, runtime};
use crate::act::{ByOwner, CgroupCpu, Placement, SystemdCpu, UndoStore};
use crate::control::{Client, ClientError};
use crate::daemon::{DaemonLock, OffSwitch, Store, lift};
use crate::sd_bus::SdBus;
use egress::{Error, Firewall, HOLDER, Kernel};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A daemon that does not answer a question within this hangs.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// One that is being started is asked again after this.
const ASKED_AGAIN: Duration = Duration::from_millis(100);
/// Lifting thousands of limits takes a while; a daemon that lives is given so long for it.
const LIFTS_WITHIN: Duration = Duration::from_secs(60);
/// systemd kills a holder that does not stop by itself after a quarter of this.
const HOLDER_ENDS_WITHIN: Duration = Duration::from_secs(8);
/// A process that was killed is gone by then, unless it waits for a disk.
const GONE_WITHIN: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

pub(super) fn off(state: &Path) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let hangs = match ask_while_it_starts().await {
            Asked::Done(words) => return say(&words),
            Asked::Failed(why) => return Err(Failure::new(why)),
            Asked::Hangs(why) => Some(why),
            Asked::NotYet | Asked::NotRunning => None,
        };
        if !nix::unistd::geteuid().is_root() {
            let why = hangs.unwrap_or_else(|| "the daemon is not running".to_owned());
            return Err(Failure::new(format!(
                "{why}, and without it only root can switch off; use sudo"
            )));
        }
        let switch = OffSwitch::new(Path::new(RUNTIME_DIRECTORY), state);
        if let Some(why) = hangs {
            complain(format_args!(
                "hubwarden: {why}; lifting everything without it"
            ));
        }
        end_daemon(&switch);
        off_without_daemon(&switch, state).await
    })
}

/// What a daemon that may be there did.
enum Asked {
    Done(String),
    Failed(String),
    Hangs(String),
    /// It is there and cannot be asked yet.
    NotYet,
    NotRunning,
}

/// Asks a daemon that is just being started once it can be asked.
async fn ask_while_it_starts() -> Asked {
    let until = Instant::now() + ANSWERS_WITHIN;
    loop {
        let asked = ask_daemon().await;
        if !matches!(asked, Asked::NotYet) || Instant::now() >= until {
            return asked;
        }
        tokio::time::sleep(ASKED_AGAIN).await;
    }
}

async fn ask_daemon() -> Asked {
    let runtime = Path::new(RUNTIME_DIRECTORY);
    // The lock is root's to look at; without a daemon there is no one to wait for.
    let is_root = nix::unistd::geteuid().is_root();
    if is_root && DaemonLock::holder(runtime).is_none() {
        return Asked::NotRunning;
    }
    let client = match tokio::time::timeout(ANSWERS_WITHIN, Client::open()).await {
        Ok(Ok(client)) => client,
        Ok(Err(ClientError::NotRunning)) if is_root => return Asked::NotYet,
        Ok(Err(ClientError::NotRunning | ClientError::NoBus(_))) => return Asked::NotRunning,
        Ok(Err(error)) => return Asked::Hangs(error.to_string()),
        Err(_) => return Asked::Hangs("the daemon cannot be asked".to_owned()),
    };
    match alive(&client).await {
        Ok(()) => {}
        // The lock is taken before the first question can be answered.
        Err(Asked::NotRunning) if is_root => return Asked::NotYet,
        Err(other) => return other,
    }
    match tokio::time::timeout(LIFTS_WITHIN, client.off()).await {
        Ok(Ok(words)) => Asked::Done(words),
        Ok(Err(ClientError::Refused(words))) => Asked::Failed(words),
        Ok(Err(ClientError::NotRunning)) => Asked::NotRunning,
        Ok(Err(error)) => Asked::Hangs(error.to_string()),
        Err(_) => Asked::Hangs(format!(
            "the daemon has not lifted everything within {} s",
            LIFTS_WITHIN.as_secs()
        )),
    }
}

/// Whether the daemon's loop turns.
async fn alive(client: &Client) -> Result<(), Asked> {
    match tokio::time::timeout(ANSWERS_WITHIN, client.status()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(ClientError::NotRunning)) => Err(Asked::NotRunning),
        // Whoever may not ask is told so by the next question.
        Ok(Err(ClientError::Refused(_))) => Ok(()),
        Ok(Err(error)) => Err(Asked::Hangs(error.to_string())),
        Err(_) => Err(Asked::Hangs(format!(
            "the daemon does not answer within {} s",
            ANSWERS_WITHIN.as_secs()
        ))),
    }
}

/// Ends a daemon that holds the lock and does not answer: while it lives the kernel keeps its table for
/// it alone (6.9), and it would put back what is lifted. What systemd starts in its place finds
/// supervision switched off.
fn end_daemon(switch: &OffSwitch) {
    // First: one that takes the lock after this finds it, and one that took it before is ended.
    if let Err(error) = switch.off_until_reboot() {
        complain(format_args!("hubwarden: {error}"));
    }
    let Some(holder) = DaemonLock::holder(Path::new(RUNTIME_DIRECTORY)) else {
        return;
    };
    let ended = Pid::from_raw(holder)
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .and_then(|process| {
            pidfd_send_signal(&process, Signal::KILL)?;
            poll(
                &mut [PollFd::new(&process, PollFlags::IN)],
                Some(&GONE_WITHIN),
            )
        });
    match ended {
        Ok(0) => complain(format_args!(
            "hubwarden: process {holder} was killed and does not end"
        )),
        // Already gone is as good.
        Ok(_) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => complain(format_args!("hubwarden: process {holder}: {error}")),
    }
}

async fn off_without_daemon(switch: &OffSwitch, state: &Path) -> Result<(), Failure> {
    let root = cgroup::find_root().map_err(Failure::new)?;
    let cgroups = CgroupCpu::new(&root);
    let cpu = match tokio::time::timeout(ANSWERS_WITHIN, SdBus::open()).await {
        Ok(Ok(systemd)) => ByOwner::new(SystemdCpu::new(systemd), cgroups),
        Ok(Err(error)) => ByOwner::without_systemd(error.to_string(), cgroups),
        Err(_) => ByOwner::without_systemd("no answer".to_owned(), cgroups),
    };
    let mut undo = UndoStore::new(&undo_directory());
    let store = Store::new(state).ok();
    let mut firewall = firewall()?;
    let held = firewall.needs_holder();
    let placement = Placement::new(&root);
    let lifted = lift(
        switch,
        &mut undo,
        store.as_ref(),
        &cpu,
        &mut firewall,
        &placement,
    )
    .await;
    if held {
        end_holder();
    }
    if lifted.complaints.is_empty() {
        return say(&format!(
            "hubwarden was switched off without its daemon: the packet rules are removed, and the \
             limits of {} units are as their owners set them (read back). `hubwarden on` resumes.",
            lifted.units
        ));
    }
    Err(Failure::new(lifted.complaints.join("\nhubwarden: ")))
}

/// The packet rules, so that they can be removed: where they belong to a socket that the holder has,
/// by that socket; where it does not give that away, it is ended, and they end with it.
fn firewall() -> Result<Kernel, Failure> {
    let firewall = Kernel::open().map_err(Failure::new)?;
    let mut firewall = firewall.owning().held(Path::new(HOLDER));
    let is_owned = |firewall: &mut Kernel| matches!(firewall.remove(), Err(Error::Owned));
    if firewall.needs_holder() && is_owned(&mut firewall) {
        // What is wrong with it is seen by the next line.
        let _ = firewall.follow_holder(ANSWERS_WITHIN);
        if is_owned(&mut firewall) {
            end_holder();
        }
    }
    // systemd closes what a unit left a moment after the unit has ended, and a process that the daemon
    // was just about to start has the daemon's sockets until it runs.
    let until = Instant::now() + ANSWERS_WITHIN;
    while is_owned(&mut firewall) && Instant::now() < until {
        std::thread::sleep(ASKED_AGAIN);
    }
    Ok(firewall)
}

/// Ends what holds the rules' socket, with all that systemd keeps for it. Its own socket goes on
/// listening, for a daemon that is switched on again.
fn end_holder() {
    let mut command = Command::new("systemctl");
    command.args(["--quiet", "stop", "hubwarden-table.service"]);
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    // Where there is no such unit, or no systemd, nothing holds anything.
    let Ok(mut child) = command.stderr(Stdio::null()).spawn() else {
        return;
    };
    let until = Instant::now() + HOLDER_ENDS_WITHIN;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= until {
            let _ = child.kill();
            let _ = child.wait();
            complain("hubwarden: hubwarden-table.service does not stop");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where records of changed limits are.
pub(super) fn undo_directory() -> PathBuf {
    Path::new(RUNTIME_DIRECTORY).join("undo")
}

pub(super) fn on(state: &Path) -> Result<(), Failure> {
    runtime()?.block_on(async {
        match connect().await?.on().await {
            Ok(words) => say(&words),
            Err(ClientError::NotRunning) => {
                let switch = OffSwitch::new(Path::new(RUNTIME_DIRECTORY), state);
                switch.on().map_err(Failure::new)?;
                say("hubwarden will supervise as soon as it runs: systemctl start hubwarden")
            }
            Err(error) => Err(Failure::new(error)),
        }
    })
}
