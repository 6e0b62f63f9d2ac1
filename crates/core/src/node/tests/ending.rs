//! Servers end, and are gone before that is logged.

use super::*;

/// Alice's server is about to be killed.
fn killed(tried: &mut Tried) {
    accused(tried, 1);
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

#[test]
fn one_that_mines_is_killed_and_a_slice_that_does_is_stopped() {
    for (kind, ends) in [
        (PlaceKind::Server, vec![Request::Kill, Request::AskHub]),
        // The hub knows of no slice.
        (PlaceKind::UserSlice, vec![Request::Stop]),
    ] {
        let mut tried = Tried::new(Mode::Enforce);
        tried.node.settings.by_hub = true;
        tried.handle(found(1, "user-1000.slice", "alice", kind));
        accused(&mut tried, 1);
        tried.goes_well();
        let ends: Vec<_> = ends.into_iter().map(|request| (1, request)).collect();
        assert_eq!(tried.ended(), ends, "{kind:?}");
    }
}

#[test]
fn a_server_whose_time_is_up_is_stopped_and_not_killed() {
    let mut policy = policy();
    policy.time.wall = Some(Duration::from_secs(100));
    policy.time.then = Stage::Stopped;
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.handle(Input::Policies(BTreeMap::from([(CgroupId(1), policy)])));
    tried.tick(1, &[(1, 0.0)]);
    tried.goes_well();
    assert_eq!(tried.ended(), []);
    tried.tick(100, &[(1, 0.0)]);
    tried.goes_well();
    assert_eq!(tried.ended(), [(1, Request::Stop)]);
}

#[test]
fn processes_that_mine_are_ended_and_their_server_goes_on() {
    let mut policy = policy();
    policy.evidence.stop = policy::Stop::Processes;
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.handle(Input::Policies(BTreeMap::from([(CgroupId(1), policy)])));
    accused(&mut tried, 1);
    assert_eq!(tried.ended(), [(1, Request::EndProcesses)]);
    assert!(tried.stage(1) < Stage::Frozen);
}
