//! A replay beside a node that is fed by hand: one node for all users, with a look at all of them at
//! each tick.

use super::*;
use hubwarden_core::accounts::{Newcomer, PlaceKind, Reading};
use hubwarden_core::actuator::{self, Answer, Request, Standing};
use hubwarden_core::node::{Effect, Found, Input, Looked, Node, Settings};
use hubwarden_core::undo::{KernelControls, Owner, Start};
use policy::{Controls, Repeat, Sustained};
use quantities::{HubUser, Mode, UnitName};
use std::collections::{BTreeMap, BTreeSet};

const ALL: Cores = Cores(f64::INFINITY);

struct HandFed {
    node: Node,
    now: Time,
    policy: Policy,
    servers: BTreeMap<CgroupId, (Server, Controls)>,
    stopped: BTreeSet<CgroupId>,
}

impl HandFed {
    fn new(policy: &Policy) -> HandFed {
        let settings = Settings {
            mode: Mode::Enforce,
            off: false,
            by_hub: false,
            tick: TICK,
            hot: Cores(0.0),
            hot_for: Duration::ZERO,
            stands: Duration::ZERO,
        };
        HandFed {
            node: Node::new(settings, 1..=1000),
            now: Time::default(),
            policy: policy.clone(),
            servers: BTreeMap::new(),
            stopped: BTreeSet::new(),
        }
    }

    fn feed(&mut self, input: Input) {
        for effect in self.node.handle(input, self.now) {
            if let Effect::Unit(id, actuator::Effect::Ask(ticket, request)) = effect {
                let controls = &mut self.servers.get_mut(&id).unwrap().1;
                let answer = match request {
                    Request::Read => Answer::Read(Ok(Box::new(Standing {
                        controls: *controls,
                        start: Start(None),
                        record: None,
                        kernel_quota: Some(controls.quota),
                    }))),
                    Request::Record(_) => Answer::Recorded(Ok(())),
                    Request::Apply(change) => {
                        *controls = change.to;
                        Answer::Applied(Ok(()), Start(None))
                    }
                    Request::ReadKernel => Answer::Kernel(Ok(KernelControls::default())),
                    Request::ThawAfter(_) => Answer::TimerSet(Ok(())),
                    Request::Stop => {
                        self.stopped.insert(id);
                        Answer::Done(Ok(()))
                    }
                    _ => Answer::Done(Ok(())),
                };
                self.feed(Input::Answer(id, ticket, answer));
            }
        }
    }

    fn work(&mut self, to: Time) {
        self.now = to;
        for (server, controls) in self.servers.values_mut() {
            let allowed = match controls.frozen {
                true => Cores(0.0),
                false => controls.quota.unwrap_or(ALL),
            };
            server.run(to, allowed, ALL);
        }
    }

    fn pass(&mut self, to: Time) {
        let soon = |at: Time| Time(at.0 + Duration::from_millis(1));
        while let Some(at) = self.node.accounts().next_look().map(soon)
            && at < to
        {
            self.work(at);
            let due = self.node.accounts().looks_due(at);
            self.look(Some(due));
        }
        self.work(to);
    }

    fn tick(&mut self) {
        let users = self.node.accounts().rested().keys().cloned();
        let policies = users.map(|user| (user, self.policy.clone())).collect();
        self.feed(Input::Rest(policies));
        self.look(None);
    }

    fn look(&mut self, only: Option<BTreeSet<CgroupId>>) {
        let accounts = self.node.accounts();
        let user = |id: &CgroupId| accounts.place(*id).map(|place| place.user());
        let due: Option<Vec<_>> = only.as_ref().map(|only| only.iter().map(user).collect());
        // What a server uses between its last reading and its end is charged to no account. The daemon
        // reads servers of other users here too, so that of those it charges a part of that.
        let read = |id: &CgroupId| due.as_ref().is_none_or(|due| due.contains(&user(id)));
        let mut looked = Looked::default();
        for (id, (server, _)) in self.servers.iter().filter(|(id, _)| read(id)) {
            let reading = Reading {
                usage: server.usage(),
                throttled_periods: None,
            };
            looked.readings.insert(*id, reading);
        }
        looked.only = only;
        looked.contention.add(None, 1.0);
        self.feed(Input::Looked(Box::new(looked)));
        for id in std::mem::take(&mut self.stopped) {
            self.end(id);
        }
    }

    fn begin(&mut self, id: CgroupId, user: &str, bursts: &[Burst]) {
        let mut server = Server::new(self.now);
        bursts.iter().for_each(|burst| server.ask(*burst));
        self.servers.insert(id, (server, Controls::default()));
        self.feed(Input::Found(Box::new(Found {
            id,
            owner: Owner::Systemd(UnitName(format!("jupyter-{}.service", id.0)), None),
            record: None,
            start: Start(None),
            newcomer: Newcomer {
                user: HubUser(user.to_owned()),
                kind: PlaceKind::Server,
                policy: self.policy.clone(),
                standing: None,
                used_elsewhere: Duration::ZERO,
            },
            lead: None,
        })));
        self.feed(Input::Divide);
        self.feed(Input::Wake(vec![id]));
    }

    fn end(&mut self, id: CgroupId) {
        self.feed(Input::Gone(id));
        self.feed(Input::Divide);
        self.servers.remove(&id);
    }

    fn stage(&self, id: CgroupId) -> Stage {
        let place = self.node.accounts().place(id);
        place.map_or(Stage::Stopped, |place| place.standing().stage)
    }
}

/// A server: its user, when it starts and how long it stays, and its work: when after the start, how
/// much, and on how many cores.
type Plan = (usize, f64, f64, Vec<(f64, f64, f64)>);

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let bursts = prop::collection::vec((0.0..2500.0, 1.0..1500.0, 0.05..4.0), 1..4);
    let plan = (0usize..3, 1.0..4000.0, 20.0..3000.0, bursts);
    prop::collection::vec(plan, 1..7)
}

fn policies() -> impl Strategy<Value = Policy> {
    let base = Policy {
        size: CoreSeconds(487.3),
        ..policy()
    };
    let freezes = Sustained {
        freeze_after: Some(Duration::from_millis(180_300)),
        freeze_for: Duration::from_millis(60_700),
        stop: false,
    };
    let stops = Sustained {
        stop: true,
        ..freezes
    };
    let wall = |then| TimeLimits {
        wall: Some(Duration::from_millis(1_234_567)),
        then,
        ..base.time
    };
    let with = |change: &dyn Fn(&mut Policy)| {
        let mut policy = base.clone();
        change(&mut policy);
        policy
    };
    let repeat = Repeat {
        window: Duration::from_millis(1_800_900),
        faster: 0.47,
    };
    prop::sample::select(vec![
        base.clone(),
        with(&|policy| policy.limit = None),
        with(&|policy| policy.sustained = freezes),
        with(&|policy| policy.sustained = stops),
        with(&|policy| policy.contended_above = Some(0.1)),
        with(&|policy| policy.time = wall(Stage::Stopped)),
        with(&|policy| policy.time = wall(Stage::Throttled)),
        with(&|policy| policy.time.cpu = Some(CoreSeconds(333.3))),
        with(&|policy| policy.repeat = Some(repeat)),
        with(&|policy| policy.unlimited = true),
    ])
}

fn until(shell: &mut Shell, to: Time) {
    while shell.now() < to {
        shell.step(to);
        shell.look_on_tick();
    }
}

fn at(seconds: f64) -> Time {
    Time(Duration::from_secs_f64(seconds))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// A replay has a node for each user and leaves looks out. It must decide what the daemon does.
    #[test]
    fn a_replay_decides_what_a_node_fed_by_hand_decides(plans in plans(), policy in policies()) {
        let users = ["alice", "bob", "carol"];
        let mut hand = HandFed::new(&policy);
        let mut shells = users.map(|user| Shell::new(user, &policy, TICK));
        let mut comings = BTreeMap::new();
        for (id, (user, start, stay, bursts)) in (0..).map(CgroupId).zip(&plans) {
            let mut bursts: Vec<Burst> = bursts
                .iter()
                .map(|(after, work, cores)| Burst {
                    at: at(start + after),
                    work: CoreSeconds(*work),
                    cores: Cores(*cores),
                })
                .collect();
            bursts.sort_by_key(|burst| burst.at);
            comings.insert((at(*start), id), (*user, Some(bursts)));
            comings.insert((at(start + stay), id), (*user, None));
        }
        let mut here: BTreeMap<CgroupId, usize> = BTreeMap::new();
        for count in 1..1500 {
            let tick = Time(TICK * count);
            while let Some(coming) = comings.first_entry().filter(|coming| coming.key().0 < tick) {
                let ((now, id), (user, bursts)) = coming.remove_entry();
                hand.pass(now);
                until(&mut shells[user], now);
                match bursts {
                    Some(bursts) => {
                        hand.begin(id, users[user], &bursts);
                        shells[user].begin(id, &bursts);
                        here.insert(id, user);
                    }
                    None => {
                        let used = hand.servers.get(&id).map(|(server, _)| server.used().0);
                        hand.end(id);
                        let server = shells[user].end(id).unwrap();
                        if let Some(used) = used {
                            prop_assert!((server.used().0 - used).abs() < 1e-3);
                        }
                        here.remove(&id);
                    }
                }
            }
            hand.pass(tick);
            hand.tick();
            for (id, user) in &here {
                until(&mut shells[*user], tick);
                let stage = shells[*user].server(*id).map(Server::stage);
                prop_assert_eq!(stage, Some(hand.stage(*id)), "{} at {:?}", id, tick);
            }
        }
    }
}
