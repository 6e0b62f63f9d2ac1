//! A look at places: which of them are brought about anew.

use super::*;
use std::collections::BTreeSet;

/// Two servers, of which nothing is to be done.
fn two() -> Tried {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.server(2, "bob");
    tried.handle(Input::Wake(vec![CgroupId(1), CgroupId(2)]));
    tried.goes_well();
    tried.tick(1, &[]);
    assert_eq!(tried.asked(), [0; 0]);
    tried
}

fn only(id: u64) -> Looked {
    Looked {
        only: Some(BTreeSet::from([CgroupId(id)])),
        ..Looked::default()
    }
}

#[test]
fn a_look_tries_again_what_failed_of_those_it_looks_at() {
    let mut tried = two();
    tried.handle(Input::Wake(vec![CgroupId(1)]));
    tried.answer(Answer::Read(Err(Failure::Other("refused".to_owned()))));
    tried.look(only(2), &[]);
    assert_eq!(tried.asked(), [0; 0]);
    tried.look(only(1), &[]);
    assert_eq!(tried.asked(), [1]);
}

#[test]
fn a_quota_that_the_kernel_does_not_hold_is_brought_about_anew() {
    let mut tried = two();
    let ours = Some(Cores(2.0));
    for (held, asked) in [(ours, vec![]), (None, vec![2])] {
        let mut looked = Looked::default();
        looked.quotas.insert(CgroupId(1), ours);
        looked.quotas.insert(CgroupId(2), held);
        tried.look(looked, &[]);
        assert_eq!(tried.asked(), asked, "{held:?}");
    }
}

#[test]
fn a_tick_divides_the_baselines_and_a_look_before_it_does_not() {
    let mut tried = Tried::new(Mode::Enforce);
    tried.server(1, "alice");
    tried.handle(found(
        2,
        "jupyter-alice-gpu.service",
        "alice",
        PlaceKind::Server,
    ));
    tried.look(only(1), &[]);
    assert_eq!(tried.asked(), [0; 0]);
    tried.tick(1, &[]);
    assert_eq!(tried.asked(), [1]);
}
