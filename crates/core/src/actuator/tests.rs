//! One unit, request by request.

use super::*;
use crate::undo::{Control, KernelControls};
use policy::{Policy, Reason};
use quantities::{CgroupId, CgroupPath, Cores, UnitName};

const NOW: Time = Time(Duration::from_secs(1000));

fn owner(name: &str) -> Owner {
    let cgroup = CgroupPath::new(&format!("jupyter.slice/{name}"));
    Owner::of(
        Control::Systemd,
        &UnitName(name.to_owned()),
        &cgroup,
        CgroupId(7),
    )
}

fn quota(cores: f64) -> Controls {
    Controls {
        quota: Some(Cores(cores)),
        ..Controls::default()
    }
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.sustained.freeze_for = Duration::from_secs(30);
    policy
}

fn goal(stage: Stage) -> Goal {
    Goal {
        acts: Acts::Yes,
        wants: Wants::Stage(stage, Box::new(policy())),
        ends: Ends::Nothing,
        by_hub: false,
        quietly: false,
    }
}

fn verdict(to: Stage) -> Verdict {
    Verdict {
        from: Stage::Free,
        to,
        reason: Reason::DecidedBefore,
    }
}

/// What the ladder wants on a stage where nothing was set.
fn on(stage: Stage) -> Controls {
    policy::wanted(stage, &policy(), &Controls::default())
}

fn standing(controls: Controls) -> Answer {
    Answer::Read(Ok(Box::new(Standing {
        controls,
        start: Start::default(),
        record: None,
        kernel_quota: Some(controls.quota),
    })))
}

fn refused() -> Failure {
    Failure::Other("refused".to_owned())
}

/// An actuator under test, with what it asked for last and what it logged.
struct Tried {
    actuator: Actuator,
    goal: Goal,
    now: Time,
    asked: Option<(Ticket, Request)>,
    logged: Vec<Event>,
    in_force: Option<Controls>,
}

impl Tried {
    fn new(stage: Stage) -> Tried {
        Tried::of(owner("jupyter-alice.service"), goal(stage))
    }

    fn of(owner: Owner, goal: Goal) -> Tried {
        Tried {
            actuator: Actuator::new(owner),
            goal,
            now: NOW,
            asked: None,
            logged: Vec::new(),
            in_force: None,
        }
    }

    fn handle(&mut self, input: Input) {
        for effect in self.actuator.handle(input, &self.goal, self.now) {
            match effect {
                Effect::Ask(ticket, request) => self.asked = Some((ticket, request)),
                Effect::Log(event) => self.logged.push(*event),
                Effect::InForce(controls) => self.in_force = Some(controls),
                Effect::Save | Effect::Strayed { .. } => {}
            }
        }
    }

    fn wake(&mut self) -> Request {
        self.asked = None;
        self.handle(Input::Wake);
        self.request()
    }

    fn request(&self) -> Request {
        self.asked.clone().expect("something is asked for").1
    }

    /// Answers what was asked for last.
    fn answer(&mut self, answer: Answer) {
        let (ticket, _) = self.asked.take().expect("something is asked for");
        self.handle(Input::Answer(ticket, answer));
    }

    /// The same; what is asked for then.
    fn then(&mut self, answer: Answer) -> Request {
        self.answer(answer);
        self.request()
    }

    fn recorded(&mut self) -> Request {
        self.then(Answer::Recorded(Ok(())))
    }

    fn applied(&mut self) -> Request {
        self.then(Answer::Applied(Ok(()), Start::default()))
    }

    /// Everything goes well from a reading of this on, until nothing is asked for.
    fn goes_well(&mut self, mut found: Controls) {
        if !self.actuator.is_busy() {
            self.wake();
        }
        while let Some((_, request)) = self.asked.clone() {
            let answer = match request {
                Request::Read => standing(found),
                Request::Record(_) => Answer::Recorded(Ok(())),
                Request::ThawAfter(_) => Answer::TimerSet(Ok(())),
                Request::Apply(change) => {
                    found = change.to;
                    Answer::Applied(Ok(()), Start::default())
                }
                Request::ReadKernel => Answer::Kernel(Ok(KernelControls::default())),
                Request::EndProcesses => Answer::ProcessesEnded(Ok(None)),
                _ => Answer::Done(Ok(())),
            };
            self.answer(answer);
        }
        assert!(!self.actuator.is_busy());
    }
}

#[test]
fn a_limit_is_on_record_before_it_is_set_and_read_back_before_it_is_logged() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.actuator.decide(verdict(Stage::Throttled));
    assert_eq!(tried.wake(), Request::Read);
    let Request::Record(record) = tried.then(standing(Controls::default())) else {
        panic!("{:?}", tried.request());
    };
    assert_eq!(record.ours(), &on(Stage::Throttled));
    let change = Request::apply(Some(Controls::default()), on(Stage::Throttled));
    assert_eq!(tried.recorded(), change);
    assert_eq!(tried.applied(), Request::Read);
    assert!(tried.logged.is_empty());
    tried.then(standing(on(Stage::Throttled)));
    tried.answer(Answer::Recorded(Ok(())));
    let [
        Event::Verdict {
            verdict,
            now,
            before,
        },
    ] = &tried.logged[..]
    else {
        panic!("{:?}", tried.logged);
    };
    assert_eq!(
        (verdict.to, *now, *before),
        (Stage::Throttled, on(Stage::Throttled), Controls::default())
    );
    assert_eq!(tried.in_force, Some(on(Stage::Throttled)));
    assert_eq!(tried.actuator.ours(), Some(&on(Stage::Throttled)));
    assert!(tried.actuator.reason().is_some() && !tried.actuator.is_busy());
    assert!(!tried.actuator.is_due(NOW));
}

#[test]
fn what_is_as_it_should_be_is_left_and_said_by_the_verdict_alone() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.goes_well(on(Stage::Free));
    tried.logged.clear();
    tried.wake();
    // Ours already: read, noted, and no more.
    let asked = tried.then(standing(on(Stage::Throttled)));
    assert!(matches!(asked, Request::Record(_)), "{asked:?}");
    tried.answer(Answer::Recorded(Ok(())));
    assert!(tried.asked.is_none() && tried.logged.is_empty());
}

#[test]
fn without_a_record_nothing_is_set_unless_an_earlier_one_tells_enough() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.wake();
    tried.then(standing(Controls::default()));
    tried.answer(Answer::Recorded(Err("no space".to_owned())));
    assert!(tried.asked.is_none());
    let trouble = Event::Trouble(Trouble::Record("no space".to_owned()));
    assert_eq!(tried.logged, [trouble]);
    assert!(tried.actuator.is_due(NOW));
    assert!(
        tried
            .actuator
            .trouble()
            .is_some_and(|why| why.contains("nothing was changed"))
    );
    // A lasting trouble is logged once.
    tried.wake();
    tried.then(standing(Controls::default()));
    tried.answer(Answer::Recorded(Err("no space".to_owned())));
    assert_eq!(tried.logged.len(), 1);
    // With room again it is set; afterwards the same may be set without room.
    tried.goes_well(Controls::default());
    assert_eq!(tried.actuator.trouble(), None);
    tried.wake();
    tried.then(standing(Controls::default()));
    let asked = tried.then(Answer::Recorded(Err("no space".to_owned())));
    assert!(matches!(asked, Request::Apply(_)), "{asked:?}");
}

#[test]
fn nothing_stands_still_without_a_timer() {
    let mut tried = Tried::new(Stage::Frozen);
    tried.wake();
    tried.then(standing(Controls::default()));
    let lease = Duration::from_secs(30) + THAW_GRACE;
    assert_eq!(tried.recorded(), Request::ThawAfter(lease));
    tried.answer(Answer::TimerSet(Err(refused())));
    assert!(tried.asked.is_none(), "it is not frozen");
    assert_eq!(
        tried.logged,
        [Event::Trouble(Trouble::World("refused".to_owned()))]
    );
    tried.goes_well(Controls::default());
    assert_eq!(tried.in_force.map(|set| set.frozen), Some(true));
    // Renewed when half of the grace is left, and not before.
    let at = |seconds| Time(NOW.0 + lease - THAW_GRACE / 2 + Duration::from_secs(seconds));
    assert!(
        !tried
            .actuator
            .is_due(Time(at(0).0 - Duration::from_secs(1)))
    );
    assert!(tried.actuator.is_due(at(1)));
    tried.now = at(1);
    tried.wake();
    let asked = tried.then(standing(on(Stage::Frozen)));
    assert_eq!(asked, Request::ThawAfter(lease));
    tried.then(Answer::TimerSet(Ok(())));
    tried.answer(Answer::Recorded(Ok(())));
    assert!(!tried.actuator.is_due(at(1)));
    // Thawed: the timer is of no use.
    tried.goal = goal(Stage::Free);
    tried.wake();
    tried.then(standing(on(Stage::Frozen)));
    tried.recorded();
    tried.applied();
    assert_eq!(tried.then(standing(on(Stage::Free))), Request::ThawNoMore);
}

#[test]
fn what_an_owner_froze_has_no_timer_and_is_not_thawed() {
    let frozen = Controls {
        frozen: true,
        ..Controls::default()
    };
    let mut tried = Tried::new(Stage::Throttled);
    tried.goes_well(frozen);
    assert_eq!(tried.in_force.map(|set| set.frozen), Some(true));
    assert!(!tried.actuator.is_due(NOW));
    tried.goal.acts = Acts::Off;
    tried.goes_well(Controls {
        frozen: true,
        ..on(Stage::Throttled)
    });
    assert_eq!(tried.in_force, Some(frozen));
}

#[test]
fn what_does_not_stay_is_tried_again_and_named() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.wake();
    tried.then(standing(Controls::default()));
    tried.recorded();
    tried.applied();
    tried.answer(standing(quota(9.0)));
    let said = tried.actuator.trouble().unwrap_or_default();
    assert!(
        said.contains("was to have 0.25 cores and has 9 cores"),
        "{said}"
    );
    assert!(tried.actuator.is_due(NOW) && tried.in_force.is_none());
}

#[test]
fn what_the_kernel_holds_of_ours_is_written_once_more_when_it_is_lifted() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.goes_well(Controls::default());
    tried.goal.acts = Acts::Off;
    tried.wake();
    tried.then(standing(on(Stage::Throttled)));
    tried.recorded();
    tried.applied();
    assert_eq!(
        tried.then(standing(Controls::default())),
        Request::ReadKernel
    );
    let ours = || KernelControls {
        cpu: Some((Some(Cores(0.25)), Duration::from_millis(20))),
        ..KernelControls::default()
    };
    let all = Request::apply(None, Controls::default());
    assert_eq!(tried.then(Answer::Kernel(Ok(ours()))), all);
    assert_eq!(tried.applied(), Request::ReadKernel);
    tried.answer(Answer::Kernel(Ok(ours())));
    let said = tried.actuator.trouble().unwrap_or_default();
    assert!(
        said.contains("the kernel still holds a limit of ours"),
        "{said}"
    );
    assert!(tried.actuator.ours().is_some());
}

#[test]
fn off_lifts_in_the_kernel_what_its_owner_does_not_take_back() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.goes_well(Controls::default());
    for (acts, lifts) in [(Acts::Observes, false), (Acts::Off, true)] {
        tried.goal.acts = acts;
        tried.wake();
        tried.answer(Answer::Read(Err(refused())));
        let asked = tried.asked.clone().map(|(_, request)| request);
        assert_eq!(matches!(asked, Some(Request::Lift(_))), lifts, "{acts:?}");
    }
    tried.answer(Answer::Done(Ok(())));
    let said = tried.actuator.trouble().unwrap_or_default();
    assert!(
        said.contains("the kernel's limits were lifted without it"),
        "{said}"
    );
    // It stays to be done by systemd.
    assert!(tried.actuator.is_due(NOW) && tried.actuator.ours().is_some());
}

#[test]
fn an_owner_s_change_is_logged_and_put_back_in_the_end() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.goes_well(quota(1.5));
    tried.logged.clear();
    tried.goes_well(quota(0.7));
    assert!(matches!(&tried.logged[0], Event::LimitChanged { found, .. } if *found == quota(0.7)));
    tried.goal.acts = Acts::Off;
    let ours = tried.in_force.unwrap_or_default();
    tried.goes_well(ours);
    assert_eq!(tried.in_force, Some(quota(0.7)));
    let why = |event: &Event| matches!(event, Event::Restored { why: Acts::Off, .. });
    assert!(tried.logged.iter().any(why));
    assert_eq!(tried.actuator.ours(), None);
}

#[test]
fn a_quota_written_past_the_owner_is_written_over_where_ours_stands() {
    let past = |held: Option<f64>| {
        Answer::Read(Ok(Box::new(Standing {
            controls: on(Stage::Throttled),
            start: Start::default(),
            record: None,
            kernel_quota: Some(held.map(Cores)),
        })))
    };
    let mut tried = Tried::new(Stage::Throttled);
    tried.goes_well(Controls::default());
    for (held, forced) in [
        (Some(0.25), false),
        (Some(0.254), false),
        (Some(0.3), true),
        (None, true),
    ] {
        tried.wake();
        tried.then(past(held));
        match forced {
            true => assert_eq!(tried.recorded(), Request::apply(None, on(Stage::Throttled))),
            false => tried.answer(Answer::Recorded(Ok(()))),
        }
        tried.goes_well(on(Stage::Throttled));
    }
}

#[test]
fn a_quota_of_ours_that_the_kernel_keeps_is_lifted_though_none_of_ours_is_wanted() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.goes_well(Controls::default());
    // From now on there is a limit on tasks, and none on CPU.
    let mut policy = policy();
    policy.limit = None;
    policy.plain.tasks_max = Some(100);
    tried.goal.wants = Wants::Stage(Stage::Free, Box::new(policy));
    tried.goes_well(on(Stage::Throttled));
    let tasks = Controls {
        tasks_max: Some(100),
        ..Controls::default()
    };
    assert_eq!(tried.in_force, Some(tasks));
    for (held, forced) in [(Cores(0.25), true), (Cores(0.9), false)] {
        tried.wake();
        let asked = tried.then(Answer::Read(Ok(Box::new(Standing {
            controls: tasks,
            start: Start::default(),
            record: None,
            kernel_quota: Some(Some(held)),
        }))));
        assert!(matches!(asked, Request::Record(_)));
        tried.answer(Answer::Recorded(Ok(())));
        assert_eq!(tried.asked.is_some(), forced, "{held:?}");
        tried.actuator.state = State::Idle;
    }
}

#[test]
fn the_hub_is_asked_once_and_has_a_minute() {
    let mut tried = Tried::new(Stage::Stopped);
    tried.goal.ends = Ends::Stop;
    tried.goal.by_hub = true;
    tried.goes_well(on(Stage::Throttled));
    let asked = |tried: &mut Tried| {
        tried.wake();
        let mut all = Vec::new();
        while let Some((_, request)) = tried.asked.clone() {
            let answer = match &request {
                Request::Read => standing(on(Stage::Stopped)),
                Request::Record(_) => Answer::Recorded(Ok(())),
                Request::ReadKernel => Answer::Kernel(Ok(KernelControls::default())),
                _ => Answer::Done(Ok(())),
            };
            all.push(request);
            tried.answer(answer);
        }
        all
    };
    assert!(
        !asked(&mut tried)
            .iter()
            .any(|one| matches!(one, Request::AskHub | Request::Stop))
    );
    tried.now = Time(NOW.0 + Duration::from_secs(59));
    assert!(!tried.actuator.is_due(tried.now));
    tried.now = Time(NOW.0 + Duration::from_secs(60));
    assert!(tried.actuator.is_due(tried.now));
    assert!(asked(&mut tried).contains(&Request::Stop));
    let told = Event::HubDidNotStop("it was asked 60 s ago".to_owned());
    assert_eq!(
        tried.logged.iter().filter(|event| **event == told).count(),
        1
    );
}

#[test]
fn a_hub_that_refuses_is_done_without() {
    let mut tried = Tried::new(Stage::Stopped);
    tried.goal.ends = Ends::Stop;
    tried.goal.by_hub = true;
    tried.wake();
    let mut request = tried.then(standing(on(Stage::Stopped)));
    while !matches!(request, Request::AskHub) {
        request = match request {
            Request::ReadKernel => tried.then(Answer::Kernel(Ok(KernelControls::default()))),
            _ => tried.recorded(),
        };
    }
    assert_eq!(tried.then(Answer::Done(Err(refused()))), Request::Stop);
    assert_eq!(tried.logged, [Event::HubDidNotStop("refused".to_owned())]);
    tried.answer(Answer::Done(Err(Failure::Gone)));
    assert!(!tried.actuator.is_busy());
}

#[test]
fn one_that_mines_is_killed_told_of_at_once_and_only_thawed() {
    let mut tried = Tried::new(Stage::Stopped);
    tried.goal.ends = Ends::Kill;
    tried.actuator.decide(verdict(Stage::Stopped));
    tried.wake();
    tried.then(standing(Controls::default()));
    assert_eq!(tried.recorded(), Request::Kill);
    assert!(tried.actuator.is_killing() && tried.logged.is_empty());
    let Request::Apply(change) = tried.then(Answer::Done(Err(Failure::Gone))) else {
        panic!("{:?}", tried.request());
    };
    assert_eq!(tried.logged.len(), 1);
    let from = change.from.expect("what stands is known");
    assert!(from.frozen && !change.to.frozen);
    assert_eq!(
        Controls {
            frozen: false,
            ..from
        },
        change.to
    );
    assert_eq!(
        tried.then(Answer::Applied(Err(Failure::Gone), Start::default())),
        Request::Stop
    );
    tried.answer(Answer::Done(Ok(())));
    assert_eq!(tried.logged.len(), 1);
    assert_eq!(tried.actuator.take_end(), None);
}

#[test]
fn what_cannot_be_killed_keeps_its_verdict() {
    let mut tried = Tried::new(Stage::Stopped);
    tried.goal.ends = Ends::Kill;
    tried.actuator.decide(verdict(Stage::Stopped));
    tried.wake();
    tried.then(standing(Controls::default()));
    tried.recorded();
    tried.answer(Answer::Done(Err(refused())));
    assert!(tried.actuator.is_due(NOW));
    let end = tried.actuator.take_end();
    assert!(matches!(end, Some(Event::Verdict { verdict, .. }) if verdict.to == Stage::Stopped));
    assert_eq!(tried.actuator.take_end(), None);
}

#[test]
fn another_goal_before_the_change_is_heeded() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.wake();
    tried.then(standing(Controls::default()));
    tried.goal.acts = Acts::Off;
    assert_eq!(tried.recorded(), Request::Read, "it begins anew");
    let mut tried = Tried::new(Stage::Stopped);
    tried.goal.ends = Ends::Kill;
    tried.wake();
    tried.then(standing(Controls::default()));
    tried.goal.ends = Ends::Nothing;
    assert_eq!(tried.recorded(), Request::Read, "it is not killed");
}

#[test]
fn a_verdict_that_comes_meanwhile_is_carried_out_next_and_logged_then() {
    let mut tried = Tried::new(Stage::Deprioritised);
    tried.actuator.decide(verdict(Stage::Deprioritised));
    tried.wake();
    tried.then(standing(Controls::default()));
    tried.recorded();
    tried.applied();
    tried.actuator.decide(verdict(Stage::Throttled));
    tried.goal = goal(Stage::Throttled);
    tried.handle(Input::Wake);
    tried.then(standing(on(Stage::Deprioritised)));
    assert_eq!(tried.recorded(), Request::Read, "once more");
    assert_eq!(tried.logged.len(), 1);
    tried.goes_well(on(Stage::Deprioritised));
    assert_eq!(tried.logged.len(), 2);
}

#[test]
fn a_late_answer_does_nothing_and_a_lost_one_is_not_waited_for_for_ever() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.wake();
    let late = tried.asked.clone().expect("asked").0;
    tried.then(standing(Controls::default()));
    let asked = tried.asked.clone();
    tried.handle(Input::Answer(late, standing(quota(9.0))));
    assert_eq!(tried.asked, asked);
    tried.now = Time(NOW.0 + LOST_AFTER - Duration::from_secs(1));
    tried.handle(Input::Wake);
    assert_eq!(tried.asked, asked);
    assert!(!tried.actuator.is_lost(tried.now));
    tried.now = Time(NOW.0 + LOST_AFTER);
    assert!(tried.actuator.is_due(tried.now));
    tried.handle(Input::Wake);
    assert_eq!(tried.request(), Request::Read);
}

#[test]
fn a_unit_of_another_life_is_left_alone_and_one_that_is_gone_is_no_trouble() {
    let life = |number| {
        Start(Some(crate::undo::Fragment {
            inode: number,
            seconds: 0,
            nanoseconds: 0,
        }))
    };
    let mut tried = Tried::new(Stage::Throttled);
    let mut undo = Undo::new(owner("jupyter-alice.service"), life(1), quota(1.5));
    undo.intend(on(Stage::Throttled));
    tried.actuator.take_over(undo.clone(), life(1));
    assert!(tried.actuator.ours().is_some());
    tried.wake();
    tried.answer(Answer::Read(Ok(Box::new(Standing {
        controls: quota(0.3),
        start: life(2),
        record: None,
        kernel_quota: None,
    }))));
    assert!(tried.asked.is_none() && tried.logged.is_empty() && !tried.actuator.is_busy());
    tried.wake();
    tried.answer(Answer::Read(Err(Failure::Gone)));
    assert!(tried.logged.is_empty() && !tried.actuator.is_due(NOW));
    // What was under way may have come to the next one; what was not has not.
    let mut next = Actuator::new(owner("jupyter-alice.service"));
    next.take_over(undo.clone(), life(2));
    assert_eq!(next.ours(), Some(&on(Stage::Throttled)));
    undo.confirm(on(Stage::Throttled));
    let mut next = Actuator::new(owner("jupyter-alice.service"));
    next.take_over(undo, life(2));
    assert_eq!(next.ours(), None);
}

#[test]
fn a_slice_that_is_gone_has_every_property_taken_back() {
    let mut undo = Undo::new(
        owner("user-1000.slice"),
        Start::default(),
        Controls::default(),
    );
    undo.intend(on(Stage::Throttled));
    undo.intend(quota(2.0));
    let mut tried = Tried::of(owner("user-1000.slice"), Goal::nothing());
    tried.actuator.take_over(undo, Start::default());
    tried.wake();
    let Request::Apply(change) = tried.then(Answer::Read(Err(Failure::Gone))) else {
        panic!("{:?}", tried.request());
    };
    assert_eq!(change.to, Controls::default());
    let from = change.from.expect("what may stand");
    assert!(from.quota.is_some() && from.period.is_some() && from.weight.is_some());
    tried.answer(Answer::Applied(Ok(()), Start::default()));
    assert_eq!(tried.actuator.ours(), None);
    // A service that is gone has nothing left.
    let mut tried = Tried::new(Stage::Throttled);
    tried.goes_well(Controls::default());
    tried.goal.acts = Acts::Off;
    tried.wake();
    tried.answer(Answer::Read(Err(Failure::Gone)));
    assert!(tried.asked.is_none());
}

#[test]
fn a_cap_is_never_looser_than_what_stood_and_goes_again() {
    let cap = |quota: Option<f64>| Goal {
        wants: Wants::Cap(quota.map(Cores)),
        ..goal(Stage::Free)
    };
    for (stood, wanted) in [
        (None, Some(3.0)),
        (Some(8.0), Some(3.0)),
        (Some(2.0), Some(2.0)),
    ] {
        let stands = Controls {
            quota: stood.map(Cores),
            ..Controls::default()
        };
        let mut tried = Tried::of(owner("jupyter.slice"), cap(Some(3.0)));
        tried.goes_well(stands);
        assert_eq!(tried.in_force.and_then(|set| set.quota), wanted.map(Cores));
        tried.goal = cap(None);
        let ours = tried.in_force.unwrap_or_default();
        tried.goes_well(ours);
        assert_eq!(tried.in_force, Some(stands));
    }
}

#[test]
fn processes_that_were_ended_are_followed_up_at_once() {
    let mut tried = Tried::new(Stage::Frozen);
    tried.goal.ends = Ends::Processes;
    tried.wake();
    let mut request = tried.then(standing(Controls::default()));
    for _ in 0..20 {
        request = match request {
            Request::EndProcesses => break,
            Request::Record(_) => tried.recorded(),
            Request::ThawAfter(_) => tried.then(Answer::TimerSet(Ok(()))),
            Request::Apply(_) => tried.applied(),
            _ => tried.then(standing(on(Stage::Frozen))),
        };
    }
    tried.goal = goal(Stage::Throttled);
    let ended = Answer::ProcessesEnded(Ok(Some(verdict(Stage::Throttled))));
    assert_eq!(tried.then(ended), Request::Read);
    tried.answer(Answer::ProcessesEnded(Ok(None)));
}

#[test]
fn a_failure_says_why() {
    let owner = owner("jupyter-alice.service");
    for (trouble, said) in [
        (Trouble::World("x".to_owned()), "x"),
        (
            Trouble::Unread("x".to_owned()),
            "Restart the server, or make the file readable",
        ),
        (Trouble::InKernel(owner), "jupyter-alice.service"),
    ] {
        assert!(trouble.to_string().contains(said), "{trouble}");
    }
    assert_eq!(Failure::Gone.to_string(), "it is gone");
    assert_eq!(refused().to_string(), "refused");
}
