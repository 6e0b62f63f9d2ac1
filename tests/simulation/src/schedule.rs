//! Random schedules: what happens, in which order, and what goes wrong.

use crate::daemon::{Broken, Config, Daemon, Delivery, Late, State, put_back};
use crate::world::{Fate, World, name_of};
use policy::Controls;
use quantities::{Cores, Mode, Time};
use std::time::Duration;

/// What happens in a step, from its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    kind: u32,
    a: u32,
    b: u32,
}

/// A list of steps, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// What happens.
    pub steps: Vec<Step>,
    /// Off at the end is the daemon's work, or is done without it.
    pub by_daemon: bool,
}

/// What became of a schedule.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What broke, if anything did.
    pub broken: Option<Broken>,
    /// What happened, a line a step.
    pub story: Vec<String>,
    /// Daemons that were killed.
    pub crashes: u64,
    /// Steps until then.
    pub steps: u64,
}

/// Names of units and whose they are: two servers and a login slice of one user, and others'.
const UNITS: [(&str, &str, bool); 5] = [
    ("jupyter-alice.service", "alice", false),
    ("jupyter-alice-gpu.service", "alice", false),
    ("user-1000.slice", "alice", true),
    ("jupyter-bob.service", "bob", false),
    ("user-1001.slice", "bob", true),
];

impl Schedule {
    /// The schedule of a seed.
    pub fn of(seed: u64) -> Schedule {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(20..200);
        let step = |_| Step {
            kind: random.u32(..),
            a: random.u32(..),
            b: random.u32(..),
        };
        let steps = (0..count).map(step).collect();
        Schedule {
            steps,
            by_daemon: seed.is_multiple_of(2),
        }
    }

    /// Plays it.
    pub fn play(&self) -> Outcome {
        self.play_and_tell(false)
    }

    /// The same, with every request and answer in the story.
    pub fn play_and_tell(&self, tells: bool) -> Outcome {
        let mut run = Run::new(tells);
        for step in &self.steps {
            run.step(*step);
            if run.outcome.broken.is_some() {
                return run.outcome;
            }
        }
        run.end(self.by_daemon);
        run.outcome
    }

    /// A shorter one that breaks too.
    pub fn shorter(&self) -> Schedule {
        let invariant = self.play().broken.map(|broken| broken.invariant);
        let mut shortest = self.clone();
        let mut size = shortest.steps.len() / 2;
        while size > 0 {
            let mut at = 0;
            while at < shortest.steps.len() {
                let mut tried = shortest.clone();
                let end = (at + size).min(tried.steps.len());
                tried.steps.drain(at..end);
                match tried.play().broken.map(|broken| broken.invariant) == invariant {
                    true => shortest = tried,
                    false => at += size,
                }
            }
            size /= 2;
        }
        shortest
    }
}

struct Run {
    world: World,
    config: Config,
    daemon: Option<Daemon>,
    saved: Option<State>,
    /// What killed daemons had sent, and systemd has not got to yet.
    late: Vec<Late>,
    owners_set: u32,
    /// Every request and answer goes into the story.
    tells: bool,
    outcome: Outcome,
}

impl Run {
    fn new(tells: bool) -> Run {
        let config = Config {
            mode: Mode::Enforce,
            limit: Some(Cores(2.0)),
            baseline: Cores(0.25),
            tasks_max: None,
            by_hub: false,
            freezes: false,
        };
        let mut run = Run {
            world: World::at_rest(Time(Duration::from_secs(1000))),
            config,
            daemon: None,
            saved: None,
            late: Vec::new(),
            owners_set: 0,
            tells,
            outcome: Outcome::default(),
        };
        for which in [0, 2, 3] {
            run.spawn(which, 0);
        }
        run.start();
        run
    }

    fn say(&mut self, what: String) {
        let at = self.world.now.0.as_secs_f64();
        self.outcome.story.push(format!("{at:8.1} {what}"));
    }

    fn start(&mut self) {
        let daemon = Daemon::start(&mut self.world, &self.config, self.saved.clone());
        self.daemon = Some(daemon);
    }

    /// Numbers that we never set, and that no owner set before.
    fn theirs(&mut self, a: u32) -> Controls {
        self.owners_set += 1;
        let number = self.owners_set;
        let cpu = !a.is_multiple_of(4);
        Controls {
            quota: cpu.then(|| Cores(0.031 + f64::from(a % 40) / 10.0 + f64::from(number) / 1e4)),
            period: cpu.then(|| Duration::from_micros(70_000 + u64::from(number))),
            weight: a.is_multiple_of(3).then(|| 300 + u64::from(number)),
            tasks_max: a.is_multiple_of(5).then(|| 700 + u64::from(number)),
            ..Controls::default()
        }
    }

    fn spawn(&mut self, which: u32, a: u32) {
        let (name, user, slice) = UNITS[which as usize % UNITS.len()];
        // Another user may get a unit of the same name.
        let user = if !slice && a % 11 == 10 {
            "carol"
        } else {
            user
        };
        // What a change that is under way would go to is asked for what was asked for before: nobody could
        // tell otherwise what another owner had set.
        if self.world.run_is_full && !self.is_left_alone(name) {
            return;
        }
        let before = self.world.last_theirs(name);
        let theirs = match before.filter(|_| !self.is_left_alone(name)) {
            Some(before) => before,
            None => self.theirs(a),
        };
        self.say(format!("{name} is started for {user} with {theirs:?}"));
        self.world.spawn(name, user, slice, theirs);
    }

    fn named(&self, which: u32) -> Option<String> {
        let names: Vec<&String> = self.world.units.keys().collect();
        let name = names.get(which as usize % names.len().max(1))?;
        Some((*name).clone())
    }

    fn step(&mut self, step: Step) {
        self.outcome.steps += 1;
        let Step { kind, a, b } = step;
        match kind % 100 {
            0..45 => self.advance(a, b),
            45..60 => self.tick(a),
            60..65 => self.compute(a, b),
            65..68 => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.scan(&mut self.world);
                }
            }
            68..71 => self.spawn(a, b),
            71..73 => self.stop(a),
            73..75 => self.restart(a),
            75..79 => self.owner_sets(a, b),
            79..81 => self.write_past_owner(a),
            81..84 => self.reload(a),
            84..88 => self.crash(a),
            88 if self
                .daemon
                .as_ref()
                .is_some_and(|daemon| daemon.calls() == 0) =>
            {
                self.world.run_is_full = a % 2 == 0;
                self.say(format!("/run is full: {}", self.world.run_is_full));
            }
            89..91 => self.switch(a % 3 == 0),
            91 if self
                .daemon
                .as_ref()
                .is_some_and(|daemon| daemon.calls() == 0) =>
            {
                self.flush();
                self.say("the node sleeps for an hour".to_owned());
                self.world.pass(Duration::from_secs(3600));
            }
            92..94 => {
                self.say(format!("evidence against place {a}"));
                if let Some(daemon) = &mut self.daemon {
                    daemon.accuse(&mut self.world, a as usize);
                }
            }
            94 => {
                self.say(format!("place {a} is taken for another's"));
                if let Some(daemon) = &mut self.daemon {
                    daemon.release(&mut self.world, a as usize);
                }
            }
            95..97 => {
                self.saved = self.daemon.as_ref().map(Daemon::state);
            }
            97 => self.saved = None,
            _ => self.late_call(a),
        }
        self.check();
    }

    fn check(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.check(&self.world);
            self.outcome.broken = daemon.broken();
        }
    }

    fn advance(&mut self, a: u32, b: u32) {
        // What an earlier daemon sent comes before what this one does.
        self.flush();
        let fate = match b % 40 {
            0 => Fate::Refused,
            1 => Fate::CutOff,
            2 => Fate::NotInKernel,
            _ => Fate::Well,
        };
        let delivery = match b / 40 % 40 {
            0 => Delivery::Lost,
            1 | 2 => Delivery::Twice,
            _ => Delivery::Once,
        };
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        let done = daemon.advance(&mut self.world, a as usize, fate, delivery);
        if self.tells
            && let Some(done) = done
        {
            self.say(done);
        }
    }

    /// systemd gets to what it was told long before much time passes.
    fn flush(&mut self) {
        while !self.late.is_empty() {
            self.late_call(0);
        }
    }

    fn tick(&mut self, a: u32) {
        if a % 8 > 2 {
            self.flush();
        }
        self.world.pass(Duration::from_secs(u64::from(a % 8)));
        let now = self.world.now.0.as_secs();
        self.outcome.story.push(format!("{now:8} tick"));
        if let Some(daemon) = &mut self.daemon {
            daemon.tick(&mut self.world);
        }
    }

    fn compute(&mut self, a: u32, b: u32) {
        let Some(name) = self.named(a) else { return };
        if let Some(unit) = self.world.units.get_mut(&name) {
            unit.wants = f64::from(b % 5);
        }
        self.say(format!("{name} wants {} cores", b % 5));
    }

    fn stop(&mut self, a: u32) {
        let Some(name) = self.named(a) else { return };
        self.say(format!("{name} stops"));
        self.world.stop(&name);
    }

    /// The same unit in another cgroup, or another unit of the same name.
    fn restart(&mut self, a: u32) {
        let Some(name) = self.named(a) else { return };
        self.say(format!("{name} is restarted"));
        let cgroup = quantities::CgroupId(self.world.fresh());
        if let Some(unit) = self.world.units.get_mut(&name) {
            unit.cgroup = cgroup;
            unit.kernel = unit.standing;
            unit.kernel.frozen = false;
            unit.standing.frozen = false;
            unit.usage = Duration::ZERO;
        }
    }

    fn is_left_alone(&self, name: &str) -> bool {
        let late = self.late.iter().any(|late| name_of(&late.owner) == name);
        !late
            && self
                .daemon
                .as_ref()
                .is_none_or(|daemon| daemon.leaves_alone(name))
    }

    /// A change between a daemon's reading and its writing is lost: nobody can tell it from the reading.
    fn owner_sets(&mut self, a: u32, b: u32) {
        let Some(name) = self.named(a).filter(|name| self.is_left_alone(name)) else {
            return;
        };
        // Nor is what is set on a slice that ends before anybody reads it: it cannot be read then.
        if name.ends_with(".slice") && self.world.records.contains_key(&name) {
            return;
        }
        let theirs = self.theirs(b);
        let Some(unit) = self.world.units.get_mut(&name) else {
            return;
        };
        let frozen = unit.standing.frozen;
        // What they do not set stays as it stands.
        let both = |set: Option<u64>, before: Option<u64>| set.or(before);
        let theirs = Controls {
            quota: theirs.quota.or(unit.theirs.quota),
            period: theirs.period.or(unit.theirs.period),
            weight: both(theirs.weight, unit.theirs.weight),
            tasks_max: both(theirs.tasks_max, unit.theirs.tasks_max),
            ..unit.theirs
        };
        let mut standing = unit.standing;
        if theirs.quota != unit.theirs.quota {
            (standing.quota, standing.period) = (theirs.quota, theirs.period);
        }
        if theirs.weight != unit.theirs.weight {
            standing.weight = theirs.weight;
        }
        if theirs.tasks_max != unit.theirs.tasks_max {
            standing.tasks_max = theirs.tasks_max;
        }
        unit.theirs = theirs;
        unit.ever_theirs.push(theirs);
        unit.standing = standing;
        unit.kernel = Controls { frozen, ..standing };
        self.say(format!("{name} gets {theirs:?} from its owner"));
    }

    /// Another program writes the kernel's file, past systemd.
    fn write_past_owner(&mut self, a: u32) {
        let Some(name) = self.named(a).filter(|name| self.is_left_alone(name)) else {
            return;
        };
        let Some(unit) = self.world.units.get_mut(&name) else {
            return;
        };
        let ours = self
            .daemon
            .as_ref()
            .and_then(|daemon| daemon.ours(unit.cgroup));
        // Where no quota of ours stands it is theirs, and stays.
        if ours.is_some_and(|ours| {
            ours.quota.is_some() && ours.quota != unit.theirs.quota && ours == unit.standing
        }) {
            unit.kernel.quota = Some(Cores(5.0));
            self.say(format!("somebody writes the kernel's quota of {name}"));
        }
    }

    fn reload(&mut self, a: u32) {
        self.config = Config {
            mode: if a.is_multiple_of(4) {
                Mode::Observe
            } else {
                Mode::Enforce
            },
            limit: (!a.is_multiple_of(3)).then(|| Cores(1.0 + f64::from(a % 3))),
            baseline: Cores(0.1 + f64::from(a / 7 % 3) / 10.0),
            tasks_max: (a / 11).is_multiple_of(3).then_some(100),
            by_hub: (a / 13).is_multiple_of(2),
            freezes: (a / 17).is_multiple_of(2),
        };
        self.say(format!("reload: {:?}", self.config));
        if let Some(daemon) = &mut self.daemon {
            daemon.reload(&mut self.world, &self.config);
        }
    }

    fn crash(&mut self, a: u32) {
        self.say("the daemon is killed and started".to_owned());
        self.outcome.crashes += 1;
        if let Some(daemon) = self.daemon.take() {
            if a.is_multiple_of(3) {
                self.saved = Some(daemon.state());
            }
            // Others were never read, or had been done.
            let sent = daemon.kill();
            if a.is_multiple_of(2) {
                self.late.extend(sent);
            }
        }
        self.start();
    }

    fn late_call(&mut self, a: u32) {
        if self.late.is_empty() {
            return;
        }
        let late = self.late.remove(a as usize % self.late.len());
        let Late {
            owner,
            start,
            request,
        } = late;
        // One that was made anew meanwhile is not told apart then: see docs/testing.md.
        if start.is_same(self.world.start_of(name_of(&owner))) {
            self.say(format!(
                "systemd gets to what a killed daemon asked: {owner}, {request:?}"
            ));
            self.world.carry_out(&owner, &request, Fate::Well);
        }
    }

    fn switch(&mut self, off: bool) {
        self.say(format!("off: {off}"));
        if let Some(daemon) = &mut self.daemon {
            daemon.switch(&mut self.world, off);
        }
    }

    /// Lets all that is under way come to its end.
    fn settle(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.wake_all(&mut self.world);
        }
        for _ in 0..30 {
            self.tick(7);
            // Answers that were lost are waited for.
            self.world.pass(Duration::from_secs(5));
            for _ in 0..10_000 {
                let Some(daemon) = &mut self.daemon else {
                    return;
                };
                if daemon.calls() == 0 {
                    break;
                }
                let done = daemon.advance(&mut self.world, 0, Fate::Well, Delivery::Once);
                if self.tells
                    && let Some(done) = done
                {
                    self.say(done);
                }
            }
            self.check();
            if self.outcome.broken.is_some() {
                return;
            }
        }
    }

    fn end(&mut self, by_daemon: bool) {
        self.world.run_is_full = false;
        self.flush();
        self.say("from now on nothing fails".to_owned());
        // While everybody goes on computing, and after they have rested.
        for rest in [false, true] {
            if rest {
                for unit in self.world.units.values_mut() {
                    unit.wants = 0.0;
                }
            }
            self.settle();
            if let Some(daemon) = &mut self.daemon
                && self.outcome.broken.is_none()
            {
                daemon.check_settled(&self.world);
                self.outcome.broken = daemon.broken();
            }
            if self.outcome.broken.is_some() {
                return;
            }
        }
        match by_daemon {
            true => {
                self.switch(true);
                self.settle();
            }
            false => {
                self.say("off without a daemon".to_owned());
                self.daemon = None;
                let names: Vec<String> = self.world.records.keys().cloned().collect();
                for name in names {
                    put_back(&mut self.world, &name);
                }
            }
        }
        let left = |kernel: &Controls, theirs: &Controls| {
            // Without a quota a period says nothing.
            let period = |of: &Controls| of.quota.and(of.period);
            (
                kernel.quota,
                period(kernel),
                kernel.tasks_max,
                kernel.frozen,
            ) != (
                theirs.quota,
                period(theirs),
                theirs.tasks_max,
                theirs.frozen,
            )
        };
        for (name, unit) in &self.world.units {
            if unit.standing != unit.theirs || left(&unit.kernel, &unit.theirs) {
                self.outcome.broken = Some(Broken {
                    invariant: "after off all is as its owner set it",
                    what: format!(
                        "{name} has {:?}, in the kernel {:?}, and its owner set {:?}",
                        unit.standing, unit.kernel, unit.theirs
                    ),
                });
            }
        }
    }
}
