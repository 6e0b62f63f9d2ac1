//! Records of changes: what stands is told apart by what was ever set.

use super::*;
use crate::test_support::{quota, record, throttled};

#[test]
fn a_change_that_was_cut_off_is_never_taken_for_the_owners() {
    let before = quota(1.5);
    // Throttled, then freed and cut off, then throttled anew: any of them may stand.
    let mut undo = record(before);
    undo.intend(throttled());
    undo.confirm(throttled());
    undo.intend(quota(1.0));
    undo.intend(before);
    for standing in [throttled(), quota(1.0), before] {
        assert!(!undo.observe(&standing), "{standing:?}");
        assert_eq!(*undo.before(), before);
    }
    assert!(undo.stands());
    undo.confirm(before);
    assert!(!undo.stands());
    // What a stale drop-in brings back.
    assert!(!undo.observe(&throttled()));
}

#[test]
fn half_a_change_is_ours_and_the_same_numbers_of_an_owner_are_not() {
    let mut undo = record(Controls::default());
    undo.intend(throttled());
    let half = Controls {
        period: throttled().period,
        ..Controls::default()
    };
    assert!(!undo.observe(&half));
    undo.confirm(throttled());
    undo.intend(quota(2.0));
    undo.confirm(quota(2.0));
    // An admin's quota beside the period of ours.
    let beside = Controls {
        period: throttled().period,
        ..quota(1.3)
    };
    assert!(undo.observe(&beside));
    assert_eq!(*undo.before(), quota(1.3));
    // The throttled quota, with a period that it never had: an admin's 25 %.
    assert!(undo.observe(&quota(0.25)));
    assert_eq!(*undo.before(), quota(0.25));
}

#[test]
fn what_an_owner_sets_and_takes_back_is_followed_both_times() {
    let mut undo = record(Controls::default());
    undo.intend(throttled());
    undo.confirm(throttled());
    for memory_max in [Some(Bytes(1 << 30)), None, Some(Bytes(1 << 31))] {
        let found = Controls {
            memory_max,
            ..throttled()
        };
        assert!(undo.observe(&found));
        assert_eq!(undo.before().memory_max, memory_max);
        undo.intend(found);
        undo.confirm(found);
    }
}

#[test]
fn a_freeze_is_ours_only_while_one_may_be_under_way() {
    let mut undo = record(Controls::default());
    let frozen = Controls {
        frozen: true,
        ..Controls::default()
    };
    undo.intend(frozen);
    undo.intend(Controls::default());
    assert!(!undo.observe(&frozen), "the thaw was cut off");
    undo.confirm(Controls::default());
    assert!(undo.observe(&frozen), "an admin froze it");
    assert!(undo.before().frozen);
}

#[test]
fn what_the_kernel_alone_holds_of_ours_is_seen() {
    let mut undo = record(quota(1.5));
    undo.intend(Controls {
        tasks_max: Some(3000),
        memory_max: Some(Bytes((1 << 30) + 7)),
        ..throttled()
    });
    undo.confirm(quota(1.5));
    let period = Duration::from_millis(20);
    let nothing = KernelControls::default();
    let theirs = (Some(Cores(1.5)), Duration::from_millis(100));
    for (kernel, ours) in [
        (nothing, false),
        (
            KernelControls {
                cpu: Some((Some(Cores(0.25)), period)),
                ..nothing
            },
            true,
        ),
        (
            KernelControls {
                cpu: Some(theirs),
                ..nothing
            },
            false,
        ),
        (
            KernelControls {
                cpu: Some((Some(Cores(0.7)), period)),
                ..nothing
            },
            false,
        ),
        (
            KernelControls {
                tasks_max: Some(Some(3000)),
                ..nothing
            },
            true,
        ),
        (
            KernelControls {
                tasks_max: Some(None),
                ..nothing
            },
            false,
        ),
        (
            KernelControls {
                memory_max: Some(Some(1 << 30)),
                ..nothing
            },
            true,
        ),
        (
            KernelControls {
                frozen: true,
                ..nothing
            },
            true,
        ),
    ] {
        assert_eq!(undo.is_in(&kernel), ours, "{kernel:?}");
    }
}
