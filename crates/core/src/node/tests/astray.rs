//! What was meant for a unit went to the next one of its name.

use super::*;

/// Alice's server is being limited.
fn being_limited() -> Tried {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.handle(Input::Wake(vec![CgroupId(1)]));
    tried.reads(Controls::default(), life(1));
    tried.answer(Answer::Recorded(Ok(())));
    tried
}

/// The same, and another one has its unit's name by then.
fn astray(read_before: bool) -> (Tried, Controls) {
    let mut tried = being_limited();
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
    let bobs = unit("jupyter-bob.service");
    assert!(!tried.node.is_departing(&bobs));
    tried.server(0, "bob");
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
    let mut tried = being_limited();
    tried.handle(Input::Gone(CgroupId(1)));
    tried.answer(Answer::Applied(Ok(()), life(2)));
    let noted =
        |effect: &Effect| matches!(effect, Effect::Note(note) if note.start.is_same(life(2)));
    assert!(tried.effects.iter().any(noted));
}

#[test]
fn an_answer_that_never_comes_for_one_that_is_gone_delays_no_other() {
    let mut tried = being_limited();
    tried.asked.clear();
    tried.handle(Input::Gone(CgroupId(1)));
    tried.server(2, "alice");
    tried.handle(Input::Wake(vec![CgroupId(2)]));
    tried.tick(1, &[(2, 0.0)]);
    assert!(tried.asked.is_empty());
    tried.tick(actuator::LOST_AFTER.as_secs(), &[(2, 0.0)]);
    assert!(!tried.asked.is_empty(), "its turn has come");
}
