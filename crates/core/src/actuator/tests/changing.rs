//! What stands is brought to what should, on record first and read back after.

use super::*;

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
    let reason = verdict.reason.to_string();
    assert_eq!(tried.actuator.reason(), Some(&*reason));
    assert!(!tried.actuator.is_busy() && !tried.actuator.is_due(NOW));
    assert!(tried.strayed.is_empty());
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
    tried.goes_well(on(Stage::Throttled));
    // What was never set there is not.
    tried.goal = goal(Stage::Frozen);
    tried.wake();
    tried.then(standing(on(Stage::Throttled)));
    tried.answer(Answer::Recorded(Err("no space".to_owned())));
    assert!(tried.asked.is_none() && tried.actuator.is_due(NOW));
}

#[test]
fn on_record_is_what_may_be_ours_and_nothing_where_nothing_was_set() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.goal.acts = Acts::Observes;
    tried.wake();
    assert_eq!(tried.then(standing(quota(1.5))), Request::ReadKernel);
    tried.answer(Answer::Kernel(Ok(KernelControls::default())));
    assert!(tried.asked.is_none(), "{:?}", tried.asked);
    // Put back: so says the record.
    tried.goal = goal(Stage::Throttled);
    tried.goes_well(quota(1.5));
    tried.goal.acts = Acts::Off;
    tried.wake();
    assert_eq!(tried.then(standing(quota(1.5))), Request::ReadKernel);
    let kernel = Answer::Kernel(Ok(KernelControls::default()));
    let Request::Record(record) = tried.then(kernel) else {
        panic!("{:?}", tried.request());
    };
    assert!(!record.stands());
    // What an earlier life of the unit had under way stands in this one.
    let mut earlier = Undo::new(unit("jupyter-alice.service"), life(1), quota(1.5));
    earlier.intend(on(Stage::Throttled));
    let mut tried = Tried::new(Stage::Throttled);
    tried.actuator.take_over(earlier, life(2));
    tried.wake();
    let Request::Record(record) = tried.then(Answer::Read(Ok(Box::new(Standing {
        controls: on(Stage::Throttled),
        start: life(2),
        record: None,
        kernel_quota: None,
    })))) else {
        panic!("{:?}", tried.request());
    };
    assert!(record.stands() && record.start.is_same(life(2)));
}

#[test]
fn a_change_that_no_verdict_asked_for_is_logged_as_what_it_is() {
    let mut limits = policy();
    limits.plain.tasks_max = Some(100);
    let limited = Goal {
        wants: Wants::Stage(Stage::Free, Box::new(limits)),
        ..goal(Stage::Free)
    };
    let cap = |quota: Option<f64>| Goal {
        wants: Wants::Cap(quota.map(Cores)),
        ..goal(Stage::Free)
    };
    let off = Goal {
        acts: Acts::Off,
        ..goal(Stage::Throttled)
    };
    let mut tried = Tried::new(Stage::Free);
    let mut logged = |goal: Goal| {
        tried.goal = goal;
        tried.logged.clear();
        tried.goes_well(tried.in_force.unwrap_or_default());
        assert_eq!(tried.logged.len(), 1, "{:?}", tried.goal);
        (tried.logged.remove(0), tried.in_force.unwrap_or_default())
    };
    let before = Controls::default();
    let verdict = Verdict {
        from: Stage::Throttled,
        to: Stage::Throttled,
        reason: Reason::DecidedBefore,
    };
    let (event, now) = logged(goal(Stage::Throttled));
    let expected = Event::Verdict {
        verdict,
        now,
        before,
    };
    assert_eq!(event, expected);
    for goal in [limited, cap(Some(3.0))] {
        let (event, now) = logged(goal);
        assert_eq!(event, Event::Limited { now, before });
    }
    let restored = |why| Event::Restored { now: before, why };
    assert_eq!(logged(cap(None)).0, restored(Acts::Yes));
    logged(goal(Stage::Throttled));
    assert_eq!(logged(off).0, restored(Acts::Off));
    // A part of the baseline is no news.
    tried.goal = goal(Stage::Throttled);
    tried.goal.quietly = true;
    tried.logged.clear();
    tried.goes_well(before);
    assert!(tried.logged.is_empty());
}

#[test]
fn a_cgroup_of_its_own_is_set_to_what_the_kernel_will_hold() {
    let owner = Owner::Cgroup(CgroupPath::new("docker/0123"), CgroupId(7));
    let (goal, before) = (goal(Stage::Throttled), quota(0.2));
    let held = Controls {
        period: Some(Duration::from_millis(100)),
        ..goal.target(&unit("jupyter-alice.service"), &before)
    };
    assert_eq!(goal.target(&owner, &before), held);
    let nothing = Goal {
        wants: Wants::Cap(None),
        ..goal
    };
    assert_eq!(nothing.target(&owner, &before), before);
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
        let mut tried = Tried::of(unit("jupyter.slice"), cap(Some(3.0)));
        tried.goes_well(stands);
        assert_eq!(tried.in_force.and_then(|set| set.quota), wanted.map(Cores));
        tried.goal = cap(None);
        let ours = tried.in_force.unwrap_or_default();
        tried.goes_well(ours);
        assert_eq!(tried.in_force, Some(stands));
    }
}

#[test]
fn a_failure_says_why() {
    let owner = unit("jupyter-alice.service");
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
