//! What the daemon itself costs over a minute: its real loop, reader, judge, state file and packet
//! rules (in a network namespace of its own), with a systemd that answers from a map.

use crate::bed::Bed;
use crate::figure;
use egress::{Kernel, RepairThread};
use hubwarden::act::{ActError, CpuControl, KernelControls, Owner, Placement, Undo, UndoStore};
use hubwarden::config::Config;
use hubwarden::daemon::{Inlets, OffSwitch, Parts, Store, run as run_daemon};
use hubwarden::hub::{Account, UnitFacts, UnitName, Units};
use hubwarden::report::Journal;
use hubwarden::sd_bus::SdBusError;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use policy::Controls;
use quantities::Mode;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Until everybody is found and has a limit.
const SETTLE: Duration = Duration::from_secs(15);
const MEASURE: Duration = Duration::from_secs(60);

pub fn run() {
    for servers in ["1000", "5000"] {
        run_with(servers, "0");
    }
}

/// A thousand servers, and two of them compute: their sensors look at these.
pub fn run_hot() {
    run_with("1000", "2");
}

fn run_with(servers: &str, hot: &str) {
    let myself = std::env::current_exe().expect("our own path");
    let output = Command::new(myself)
        .args(["daemon-child", servers, hot])
        .output()
        .expect("a child of our own");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

/// A process that computes in a server's cgroup.
struct Spinner(std::process::Child);

impl Spinner {
    fn new(directory: &Path) -> Spinner {
        let child = Command::new("/bin/sh")
            .args(["-c", "echo $$ > \"$0\" && while :; do :; done"])
            .arg(directory.join("cgroup.procs"))
            .spawn();
        Spinner(child.expect("a shell"))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process of its own, so that its memory is the daemon's.
pub fn child(servers: &str, hot: &str) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of our own (root is needed)");
    let bed = Bed::new(servers.parse().expect("a number"));
    let hot: usize = hot.parse().expect("a number");
    // Put away before the bed is, whose cgroups they are in.
    let spinners: Vec<Spinner> = bed.paths().take(hot).map(|at| Spinner::new(&at)).collect();
    let name = match hot {
        0 => servers.to_owned(),
        hot => format!("{servers}_{hot}_hot"),
    };
    let state = tempfile::tempdir().expect("a directory");
    let parts = parts(&bed.root, state.path());
    let shutdown = async {
        tokio::time::sleep(SETTLE).await;
        let before = cpu();
        tokio::time::sleep(MEASURE).await;
        let percent = 100.0 * (cpu() - before).as_secs_f64() / MEASURE.as_secs_f64();
        figure(&format!("daemon_cpu_percent_{name}"), percent, "%");
        figure(&format!("daemon_rss_mb_{name}"), rss_mb(), "MB");
    };
    runtime()
        .block_on(run_daemon(parts, shutdown))
        .expect("the daemon runs");
    drop(spinners);
}

/// One thread's, as the daemon has it.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The daemon with everything real but systemd, and nobody to ask it anything.
pub fn parts(root: &Path, state: &Path) -> Parts<Map, Map> {
    let (journal, entries) = Journal::queue();
    std::thread::spawn(move || entries.into_iter().for_each(drop));
    let (ask, commands) = hubwarden::control::mailbox();
    // A daemon that nobody can ask any more ends.
    std::mem::forget(ask);
    let (_refuse, refusals) = mpsc::channel(1);
    let (_ask_name, asked) = mpsc::channel(1);
    let (_repair, repairs) = mpsc::channel(1);
    let config = Config {
        mode: Mode::Enforce,
        ..Config::default()
    };
    let systemd = Map::default();
    Parts {
        config,
        heartbeats: Default::default(),
        config_path: state.join("config.toml"),
        root: root.to_owned(),
        store: Store::new(state).expect("a store"),
        undo: UndoStore::new(&state.join("undo")),
        placement: Placement::below(&state.join("system"), root),
        switch: OffSwitch::new(&state.join("run"), state),
        cpu: systemd.clone(),
        units: systemd,
        firewall: Box::new(Kernel::open().expect("nftables")),
        journal,
        answers: Default::default(),
        inlets: Inlets {
            refusals,
            asked,
            repairs,
            commands,
        },
    }
}

/// The same, told of what others do to its packet rules, which it does not own, as before kernel
/// 6.9.
pub fn told_of_intrusions(root: &Path, state: &Path) -> Parts<Map, Map> {
    let nft = Arc::new(Mutex::new(Kernel::open().expect("nftables")));
    let repair_thread = RepairThread::open(Arc::clone(&nft)).expect("a repair thread");
    let (tell, repairs) = mpsc::channel(64);
    std::thread::spawn(move || repair_thread.run(&tell).expect("all changes heard"));
    let mut parts = parts(root, state);
    parts.firewall = Box::new(nft);
    parts.inlets.repairs = repairs;
    parts
}

/// What the daemon and its workers used.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("our own usage");
    let time = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
    };
    let workers: Duration = workers().iter().map(|pid| cpu_of(pid)).sum();
    time(usage.user_time()) + time(usage.system_time()) + workers
}

/// Children that are this program too; those that compute for us are not.
fn workers() -> Vec<String> {
    let ourselves = std::fs::read_link("/proc/self/exe").expect("our own program");
    let threads = std::fs::read_dir("/proc/self/task").expect("our own threads");
    let children = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("children")).ok()?;
        Some(
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    });
    let is_ours = |pid: &String| {
        std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == ourselves)
    };
    children.flatten().filter(is_ours).collect()
}

/// By `/proc/PID/stat` (proc(5)): `utime` and `stime`, in hundredths of a second.
fn cpu_of(pid: &str) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_the_name = text.rsplit(") ").next().unwrap_or_default();
    let fields = behind_the_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

/// What the daemon holds, and what its workers do that is not the daemon's too.
fn rss_mb() -> f64 {
    let workers: f64 = workers().iter().map(|pid| share_of(pid)).sum();
    rss_of("self") + workers
}

/// Of a page that several map this counts a part for each (`Pss`, proc(5)).
fn share_of(pid: &str) -> f64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let words = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    words.unwrap_or_default() / 1024.0
}

fn rss_of(pid: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("our own status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    let kb: f64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse().ok())
        .expect("kB");
    kb / 1024.0
}

/// A systemd that knows every `jupyter-USER.service`.
#[derive(Clone, Default)]
pub struct Map(Rc<RefCell<BTreeMap<String, Controls>>>);

impl Units for Map {
    async fn facts(&self, unit: &UnitName) -> Result<UnitFacts, SdBusError> {
        Ok(UnitFacts {
            transient: true,
            user: unit.as_str().strip_suffix(".service").map(str::to_owned),
            uid: Some(1000),
            dynamic_user: false,
            ..UnitFacts::default()
        })
    }

    async fn account(&self, _uid: u32) -> Result<Account, hubwarden::hub::NotNow> {
        Ok(Account::default())
    }
}

impl CpuControl for Map {
    async fn read(&self, owner: &Owner) -> Result<Controls, ActError> {
        let settings = self.0.borrow().get(&owner.to_string()).copied();
        Ok(settings.unwrap_or_default())
    }

    async fn apply(
        &self,
        owner: &Owner,
        _from: Option<&Controls>,
        to: &Controls,
    ) -> Result<(), ActError> {
        self.0.borrow_mut().insert(owner.to_string(), *to);
        Ok(())
    }

    async fn stop(&self, _owner: &Owner) -> Result<(), ActError> {
        Ok(())
    }

    fn kernel(&self, _: &Owner) -> Result<KernelControls, ActError> {
        Ok(KernelControls::default())
    }

    fn lift(&self, _: &Undo) -> Result<(), ActError> {
        Ok(())
    }

    async fn thaw_after(&self, _: &Owner, _: Duration) -> Result<(), ActError> {
        Ok(())
    }

    async fn thaw_no_more(&self, _: &Owner) -> Result<(), ActError> {
        Ok(())
    }
}
