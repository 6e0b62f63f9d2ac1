//! Verdicts are decided, carried out and logged.

use super::*;

/// Alice's server has used up its credits by now.
fn spinner() -> Tried {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.tick(1, &[(1, 0.0)]);
    tried.goes_well();
    tried.tick(60, &[(1, 60.0)]);
    tried
}

#[test]
fn a_verdict_is_decided_set_and_in_force() {
    let mut tried = spinner();
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

#[test]
fn a_verdict_that_waits_outlives_another_configuration() {
    let mut tried = spinner();
    let hot = Cores(0.9);
    tried.handle(Input::Settings(Settings {
        hot,
        ..settings(Mode::Enforce)
    }));
    tried.goes_well();
    let carried_out = |effect: &Effect| {
        matches!(effect, Effect::Unit(_, actuator::Effect::Log(event))
            if matches!(&**event, Event::Verdict { verdict, .. } if verdict.to > verdict.from))
    };
    assert!(tried.effects.iter().any(carried_out));
}

#[test]
fn what_is_only_observed_ends_nothing() {
    let mut tried = Tried::new(Mode::Observe);
    tried.server(1, "alice");
    accused(&mut tried, 1);
    assert_eq!(tried.stage(1), Stage::Stopped);
    tried.goes_well();
    assert_eq!(tried.ended(), []);
}
