//! What the kernel makes of limits, and holds of ours.

use super::*;

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
                tasks_max: Some(Some(77)),
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

#[test]
fn the_kernel_holds_whole_pages_and_a_millisecond_a_period_at_least() {
    let usec = Duration::from_micros;
    for (cores, period, held) in [
        (None, None, (None, 100_000)),
        (Some(0.25), Some(usec(20_000)), (Some(5000), 20_000)),
        (Some(0.01), None, (Some(1000), 100_000)),
        (Some(0.005), None, (Some(1000), 200_000)),
        (Some(0.0001), None, (Some(1000), 1_000_000)),
        (Some(2.0), Some(usec(10)), (Some(2000), 1000)),
    ] {
        let settings = Controls {
            quota: cores.map(Cores),
            period,
            ..Controls::default()
        };
        assert_eq!(quota_and_period(&settings), held, "{settings:?}");
    }
    let held = as_held(&Controls {
        memory_high: Some(Bytes(3 * 4096 + 1)),
        memory_max: Some(Bytes(5 * 4096 - 1)),
        ..quota(0.001)
    });
    let expected = Controls {
        period: Some(usec(1_000_000)),
        weight: Some(100),
        memory_high: Some(Bytes(3 * 4096)),
        memory_max: Some(Bytes(4 * 4096)),
        ..quota(0.001)
    };
    assert_eq!(held, expected);
    let heavy = |weight| Controls {
        weight: Some(weight),
        ..Controls::default()
    };
    assert_eq!(as_held(&heavy(20_000)).weight, Some(10_000));
    let third = as_held(&Controls {
        period: Some(usec(1000)),
        ..quota(1.2345678)
    });
    assert_eq!(
        third.quota,
        Some(Cores(1.235)),
        "whole microseconds a period"
    );
}
