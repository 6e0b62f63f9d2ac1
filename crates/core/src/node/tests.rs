//! Places on one node: turns, those that go, and what goes astray.

use super::*;
use crate::accounts::{Newcomer, Reading};
use crate::actuator::{Change, Failure, Request, Standing as Stands, Ticket};
use crate::test_support::life;
use crate::undo::{Control, Start};
use policy::{Controls, FindingKind, Policy, Stage, finding::Strength};
use quantities::{CgroupPath, CoreSeconds, Cores, HubUser, UnitName};
use std::collections::VecDeque;
use std::time::Duration;

const NOW: Time = Time(Duration::from_secs(1000));

fn settings(mode: Mode) -> Settings {
    Settings {
        mode,
        off: false,
        by_hub: false,
        tick: Duration::from_secs(5),
        hot: Cores(0.5),
        hot_for: Duration::from_secs(60),
        stands: Duration::from_secs(600),
    }
}

fn policy() -> Policy {
    let mut policy = Policy {
        size: CoreSeconds(10.0),
        min_stay: Duration::ZERO,
        ..Policy::default()
    };
    policy.evidence.stop_after = Some(Duration::from_secs(10));
    policy
}

fn found(id: u64, unit: &str, user: &str, kind: PlaceKind) -> Input {
    let cgroup = CgroupPath::new(&format!("jupyter.slice/{unit}"));
    let owner = Owner::of(
        Control::Systemd,
        &UnitName(unit.to_owned()),
        &cgroup,
        CgroupId(id),
    );
    Input::Found(Box::new(Found {
        id: CgroupId(id),
        owner,
        record: None,
        start: life(id),
        newcomer: Newcomer {
            user: HubUser(user.to_owned()),
            kind,
            policy: policy(),
            standing: None,
            used_elsewhere: Duration::ZERO,
        },
        lead: None,
    }))
}

/// A node, with what it asked for and was not answered.
struct Tried {
    node: Node,
    now: Time,
    asked: VecDeque<(CgroupId, Ticket, Request)>,
    effects: Vec<Effect>,
    /// What was set on each unit.
    set: BTreeMap<CgroupId, Controls>,
}

impl Tried {
    fn new(mode: Mode) -> Tried {
        Tried {
            node: Node::new(settings(mode), 1..=1000),
            now: NOW,
            asked: VecDeque::new(),
            effects: Vec::new(),
            set: BTreeMap::new(),
        }
    }

    fn server(&mut self, id: u64, user: &str) {
        self.handle(found(
            id,
            &format!("jupyter-{user}.service"),
            user,
            PlaceKind::Server,
        ));
    }

    fn handle(&mut self, input: Input) {
        for effect in self.node.handle(input, self.now) {
            match effect {
                Effect::Unit(id, actuator::Effect::Ask(ticket, request)) => {
                    self.asked.push_back((id, ticket, request));
                }
                effect => self.effects.push(effect),
            }
        }
    }

    fn answer(&mut self, answer: Answer) -> Request {
        let (id, ticket, request) = self.asked.pop_front().expect("something is asked for");
        self.handle(Input::Answer(id, ticket, answer));
        request
    }

    fn reads(&mut self, controls: Controls, start: Start) {
        let asked = self.answer(Answer::Read(Ok(Box::new(Stands {
            controls,
            start,
            record: None,
            kernel_quota: None,
        }))));
        assert_eq!(asked, Request::Read);
    }

    /// Answers all that is asked for as it should be.
    fn goes_well(&mut self) {
        while !self.asked.is_empty() {
            self.goes_well_once();
        }
    }

    fn goes_well_once(&mut self) {
        if let Some((id, _, request)) = self.asked.front().cloned() {
            let answer = match request {
                Request::Read => Answer::Read(Ok(Box::new(Stands {
                    controls: self.set.get(&id).copied().unwrap_or_default(),
                    start: life(id.0),
                    record: None,
                    kernel_quota: None,
                }))),
                Request::Record(_) => Answer::Recorded(Ok(())),
                Request::Apply(change) => {
                    self.set.insert(id, change.to);
                    Answer::Applied(Ok(()), life(id.0))
                }
                Request::ReadKernel => Answer::Kernel(Ok(Default::default())),
                Request::ThawAfter(_) => Answer::TimerSet(Ok(())),
                _ => Answer::Done(Ok(())),
            };
            self.answer(answer);
        }
    }

    fn tick(&mut self, seconds: u64, used: &[(u64, f64)]) {
        self.now.0 += Duration::from_secs(seconds);
        let mut looked = Looked::default();
        for (id, seconds) in used {
            let reading = Reading {
                usage: Duration::from_secs_f64(*seconds),
                throttled_periods: None,
            };
            looked.readings.insert(CgroupId(*id), reading);
        }
        self.handle(Input::Looked(Box::new(looked)));
    }

    fn stage(&self, id: u64) -> Stage {
        self.node
            .accounts()
            .place(CgroupId(id))
            .expect("it is there")
            .standing()
            .stage
    }

    fn logs(&self) -> usize {
        let logged = |effect: &&Effect| matches!(effect, Effect::Unit(_, actuator::Effect::Log(_)));
        self.effects.iter().filter(logged).count()
    }
}

#[test]
fn a_verdict_is_decided_set_and_in_force() {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.tick(1, &[(1, 0.0)]);
    tried.goes_well();
    tried.tick(60, &[(1, 60.0)]);
    assert_eq!(tried.stage(1), Stage::Throttled);
    let decided = |effect: &Effect| matches!(effect, Effect::Decided(CgroupId(1), _));
    assert_eq!(
        tried
            .effects
            .iter()
            .filter(|effect| decided(effect))
            .count(),
        1
    );
    tried.goes_well();
    let place = tried
        .node
        .accounts()
        .place(CgroupId(1))
        .expect("it is there");
    assert_eq!(place.limit(), Some(policy().baseline));
}

#[test]
fn numbers_are_the_node_s_and_come_back() {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.handle(Input::SetAside(CgroupId(2)));
    let numbers = [1, 2].map(|id| tried.node.number_of(CgroupId(id)).expect("a number"));
    assert_ne!(numbers[0], numbers[1]);
    for (id, number) in [1, 2].into_iter().zip(numbers) {
        assert_eq!(tried.node.numbers().holder(number), Some(CgroupId(id)));
        tried.handle(Input::Gone(CgroupId(id)));
        assert_eq!(tried.node.numbers().holder(number), None);
        assert_eq!(tried.node.number_of(CgroupId(id)), None);
    }
}

/// What is asked for of whom.
fn asked(tried: &Tried) -> Vec<u64> {
    tried.asked.iter().map(|(id, ..)| id.0).collect()
}

#[test]
fn parts_of_a_baseline_are_set_one_after_the_other_and_no_user_waits_for_another() {
    let mut tried = Tried::new(Mode::Enforce);
    for (id, unit, user) in [
        (1, "jupyter-alice.service", "alice"),
        (2, "jupyter-alice-gpu.service", "alice"),
        (3, "jupyter-bob.service", "bob"),
        (4, "jupyter-bob-gpu.service", "bob"),
    ] {
        tried.handle(found(id, unit, user, PlaceKind::Server));
    }
    tried.handle(Input::Divide);
    assert_eq!(asked(&tried), [1, 3]);
    // Alice's first is done, and hers that is next begins; bob's is not answered.
    let bobs = tried.asked.split_off(1);
    while tried.node.is_busy(&[CgroupId(1)]) {
        assert_eq!(asked(&tried), [1]);
        let rest = tried.asked.split_off(1);
        tried.goes_well_once();
        tried.asked.extend(rest);
    }
    assert_eq!(asked(&tried), [2]);
    tried.goes_well();
    assert!(!tried.node.is_busy(&[CgroupId(1), CgroupId(2)]));
    assert!(tried.node.is_busy(&[CgroupId(3)]) && !tried.node.is_busy(&[CgroupId(4)]));
    // One whose turn it is goes: the next has its.
    tried.handle(Input::Gone(CgroupId(3)));
    assert_eq!(asked(&tried), [4]);
    tried.asked.extend(bobs);
    tried.goes_well();
    assert!(!tried.node.is_busy(&[CgroupId(4)]));
}

#[test]
fn one_that_is_somebody_else_s_is_put_back_and_let_go_of() {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.handle(Input::Wake(vec![CgroupId(1)]));
    tried.goes_well();
    assert!(
        tried
            .node
            .actuator(CgroupId(1))
            .and_then(Actuator::ours)
            .is_some()
    );
    tried.handle(Input::Released(CgroupId(1)));
    assert!(tried.node.is_released(CgroupId(1)));
    let ours = tried
        .node
        .actuator(CgroupId(1))
        .and_then(Actuator::ours)
        .copied();
    tried.reads(ours.expect("ours stands"), life(1));
    assert!(!tried.effects.contains(&Effect::LetGo(CgroupId(1))));
    tried.goes_well();
    assert!(tried.effects.contains(&Effect::LetGo(CgroupId(1))));
}

#[test]
fn what_was_only_logged_so_far_is_not_carried_out_when_that_changes() {
    let mut tried = Tried::new(Mode::Observe);
    tried.server(1, "alice");
    tried.handle(Input::Accused(
        CgroupId(1),
        Strength::Certain,
        FindingKind::Mining,
    ));
    tried.tick(1, &[(1, 0.0)]);
    tried.tick(20, &[(1, 0.0)]);
    assert!(tried.stage(1) >= Stage::Frozen);
    tried.handle(Input::Settings(settings(Mode::Enforce)));
    assert!(tried.stage(1) <= Stage::Throttled);
    tried.effects.clear();
    tried.goes_well();
    let logged = |effect: &&Effect| {
        matches!(effect, Effect::Unit(_, actuator::Effect::Log(event))
            if matches!(&**event, Event::Verdict { verdict, .. } if verdict.to > Stage::Throttled))
    };
    assert_eq!(tried.effects.iter().filter(logged).count(), 0);
}

fn killed(tried: &mut Tried) {
    tried.handle(Input::Accused(
        CgroupId(1),
        Strength::Certain,
        FindingKind::Mining,
    ));
    for _ in 0..5 {
        tried.tick(11, &[(1, 0.0)]);
        if tried.stage(1) < Stage::Stopped {
            tried.goes_well();
        }
    }
    while !matches!(tried.asked.front(), Some((.., Request::Kill))) {
        let (.., request) = tried.asked.front().expect("something is asked for").clone();
        match request {
            Request::Read => tried.reads(Controls::default(), life(1)),
            _ => drop(tried.answer(Answer::Recorded(Ok(())))),
        }
    }
}

#[test]
fn a_server_that_is_gone_before_it_is_dead_is_ended_to_the_end_and_told_of_once() {
    for by_hub in [false, true] {
        let mut tried = Tried::new(Mode::Enforce);
        tried.node.settings.by_hub = by_hub;
        tried.server(1, "alice");
        killed(&mut tried);
        let before = tried.logs();
        tried.handle(Input::Gone(CgroupId(1)));
        assert_eq!(tried.logs(), before);
        assert!(tried.node.actuator(CgroupId(1)).is_some());
        tried.answer(Answer::Done(Ok(())));
        assert_eq!(tried.logs(), before + 1);
        tried.answer(Answer::Applied(Err(Failure::Gone), Start::default()));
        let (.., request) = tried.asked.front().expect("its owner is told").clone();
        let wanted = if by_hub {
            Request::AskHub
        } else {
            Request::Stop
        };
        assert_eq!(request, wanted);
        tried.answer(Answer::Done(Ok(())));
        assert!(tried.node.actuator(CgroupId(1)).is_none());
        assert_eq!(tried.logs(), before + 1);
    }
}

#[test]
fn a_server_that_ends_before_its_end_is_logged_is_told_of_as_it_goes() {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    killed(&mut tried);
    tried.answer(Answer::Done(Err(Failure::Other(
        "it does not end".to_owned(),
    ))));
    let before = tried.logs();
    tried.handle(Input::Gone(CgroupId(1)));
    assert_eq!(tried.logs(), before + 1);
}

/// Alice's server is being limited, and another one has its unit's name by then.
fn astray(read_before: bool) -> (Tried, Controls) {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.handle(Input::Wake(vec![CgroupId(1)]));
    tried.reads(Controls::default(), life(1));
    tried.answer(Answer::Recorded(Ok(())));
    let Some((.., Request::Apply(change))) = tried.asked.front().cloned() else {
        panic!("{:?}", tried.asked);
    };
    let Change { to: set, .. } = *change;
    tried.handle(Input::Gone(CgroupId(1)));
    let owner = tried
        .node
        .actuator(CgroupId(1))
        .expect("it is being set")
        .owner()
        .clone();
    assert!(tried.node.is_departing(&owner));
    tried.server(2, "alice");
    tried.handle(Input::Wake(vec![CgroupId(2)]));
    assert_eq!(
        tried.asked.len(),
        1,
        "what is being set has to be known first"
    );
    if read_before {
        let undo = Undo::new(owner, life(2), set);
        let governed = tried
            .node
            .governed
            .get_mut(&CgroupId(2))
            .expect("it is there");
        governed.actuator.take_over(undo, life(2));
    }
    tried.answer(Answer::Applied(Ok(()), life(2)));
    (tried, set)
}

#[test]
fn what_went_to_the_next_server_of_that_name_is_ours_there() {
    for read_before in [false, true] {
        let (tried, set) = astray(read_before);
        assert!(tried.node.actuator(CgroupId(1)).is_none());
        let undo = tried.node.actuator(CgroupId(2)).and_then(Actuator::undo);
        let undo = undo.expect("it is known to hold something of ours");
        assert_eq!((undo.ours(), undo.before()), (&set, &Controls::default()));
        assert!(undo.start.is_same(life(2)));
        let noted = |effect: &Effect| matches!(effect, Effect::Note(note) if note.ours() == &set);
        assert!(tried.effects.iter().any(noted));
    }
}

#[test]
fn what_went_to_a_unit_that_nobody_knows_yet_is_on_record_for_it() {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.handle(Input::Wake(vec![CgroupId(1)]));
    tried.reads(Controls::default(), life(1));
    tried.answer(Answer::Recorded(Ok(())));
    tried.handle(Input::Gone(CgroupId(1)));
    tried.answer(Answer::Applied(Ok(()), life(2)));
    let noted =
        |effect: &Effect| matches!(effect, Effect::Note(note) if note.start.is_same(life(2)));
    assert!(tried.effects.iter().any(noted));
}

#[test]
fn an_answer_that_never_comes_for_one_that_is_gone_holds_nobody_up_for_ever() {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.handle(Input::Wake(vec![CgroupId(1)]));
    tried.reads(Controls::default(), life(1));
    tried.answer(Answer::Recorded(Ok(())));
    tried.asked.clear();
    tried.handle(Input::Gone(CgroupId(1)));
    tried.server(2, "alice");
    tried.handle(Input::Wake(vec![CgroupId(2)]));
    tried.tick(1, &[(2, 0.0)]);
    assert!(tried.asked.is_empty());
    tried.tick(actuator::LOST_AFTER.as_secs(), &[(2, 0.0)]);
    assert!(!tried.asked.is_empty(), "its turn has come");
}
