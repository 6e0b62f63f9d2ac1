//! What is known of places, and one that is somebody else's.

use super::*;

#[test]
fn numbers_are_the_node_s_and_come_back() {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.handle(Input::SetAside(CgroupId(2)));
    let numbers = [1, 2].map(|id| tried.node.number_of(CgroupId(id)).expect("a number"));
    assert_ne!(numbers[0], numbers[1]);
    let places: Vec<CgroupId> = tried.node.actuators().map(|(id, _)| id).collect();
    assert_eq!(places, [CgroupId(1)], "what is set aside is none");
    for (id, number) in [1, 2].into_iter().zip(numbers) {
        assert_eq!(tried.node.numbers().holder(number), Some(CgroupId(id)));
        tried.handle(Input::Gone(CgroupId(id)));
        assert_eq!(tried.node.numbers().holder(number), None);
        assert_eq!(tried.node.number_of(CgroupId(id)), None);
    }
}

#[test]
fn one_that_is_somebody_else_s_is_put_back_and_let_go_of() {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.handle(Input::Wake(vec![CgroupId(1)]));
    tried.goes_well();
    assert!(
        tried
            .node
            .actuator(CgroupId(1))
            .and_then(Actuator::ours)
            .is_some()
    );
    tried.handle(Input::Released(CgroupId(1)));
    assert!(tried.node.is_released(CgroupId(1)));
    let ours = tried
        .node
        .actuator(CgroupId(1))
        .and_then(Actuator::ours)
        .copied();
    tried.reads(ours.expect("ours stands"), life(1));
    assert!(!tried.effects.contains(&Effect::LetGo(CgroupId(1))));
    tried.goes_well();
    assert!(tried.effects.contains(&Effect::LetGo(CgroupId(1))));
}
