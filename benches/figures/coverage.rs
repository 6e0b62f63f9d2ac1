//! What it costs to compute who is not covered.

use crate::figure;
use hubwarden::config::Config;
use hubwarden::coverage::{Surveyor, naming};
use hubwarden_core::coverage::{
    Facts, Known, Looks, Membership, Network, Process, Said, Watch, survey,
};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use quantities::{CgroupPath, HubUser};
use sensors::workers::Holders;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROCESSES: u32 = 5_000;
/// Real processes of the bench's own, besides those of the machine.
const REAL: usize = 500;
const RUNS: u32 = 10;

pub fn run() {
    let watch = watch();
    let facts = facts();
    let begun = Instant::now();
    let mut rows = 0;
    for _ in 0..RUNS {
        rows = survey(&facts, &watch).rows.len();
    }
    let took = begun.elapsed() / RUNS;
    assert_eq!(rows, 50, "one for each unit that is not watched");
    figure(
        "coverage_judge_5000_processes_ms",
        took.as_secs_f64() * 1e3,
        "ms",
    );

    let mut sleepers: Vec<Child> = (0..REAL)
        .map(|_| {
            let mut sleep = Command::new("sleep");
            sleep.arg("600").stdin(Stdio::null());
            sleep.spawn().expect("a process that sleeps")
        })
        .collect();
    let mut surveyor = Surveyor::new(&Holders::default());
    let config = Config::default();
    // The first one starts workers and asks for the names of accounts.
    let first = Instant::now();
    let _ = surveyor.survey_by(&config);
    let first = first.elapsed();
    let begun = used(UsageWho::RUSAGE_SELF);
    for _ in 0..RUNS {
        let _ = surveyor.survey_by(&config);
    }
    let own = (used(UsageWho::RUSAGE_SELF) - begun) / RUNS;
    // What workers used is known once they have ended. The first survey is among theirs.
    let begun = used(UsageWho::RUSAGE_CHILDREN);
    drop(surveyor);
    let workers = (used(UsageWho::RUSAGE_CHILDREN) - begun) / (RUNS + 1);
    let processes = std::fs::read_dir("/proc").expect("procfs").flatten();
    let processes = processes.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy()
            .bytes()
            .all(|byte| byte.is_ascii_digit())
    });
    let count = processes.count() as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count;
    figure("coverage_first_survey_ms", first.as_secs_f64() * 1e3, "ms");
    figure("coverage_survey_process_cpu_us", each(own), "us");
    figure("coverage_workers_process_cpu_us", each(workers), "us");
    for sleeper in &mut sleepers {
        let _ = sleeper.kill();
        let _ = sleeper.wait();
    }
}

/// CPU time used so far.
fn used(by: UsageWho) -> Duration {
    let usage = getrusage(by).expect("getrusage(2)");
    let micros = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    micros(usage.user_time()) + micros(usage.system_time())
}

fn watch() -> Watch {
    let known = |user: u32| {
        let server = Known::Server {
            user: HubUser(format!("user{user}")),
            port: false,
            cpu: None,
            packets: None,
        };
        (unit(user), server)
    };
    Watch {
        known: (0..450).map(known).collect(),
        uids: Default::default(),
        listed: Vec::new(),
        naming: naming(&Config::default()),
    }
}

/// 500 users with ten processes each, of whom 450 are known.
fn facts() -> Facts {
    let process = |number: u32| Process {
        pid: number + 2,
        parent: Some(number / 10 * 10 + 2),
        uid: 1000 + number / 10,
        cgroup: Membership::Unified(unit(number / 10)),
        network: Network::Host,
        said: Some(Said {
            looks: number.is_multiple_of(10).then_some(Looks::Server),
            environment: true,
            user: Some(format!("user{}", number / 10)),
        }),
        unread: false,
    };
    Facts {
        processes: (0..PROCESSES).map(process).collect(),
        ..Facts::default()
    }
}

fn unit(user: u32) -> CgroupPath {
    let slice = if user < 450 {
        "jupyter.slice"
    } else {
        "other.slice"
    };
    CgroupPath::new(slice).join(&format!("jupyter-user{user}.service"))
}
