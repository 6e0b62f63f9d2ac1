//! What one sample of one server costs, and what the simple ways would.

use crate::bed::Bed;
use crate::figure;
use cgroup::Reader;
use cgroup::stat::CpuStat;
use cgroup::walk::{Budget, processes};
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, Hierarchy, Subsystem};
use quantities::CgroupPath;
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SWEEPS: usize = 15;

pub fn run() {
    sweeps();
    walks();
}

fn sweeps() {
    for servers in [1000, 5000] {
        let bed = Bed::new(servers);
        let cgroups: Vec<CgroupPath> = bed
            .paths()
            .map(|path| {
                CgroupPath::new(
                    path.strip_prefix(&bed.root)
                        .expect("below")
                        .to_str()
                        .expect("text"),
                )
            })
            .collect();
        let readers: Vec<Reader> = cgroups
            .iter()
            .map(|cgroup| Reader::open(&bed.root, cgroup).expect("counters"))
            .collect();
        let kept = || {
            for reader in &readers {
                black_box(reader.sample().expect("a sample"));
            }
        };
        let to_string = || {
            for cgroup in &cgroups {
                let path = bed.root.join(cgroup.as_str()).join("cpu.stat");
                let text = std::fs::read_to_string(path).expect("cpu.stat");
                black_box(CpuStat::parse(text.as_bytes()).expect("a sample"));
            }
        };
        let with_cgroups_rs = || {
            for cgroup in &cgroups {
                let hierarchy = Box::new(Unified(bed.root.clone()));
                let cgroup = Cgroup::load(hierarchy, cgroup.as_str());
                let cpu: &CpuController = cgroup.controller_of().expect("the cpu controller");
                black_box(CpuStat::parse(cpu.cpu().stat.as_bytes()).expect("a sample"));
            }
        };
        let ways: [(&str, &dyn Fn()); 3] = [
            ("", &kept),
            ("_read_to_string", &to_string),
            ("_cgroups_rs", &with_cgroups_rs),
        ];
        let mut times: [Vec<Duration>; 3] = Default::default();
        for _ in 0..SWEEPS {
            for ((_, way), times) in ways.iter().zip(&mut times) {
                let start = Instant::now();
                way();
                times.push(start.elapsed());
            }
        }
        for ((name, _), times) in ways.iter().zip(&mut times) {
            times.sort();
            let median = times[SWEEPS / 2].as_secs_f64() * 1e6 / servers as f64;
            figure(
                &format!("sweep_us_per_server_{servers}{name}"),
                median,
                "us",
            );
        }
    }
}

/// What it costs to find the processes of one server: by descriptors, and by paths as it was once.
fn walks() {
    let root = cgroup::find_root().expect("cgroup v2 is mounted");
    let top = root.join(format!("hubwarden-bench-{}", std::process::id()));
    std::fs::create_dir(&top).expect("a cgroup of our own (root is needed)");
    let mut children: Vec<Child> = (0..10)
        .map(|_| {
            let enter = "echo $$ > \"$0\" && echo && exec sleep 600";
            let mut child = Command::new("/bin/sh")
                .args(["-c", enter])
                .arg(top.join("cgroup.procs"))
                .stdout(Stdio::piped())
                .spawn()
                .expect("a process");
            let out = child.stdout.as_mut().expect("a pipe");
            out.read_exact(&mut [0]).expect("it is in its cgroup");
            child
        })
        .collect();
    let mut made = 0;
    for (cgroups, times) in [(1, 101), (1000, 31), (20_000, 5)] {
        while made + 1 < cgroups {
            made += 1;
            std::fs::create_dir(top.join(format!("{made}"))).expect("a cgroup");
        }
        let budget = || Budget::new(usize::MAX, usize::MAX, Duration::from_secs(60));
        let mut by_descriptors = Vec::new();
        let mut by_paths = Vec::new();
        for _ in 0..times {
            let start = Instant::now();
            let (found, all) = processes(&top, budget());
            by_descriptors.push(start.elapsed());
            assert!(all && found.len() == 10);
            let start = Instant::now();
            assert_eq!(walked_by_paths(&top).len(), 10);
            by_paths.push(start.elapsed());
        }
        for (name, times) in [("", by_descriptors), ("_by_paths", by_paths)] {
            let mut times = times;
            times.sort();
            let median = times[times.len() / 2].as_secs_f64() * 1e6;
            figure(&format!("walk_us_{cgroups}_cgroups{name}"), median, "us");
        }
    }
    for child in &mut children {
        let _ = child.kill();
        let _ = child.wait();
    }
    for number in 1..=made {
        let _ = std::fs::remove_dir(top.join(format!("{number}")));
    }
    for _ in 0..100 {
        if std::fs::remove_dir(&top).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("{} is still there; remove it by hand", top.display());
}

fn walked_by_paths(top: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let mut directories = vec![top.to_owned()];
    while let Some(directory) = directories.pop() {
        let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        let below = std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.extend(below.map(|entry| entry.path()));
    }
    found
}

/// What cgroups-rs makes of a unified host, at a mount of our choice: its own `V2` takes
/// /sys/fs/cgroup for granted, which a hybrid host has elsewhere.
#[derive(Debug)]
struct Unified(PathBuf);

impl Hierarchy for Unified {
    fn subsystems(&self) -> Vec<Subsystem> {
        // Its `V2` asks this file each time too.
        let _ = std::fs::read_to_string(self.0.join("cgroup.controllers"));
        let root = || self.0.clone();
        vec![
            Subsystem::Cpu(CpuController::new(root(), PathBuf::new(), true)),
            Subsystem::Mem(MemController::new(root(), PathBuf::new(), true)),
            Subsystem::Pid(PidController::new(root(), PathBuf::new(), true)),
        ]
    }

    fn root(&self) -> PathBuf {
        self.0.clone()
    }

    fn root_control_group(&self) -> Cgroup {
        Cgroup::load(Box::new(Unified(self.0.clone())), "")
    }

    fn parent_control_group(&self, path: &str) -> Cgroup {
        let parent = Path::new(path).parent().unwrap_or(Path::new(""));
        Cgroup::load(Box::new(Unified(self.0.clone())), parent)
    }

    fn v2(&self) -> bool {
        true
    }
}
