//! What one sample of one server costs, and what the simple ways would.

use crate::bed::Bed;
use crate::figure;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, Hierarchy, Subsystem};
use hubwarden::cgroup::stat::CpuStat;
use hubwarden::cgroup::{CgroupPath, Reader};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SWEEPS: usize = 15;

pub fn run() {
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
