//! A server is stopped or killed, or those of its processes that mine.

use super::*;

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
    let mut put_off = tried.actuator.clone();
    put_off.put_off();
    assert!(put_off.is_due(tried.now), "whatever else is due");
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

/// One that is to be killed is read.
fn to_be_killed() -> Tried {
    let mut tried = Tried::new(Stage::Stopped);
    tried.goal.ends = Ends::Kill;
    tried.actuator.decide(verdict(Stage::Stopped));
    tried.wake();
    tried
}

#[test]
fn one_that_mines_is_killed_told_of_at_once_and_only_thawed() {
    // Also where its owner had frozen it.
    for frozen in [false, true] {
        let mut tried = to_be_killed();
        tried.then(standing(Controls {
            frozen,
            ..Controls::default()
        }));
        assert_eq!(tried.recorded(), Request::Kill);
        assert!(tried.actuator.is_killing() && tried.logged.is_empty());
        let Request::Apply(change) = tried.then(Answer::Done(Err(Failure::Gone))) else {
            panic!("{:?}", tried.request());
        };
        assert_eq!(tried.logged.len(), 1);
        let from = change.from.expect("what stands is known");
        let thawed = Controls {
            frozen: false,
            ..from
        };
        assert!(from.frozen);
        assert_eq!(change.to, thawed);
        let gone = Answer::Applied(Err(Failure::Gone), Start::default());
        assert_eq!(tried.then(gone), Request::Stop);
        tried.answer(Answer::Done(Ok(())));
        assert_eq!(tried.logged.len(), 1);
        assert_eq!(tried.actuator.take_end(), None);
    }
}

#[test]
fn what_cannot_be_killed_keeps_its_verdict() {
    let mut tried = to_be_killed();
    tried.then(standing(Controls::default()));
    tried.recorded();
    tried.answer(Answer::Done(Err(refused())));
    assert!(tried.actuator.is_due(NOW));
    let end = tried.actuator.take_end();
    assert!(matches!(end, Some(Event::Verdict { verdict, .. }) if verdict.to == Stage::Stopped));
    assert_eq!(tried.actuator.take_end(), None);
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
