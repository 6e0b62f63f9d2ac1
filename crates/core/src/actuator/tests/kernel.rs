//! The kernel holds another value than the unit's owner says.

use super::*;

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
        (Some(0.2555), false),
        (Some(0.2565), true),
        (None, true),
    ] {
        tried.wake();
        tried.then(past(held));
        match forced {
            true => assert_eq!(tried.recorded(), Request::apply(None, on(Stage::Throttled))),
            false => tried.answer(Answer::Recorded(Ok(()))),
        }
        assert_eq!(tried.asked.is_some(), forced, "{held:?}");
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
