//! Answers that come late or never, and units that are gone or made anew.

use super::*;

#[test]
fn a_late_answer_does_nothing_and_a_lost_one_is_not_waited_for_for_ever() {
    let mut tried = Tried::new(Stage::Throttled);
    tried.wake();
    let late = tried.asked.clone().expect("asked").0;
    // From each request on it is waited anew.
    let since = Time(NOW.0 + Duration::from_secs(100));
    tried.now = since;
    tried.then(standing(Controls::default()));
    let asked = tried.asked.clone();
    tried.handle(Input::Answer(late, standing(quota(9.0))));
    assert_eq!(tried.asked, asked);
    tried.now = Time(since.0 + LOST_AFTER - Duration::from_secs(1));
    tried.handle(Input::Wake);
    assert_eq!(tried.asked, asked);
    assert!(!tried.actuator.is_lost(tried.now));
    tried.now = Time(since.0 + LOST_AFTER);
    assert!(tried.actuator.is_due(tried.now));
    tried.handle(Input::Wake);
    assert_eq!(tried.request(), Request::Read);
    tried.handle(Input::Answer(late, standing(quota(9.0))));
    assert_eq!(tried.request(), Request::Read, "that is the first one's");
}

#[test]
fn a_unit_of_another_life_is_left_alone_and_one_that_is_gone_is_no_trouble() {
    let mut tried = Tried::new(Stage::Throttled);
    let mut undo = Undo::new(unit("jupyter-alice.service"), life(1), quota(1.5));
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
    // Something else may be wanted by now.
    tried.wake();
    tried.handle(Input::Wake);
    tried.answer(Answer::Read(Err(Failure::Gone)));
    assert!(tried.actuator.is_due(NOW));
    // What was under way may have come to the next one; what was not has not.
    let mut next = Actuator::new(unit("jupyter-alice.service"));
    next.take_over(undo.clone(), life(2));
    assert_eq!(next.ours(), Some(&on(Stage::Throttled)));
    undo.confirm(on(Stage::Throttled));
    let mut next = Actuator::new(unit("jupyter-alice.service"));
    next.take_over(undo, life(2));
    assert_eq!(next.ours(), None);
}

#[test]
fn a_slice_that_is_gone_has_every_property_taken_back() {
    let mut undo = Undo::new(
        unit("user-1000.slice"),
        Start::default(),
        Controls::default(),
    );
    undo.intend(on(Stage::Frozen));
    undo.intend(quota(2.0));
    let mut tried = Tried::of(unit("user-1000.slice"), Goal::nothing());
    tried.actuator.take_over(undo, Start::default());
    tried.wake();
    let Request::Apply(change) = tried.then(Answer::Read(Err(Failure::Gone))) else {
        panic!("{:?}", tried.request());
    };
    assert_eq!(change.to, Controls::default());
    let from = change.from.expect("what may stand");
    assert!(from.quota.is_some() && from.period.is_some() && from.weight.is_some());
    assert!(!from.frozen, "nothing is there to be thawed");
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
fn a_new_cgroup_of_the_unit_is_known_once_nothing_is_under_way() {
    let at = |id| {
        let place = (CgroupPath::new("jupyter.slice"), CgroupId(id));
        Owner::Systemd(UnitName("jupyter.slice".to_owned()), Some(place))
    };
    let mut tried = Tried::of(at(1), goal(Stage::Throttled));
    tried.wake();
    tried.actuator.move_to(at(2));
    assert_eq!(tried.actuator.owner(), &at(1));
    tried.goes_well(Controls::default());
    tried.actuator.move_to(at(2));
    assert_eq!(tried.actuator.owner(), &at(2));
    let undo = tried.actuator.undo().expect("something was set");
    assert_eq!(undo.owner, at(2));
}
