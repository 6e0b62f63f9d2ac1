//! Servers end, and are gone before that is logged.

use super::*;

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
