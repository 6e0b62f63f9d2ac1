//! How late an interactive thread wakes beside a spinner in the same throttled server: with the
//! period that hubwarden sets by default, and with systemd's.
//!
//! The process joins a cgroup of its own with the default baseline as its quota: on cgroup v2, or
//! where that has no cpu controller on v1, behind whose files stands the same bandwidth code.

use crate::figure;
use hubwarden::config::Config;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SYSTEMD_DEFAULT: Duration = Duration::from_millis(100);
const WAKES_EVERY: Duration = Duration::from_millis(100);
/// The two periods take turns of this length, so that a noisy machine disturbs both alike.
const TURN: Duration = Duration::from_secs(5);
const TURNS: usize = 8;
const NAME: &str = "hubwarden-bench-kindness-";

pub fn run() {
    let policy = hubwarden::daemon::policy(&Config::default().limits);
    let group = Group::new();
    group.come_first();
    let mut ways = [
        ("kindness_p99_ms", policy.period, Vec::new()),
        (
            "kindness_p99_ms_systemd_default",
            SYSTEMD_DEFAULT,
            Vec::new(),
        ),
    ];
    for _ in 0..TURNS {
        for (_, period, late) in &mut ways {
            group.set(policy.baseline.0, *period);
            late.extend(turn(&group));
        }
    }
    drop(group);
    for (name, period, late) in &mut ways {
        late.sort();
        let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        eprintln!(
            "quota {} with period {} ms: {} wakes, median {:.1} ms late, p99 {:.1} ms, worst {:.1} ms",
            policy.baseline,
            period.as_millis(),
            late.len(),
            at(0.5),
            at(0.99),
            at(1.0),
        );
        figure(name, at(0.99), "ms");
    }
}

/// A spinner and a waking thread in the group for one turn; how late each wake was.
fn turn(group: &Group) -> Vec<Duration> {
    let over = AtomicBool::new(false);
    let inside = Inside::of(group);
    let late = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                black_box(0);
            }
        });
        let late = scope.spawn(wakes).join();
        over.store(true, Ordering::Relaxed);
        late
    });
    drop(inside);
    late.expect("the waking thread ends by itself")
}

/// Wakes once in every 100 ms of a turn, at moments spread evenly over them: always at the same
/// point of the quota's period, it would measure nothing but that point.
fn wakes() -> Vec<Duration> {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let begun = Instant::now();
    let mut late = Vec::new();
    // The first second is left out: the quota has just been changed.
    let steps = TURN.div_duration_f64(WAKES_EVERY) as u32;
    for step in 10..steps {
        let point = (f64::from(step) * GOLDEN).fract();
        let due = begun + WAKES_EVERY * step + WAKES_EVERY.mul_f64(point);
        // A wake that came after the next was due: that one is late from its own moment on.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        late.push(due.elapsed());
    }
    late
}

/// The cgroup with the quota.
struct Group {
    directory: PathBuf,
    unified: bool,
}

impl Group {
    fn new() -> Group {
        let unified = cgroup::find_root().expect("cgroup v2 is mounted");
        if let Some(group) = Group::below(&unified, "cpu.max") {
            return group;
        }
        ["cpu", "cpu,cpuacct"]
            .iter()
            .find_map(|mount| {
                Group::below(&Path::new("/sys/fs/cgroup").join(mount), "cpu.cfs_quota_us")
            })
            .expect("a cpu controller, on cgroup v2 or v1 (root is needed)")
    }

    /// A group there, if it can have a quota.
    fn below(mount: &Path, file: &str) -> Option<Group> {
        remove_stale(mount);
        let group = Group {
            directory: mount.join(format!("{NAME}{}", std::process::id())),
            unified: file == "cpu.max",
        };
        std::fs::create_dir(&group.directory).ok()?;
        // Counterfactual it is dropped here, and removed by that.
        group.directory.join(file).exists().then_some(group)
    }

    /// The greatest weight, so that what else the machine does is not measured too.
    fn come_first(&self) {
        if self.unified {
            self.write("cpu.weight", "10000");
        } else {
            self.write("cpu.shares", "262144");
        }
    }

    fn set(&self, cores: f64, period: Duration) {
        let period = period.as_micros();
        let quota = (period as f64 * cores) as u64;
        if self.unified {
            self.write("cpu.max", &format!("{quota} {period}"));
        } else {
            // Lifted first: the kernel refuses a quota that the other period would make too high.
            self.write("cpu.cfs_quota_us", "-1");
            self.write("cpu.cfs_period_us", &period.to_string());
            self.write("cpu.cfs_quota_us", &quota.to_string());
        }
    }

    fn write(&self, file: &str, text: &str) {
        write(&self.directory.join(file), text);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir(&self.directory) {
            let shown = self.directory.display();
            if self.directory.exists() {
                eprintln!("{shown}: {error}; remove it by hand");
            }
        }
    }
}

/// This process is in the group as long as this lives, and then where it was.
struct Inside {
    back: PathBuf,
}

impl Inside {
    fn of(group: &Group) -> Inside {
        let mount = group.directory.parent().expect("a group of a hierarchy");
        let inside = Inside {
            back: mount.join(own_path(group.unified)).join("cgroup.procs"),
        };
        group.write("cgroup.procs", &std::process::id().to_string());
        inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        write(&self.back, &std::process::id().to_string());
    }
}

/// Where this process is in a hierarchy, relative to its root.
fn own_path(unified: bool) -> PathBuf {
    let text = std::fs::read_to_string("/proc/self/cgroup").expect("one's own cgroups");
    let path = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let mut names = controllers.split(',');
        let wanted = if unified { "" } else { "cpu" };
        names.any(|name| name == wanted).then_some(path)
    });
    PathBuf::from(
        path.expect("a line of that hierarchy")
            .trim_start_matches('/'),
    )
}

/// Groups of runs that were killed.
fn remove_stale(mount: &Path) {
    let Ok(groups) = std::fs::read_dir(mount) else {
        return;
    };
    for group in groups.flatten() {
        let name = group.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(NAME));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Whoever else has removed it is welcome.
            let _ = std::fs::remove_dir(group.path());
        }
    }
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
