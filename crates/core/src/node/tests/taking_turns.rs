//! The places of one user take turns.

use super::*;

#[test]
fn parts_of_a_baseline_are_set_one_after_the_other_and_no_user_waits_for_another() {
    let mut tried = Tried::new(Mode::Enforce);
    for (id, unit, user) in [
        (1, "jupyter-alice.service", "alice"),
        (2, "jupyter-alice-gpu.service", "alice"),
        (3, "jupyter-bob.service", "bob"),
        (4, "jupyter-bob-gpu.service", "bob"),
    ] {
        tried.handle(found(id, unit, user, PlaceKind::Server));
    }
    tried.handle(Input::Divide);
    assert_eq!(tried.asked(), [1, 3]);
    // Alice's first is done, and hers that is next begins; bob's is not answered.
    let bobs = tried.asked.split_off(1);
    while tried.node.is_busy(&[CgroupId(1)]) {
        assert_eq!(tried.asked(), [1]);
        let rest = tried.asked.split_off(1);
        tried.goes_well_once();
        tried.asked.extend(rest);
    }
    assert_eq!(tried.asked(), [2]);
    tried.goes_well();
    assert!(!tried.node.is_busy(&[CgroupId(1), CgroupId(2)]));
    assert!(tried.node.is_busy(&[CgroupId(3)]) && !tried.node.is_busy(&[CgroupId(4)]));
    // One whose turn it is goes: the next has its.
    tried.handle(Input::Gone(CgroupId(3)));
    assert_eq!(tried.asked(), [4]);
    tried.asked.extend(bobs);
    tried.goes_well();
    assert!(!tried.node.is_busy(&[CgroupId(4)]));
}

#[test]
fn who_comes_between_ticks_leaves_the_parts_of_other_users_as_they_are() {
    let parts = |bob_comes: bool| {
        let mut tried = Tried::new(Mode::Enforce);
        for (id, unit) in [
            (1, "jupyter-alice.service"),
            (2, "jupyter-alice-gpu.service"),
        ] {
            tried.handle(found(id, unit, "alice", PlaceKind::Server));
        }
        let used = 3.0 * policy().baseline.0;
        tried.tick(10, &[(1, 0.0), (2, 0.0)]);
        tried.tick(10, &[(1, used), (2, 0.0)]);
        if bob_comes {
            tried.now.0 += Duration::from_secs(9);
            tried.server(3, "bob");
            tried.handle(Input::Divide);
        }
        tried.tick(if bob_comes { 1 } else { 10 }, &[(1, 2.0 * used), (2, 0.0)]);
        [1, 2].map(|id| {
            tried
                .node
                .accounts()
                .place(CgroupId(id))
                .and_then(|place| place.part())
        })
    };
    assert!(parts(false)[0].is_some());
    assert_eq!(parts(true), parts(false));
}
