//! A server stands still under a timer.

use super::*;

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
    // Renewed once less than half of the grace is left, and not before.
    let at = |seconds| Time(NOW.0 + lease - THAW_GRACE / 2 + Duration::from_secs(seconds));
    tried.wake();
    let asked = tried.then(standing(on(Stage::Frozen)));
    assert!(matches!(asked, Request::Record(_)), "{asked:?}");
    tried.answer(Answer::Recorded(Ok(())));
    assert!(!tried.actuator.is_due(at(0)) && tried.actuator.is_due(at(1)));
    tried.actuator.put_off();
    assert!(tried.actuator.is_due(at(1)), "whatever else is due");
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
