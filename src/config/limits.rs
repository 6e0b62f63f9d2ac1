//! What servers may use: `[cpu]`, `[memory]`, `[tasks]`, `[io]`, for everybody, by hub group and
//! by user.
//!
//! Each level is read as a patch: only the keys that stand there count. A user's limits are the
//! defaults, then those of the groups the user is in, in alphabetical order, then the user's own.

use super::decode::{FromToml, Section, Show};
use super::or_none::OrNone;
use super::values::Share;
use egress::ClassName;
use policy::{Repeat, Stage, Sustained, TimeLimits};
use quantities::{Bytes, CoreSeconds, Cores};
use std::time::Duration;
use toml::de::DeValue;

/// Everything one user's servers may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// CPU credits and limits.
    pub cpu: Cpu,
    /// What happens to servers that stay throttled.
    pub sustained: Sustained,
    /// Repeated throttling makes credits drain faster.
    pub repeat: Option<Repeat>,
    /// How long a server may run.
    pub time: TimeLimits,
    /// `memory.high`: above it the server is slowed down and reclaimed from.
    pub memory_high: Option<Bytes>,
    /// `memory.max`: above it the server's largest process is killed.
    pub memory_max: Option<Bytes>,
    /// `pids.max`: processes and threads.
    pub tasks_max: Option<u64>,
    /// IO weight, 1–10000; systemd's default is 100.
    pub io_weight: Option<u64>,
    /// Egress class, where it is not that of everybody.
    pub class: Option<ClassName>,
}

/// `[cpu]`: limit, baseline and credits of every server.
#[derive(Debug, Clone, PartialEq)]
pub struct Cpu {
    /// The most a server may use while it has credits; none means no limit of ours.
    pub limit: Option<Cores>,
    /// The rate at which credits refill, and the limit once they are spent.
    pub baseline: Cores,
    /// How much CPU above the baseline a rested server may use.
    pub credits: CoreSeconds,
    /// Whether spent credits throttle always, or only while others want the CPU.
    pub throttle_when: ThrottleWhen,
    /// CPU pressure of others, as the share of time that some of them waited, that counts as
    /// contention.
    pub contended_above: Share,
    /// Below this share of its credits a server gets a low weight.
    pub deprioritise_below: Share,
    /// Above this share it is free again.
    pub free_above: Share,
    /// CPU weight of a deprioritised server (1–10000; systemd's default is 100).
    pub weight: u64,
    /// Accounting period of our quota: short ones throttle gently.
    pub period: Duration,
    /// A server stays at least this long before the opposite happens to it.
    pub min_stay: Duration,
}

/// When spent credits throttle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottleWhen {
    /// Whoever has spent them is throttled.
    Always,
    /// Only while others wait for the CPU.
    Contended,
}

impl Default for Limits {
    fn default() -> Self {
        let policy = policy::Policy::default();
        Limits {
            cpu: Cpu {
                limit: policy.limit,
                baseline: policy.baseline,
                credits: policy.size,
                throttle_when: ThrottleWhen::Always,
                contended_above: Share(0.10),
                deprioritise_below: Share(policy.deprioritise_below),
                free_above: Share(policy.free_above),
                weight: policy.weight,
                period: policy.period,
                min_stay: policy.min_stay,
            },
            sustained: policy.sustained,
            repeat: policy.repeat,
            time: policy.time,
            memory_high: None,
            memory_max: None,
            tasks_max: None,
            io_weight: None,
            class: None,
        }
    }
}

/// The keys that stand at one level; `Some(None)` is `"none"`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patch {
    cpu: CpuPatch,
    sustained: SustainedPatch,
    time: TimePatch,
    memory_high: Option<Option<Bytes>>,
    memory_max: Option<Option<Bytes>>,
    tasks_max: Option<Option<u64>>,
    io_weight: Option<Option<u64>>,
    class: Option<ClassName>,
}

/// `[cpu]`, but for the next.
#[derive(Debug, Clone, Default, PartialEq)]
struct CpuPatch {
    limit: Option<Option<Cores>>,
    baseline: Option<Cores>,
    credits: Option<CoreSeconds>,
    throttle_when: Option<ThrottleWhen>,
    contended_above: Option<Share>,
    deprioritise_below: Option<Share>,
    free_above: Option<Share>,
    weight: Option<u64>,
    period: Option<Duration>,
    min_stay: Option<Duration>,
}

/// What `[cpu]` says of use that goes on.
#[derive(Debug, Clone, Default, PartialEq)]
struct SustainedPatch {
    freeze_after: Option<Option<Duration>>,
    freeze_for: Option<Duration>,
    after_freeze: Option<AfterFreeze>,
    repeat_window: Option<Option<Duration>>,
    repeat_faster: Option<Share>,
}

/// `[time]`.
#[derive(Debug, Clone, Default, PartialEq)]
struct TimePatch {
    cpu: Option<Option<CoreSeconds>>,
    wall: Option<Option<Duration>>,
    warn: Option<Duration>,
    then: Option<Then>,
}

impl Patch {
    /// Lays this level over what was below it. Two levels that contradict each other only
    /// together are brought into order here; each by itself was checked when it was read.
    pub fn apply(&self, limits: &mut Limits) {
        let cpu = &mut limits.cpu;
        set(&mut cpu.limit, &self.cpu.limit);
        set(&mut cpu.baseline, &self.cpu.baseline);
        set(&mut cpu.credits, &self.cpu.credits);
        set(&mut cpu.throttle_when, &self.cpu.throttle_when);
        set(&mut cpu.contended_above, &self.cpu.contended_above);
        set(&mut cpu.deprioritise_below, &self.cpu.deprioritise_below);
        set(&mut cpu.free_above, &self.cpu.free_above);
        set(&mut cpu.weight, &self.cpu.weight);
        set(&mut cpu.period, &self.cpu.period);
        set(&mut cpu.min_stay, &self.cpu.min_stay);
        cpu.limit = cpu.limit.map(|limit| {
            if limit < cpu.baseline {
                cpu.baseline
            } else {
                limit
            }
        });
        if cpu.deprioritise_below >= cpu.free_above {
            cpu.deprioritise_below = Share(cpu.free_above.0 / 2.0);
        }
        set(
            &mut limits.sustained.freeze_after,
            &self.sustained.freeze_after,
        );
        set(&mut limits.sustained.freeze_for, &self.sustained.freeze_for);
        if let Some(AfterFreeze(stop)) = self.sustained.after_freeze {
            limits.sustained.stop = stop;
        }
        if let Some(window) = self.sustained.repeat_window {
            let faster = limits.repeat.map_or(FASTER, |repeat| repeat.faster);
            limits.repeat = window.map(|window| Repeat { window, faster });
        }
        if let (Some(repeat), Some(faster)) = (&mut limits.repeat, self.sustained.repeat_faster) {
            repeat.faster = faster.0;
        }
        set(&mut limits.time.cpu, &self.time.cpu);
        set(&mut limits.time.wall, &self.time.wall);
        set(&mut limits.time.warn, &self.time.warn);
        if let Some(Then(then)) = self.time.then {
            limits.time.then = then;
        }
        set(&mut limits.memory_high, &self.memory_high);
        set(&mut limits.memory_max, &self.memory_max);
        set(&mut limits.tasks_max, &self.tasks_max);
        set(&mut limits.io_weight, &self.io_weight);
        if self.class.is_some() {
            limits.class.clone_from(&self.class);
        }
    }
}

fn set<T: Clone>(value: &mut T, patch: &Option<T>) {
    if let Some(patch) = patch {
        value.clone_from(patch);
    }
}

impl Patch {
    /// Reads `egress_class`, which only groups and users have: everybody's is `egress.class`.
    pub(super) fn read_class(&mut self, section: &mut Section<'_, '_>, egress: &mut super::Egress) {
        if let Some(text) = section.optional::<String>("egress_class") {
            self.class = egress.class_named(&text, section, "egress_class");
        }
    }
}

/// Reads `[cpu]`, `[memory]`, `[tasks]` and `[io]` of the file's root, or of one group's or
/// user's section; `below` is what holds where a key is absent, to check the keys together.
pub(super) fn read(section: &mut Section<'_, '_>, below: &Limits) -> Patch {
    let mut patch = Patch::default();
    read_cpu(section.section("cpu"), below, &mut patch);
    read_time(section.section("time"), &mut patch.time);
    let mut memory = section.section("memory");
    patch.memory_high = memory.optional::<OrNone<Bytes>>("high").map(OrNone::get);
    patch.memory_max = memory.optional::<OrNone<Bytes>>("max").map(OrNone::get);
    let high = patch.memory_high.unwrap_or(below.memory_high);
    let max = patch.memory_max.unwrap_or(below.memory_max);
    if let (Some(high), Some(max)) = (high, max)
        && high > max
    {
        memory.complain("high", "is above memory.max, so it would never be reached");
    }
    memory.finish();
    let mut tasks = section.section("tasks");
    patch.tasks_max = or_none(&mut tasks, "max", 16..=4_194_304);
    tasks.finish();
    let mut io = section.section("io");
    patch.io_weight = or_none(&mut io, "weight", 1..=10_000);
    io.finish();
    patch
}

fn read_cpu(mut section: Section<'_, '_>, below: &Limits, all: &mut Patch) {
    let ms = Duration::from_millis;
    let cores = Cores(0.01)..=Cores(4096.0);
    let patch = &mut all.cpu;
    patch.limit = section.optional::<OrNone<Cores>>("limit").map(OrNone::get);
    patch.baseline = section.optional_ranged("baseline", cores.clone());
    let credits = CoreSeconds(1.0)..=CoreSeconds(3.6e6);
    patch.credits = section.optional_ranged("credits", credits);
    patch.throttle_when = section.optional("throttle_when");
    patch.contended_above = section.optional_ranged("contended_above", Share(0.0)..=Share(1.0));
    patch.deprioritise_below =
        section.optional_ranged("deprioritise_below", Share(0.0)..=Share(0.9));
    patch.free_above = section.optional_ranged("free_above", Share(0.01)..=Share(1.0));
    patch.weight = section.optional_ranged("weight", 1..=100);
    patch.period = section.optional_ranged("period", ms(10)..=ms(100));
    patch.min_stay = section.optional_ranged("min_stay", ms(0)..=ms(3_600_000));
    read_sustained(&mut section, &mut all.sustained);
    if let Some(Some(limit)) = patch.limit {
        if !cores.contains(&limit) {
            section.complain("limit", "must be from 0.01 to 4096 cores, or \"none\"");
        } else if limit < patch.baseline.unwrap_or(below.cpu.baseline) {
            section.complain("limit", "is below the baseline; a server could never burst");
        }
    }
    let free_above = patch.free_above.unwrap_or(below.cpu.free_above);
    if patch
        .deprioritise_below
        .unwrap_or(below.cpu.deprioritise_below)
        >= free_above
    {
        section.complain(
            "free_above",
            "must be greater than deprioritise_below, or servers would flap between the two",
        );
    }
    section.finish();
}

fn read_sustained(section: &mut Section<'_, '_>, patch: &mut SustainedPatch) {
    let minute = Duration::from_secs(60);
    patch.freeze_after = section
        .optional::<OrNone<Duration>>("freeze_after")
        .map(OrNone::get);
    patch.freeze_for = section.optional_ranged("freeze_for", minute / 60..=24 * 60 * minute);
    patch.after_freeze = section.optional("after_freeze");
    patch.repeat_window = section
        .optional::<OrNone<Duration>>("repeat_window")
        .map(OrNone::get);
    patch.repeat_faster = section.optional_ranged("repeat_faster", Share(0.0)..=Share(10.0));
}

fn read_time(mut section: Section<'_, '_>, patch: &mut TimePatch) {
    let day = Duration::from_secs(86_400);
    patch.cpu = section
        .optional::<OrNone<CoreSeconds>>("cpu")
        .map(OrNone::get);
    patch.wall = section
        .optional::<OrNone<Duration>>("wall")
        .map(OrNone::get);
    patch.warn = section.optional_ranged("warn", Duration::ZERO..=7 * day);
    patch.then = section.optional("then");
    section.finish();
}

fn or_none(
    section: &mut Section<'_, '_>,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Option<Option<u64>> {
    let value = section.optional::<OrNone<u64>>(key)?.get();
    if let Some(number) = value
        && !range.contains(&number)
    {
        let (least, most) = range.into_inner();
        let message = format!("is {number}, expected a value from {least} to {most}, or \"none\"");
        section.complain(key, &message);
        return None;
    }
    Some(value)
}

/// Each throttling within the window, unless said otherwise.
const FASTER: f64 = 0.5;

/// Whether a server is stopped after it was frozen.
#[derive(Debug, Clone, Copy, PartialEq)]
struct AfterFreeze(bool);

impl FromToml for AfterFreeze {
    const EXPECTED: &'static str = "\"release\" or \"stop\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("release") => Ok(AfterFreeze(false)),
            Some("stop") => Ok(AfterFreeze(true)),
            _ => Err(String::new()),
        }
    }
}

/// The stage for a server whose time is up.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Then(Stage);

impl FromToml for Then {
    const EXPECTED: &'static str = "\"throttle\", \"freeze\" or \"stop\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("throttle") => Ok(Then(Stage::Throttled)),
            Some("freeze") => Ok(Then(Stage::Frozen)),
            Some("stop") => Ok(Then(Stage::Stopped)),
            _ => Err(String::new()),
        }
    }
}

impl FromToml for ThrottleWhen {
    const EXPECTED: &'static str = "\"always\" or \"contended\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("always") => Ok(ThrottleWhen::Always),
            Some("contended") => Ok(ThrottleWhen::Contended),
            _ => Err(String::new()),
        }
    }
}

impl Section<'_, '_> {
    /// `reserve` of `[slice]`.
    pub(super) fn reserve(&mut self, default: Option<Cores>) -> Option<Cores> {
        self.optional::<OrNone<Cores>>("reserve")
            .map_or(default, OrNone::get)
    }

    /// As `ranged`, where the key is there.
    fn optional_ranged<T>(&mut self, key: &str, range: std::ops::RangeInclusive<T>) -> Option<T>
    where
        T: FromToml + PartialOrd + Show + Clone,
    {
        let present = self.has(key);
        let least = range.start().clone();
        let value = self.ranged(key, least, range);
        present.then_some(value)
    }
}
