//! What holds whatever happens.

use super::*;
use proptest::prelude::*;

/// What can happen between two looks: work, rest, a counter that starts anew, a clock that stands
/// still or jumps.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Run { cores: f64, seconds: u32 },
    Recreated,
    Contention(bool),
    ClockJumps { seconds: i32 },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (0.0..8.0f64, 1u32..600).prop_map(|(cores, seconds)| Happening::Run { cores, seconds }),
        1 => Just(Happening::Recreated),
        1 => any::<bool>().prop_map(Happening::Contention),
        1 => (-100_000..100_000i32).prop_map(|seconds| Happening::ClockJumps { seconds }),
    ]
}

fn some_policy() -> impl Strategy<Value = Policy> {
    (
        0.01..4.0f64,
        1.0..10_000.0f64,
        0.0..0.5f64,
        0.01..0.5f64,
        0u64..300,
        0.0..8.0f64,
    )
        .prop_map(|(baseline, size, below, gap, stay, above)| Policy {
            limit: Some(Cores(baseline + above)),
            baseline: Cores(baseline),
            size: CoreSeconds(size),
            deprioritise_below: below,
            free_above: below + gap,
            min_stay: Duration::from_secs(stay),
            ..policy()
        })
}

fn live(server: &mut Server, happenings: &[Happening]) {
    for happening in happenings {
        match *happening {
            Happening::Run { cores, seconds } => {
                server.run(cores, Duration::from_secs(seconds.into()));
            }
            Happening::Contention(contended) => server.contended = contended,
            Happening::Recreated => {
                server.usage = Duration::ZERO;
                server.sample();
            }
            Happening::ClockJumps { seconds } => {
                let jump = Duration::from_secs(seconds.unsigned_abs().into());
                server.now.0 = if seconds < 0 {
                    server.now.0.saturating_sub(jump)
                } else {
                    server.now.0 + jump
                };
                server.sample();
            }
        }
        let left = server.standing.credits.left.0;
        assert!(
            (0.0..=server.policy.size.0).contains(&left),
            "credits {left}"
        );
    }
}

proptest! {
    #[test]
    fn opposite_verdicts_are_the_minimum_stay_apart(
        policy in some_policy(),
        happenings in prop::collection::vec(happening(), 0..200),
    ) {
        let mut server = Server::new(policy);
        live(&mut server, &happenings);
        for pair in server.verdicts.windows(2) {
            let [(t0, a), (t1, b)] = pair else { unreachable!() };
            if (a.to > a.from) != (b.to > b.from) {
                prop_assert!(t1.since(*t0) >= server.policy.min_stay, "{pair:?}");
            }
            prop_assert_eq!(a.to, b.from);
        }
    }

    #[test]
    fn rest_leads_back_to_free(
        policy in some_policy(),
        happenings in prop::collection::vec(happening(), 0..100),
    ) {
        let mut server = Server::new(policy);
        live(&mut server, &happenings);
        let rest = server.standing.credits.rest_until(1.0, &server.policy) + server.policy.min_stay;
        // A clock that was set back has to catch up with the last verdict first.
        server.now.0 += Duration::from_secs(200 * 100_000);
        server.sample();
        server.run(0.0, rest);
        for _ in 0..4 {
            server.run(0.0, server.policy.min_stay.max(server.policy.sustained.freeze_for) + TICK);
        }
        prop_assert_eq!(server.standing.stage, Stage::Free);
    }

    #[test]
    fn suspension_and_clock_jumps_raise_nobody(
        policy in some_policy(),
        jumps in prop::collection::vec(-100_000..100_000i32, 0..50),
    ) {
        let mut server = Server::new(policy);
        for seconds in jumps {
            live(&mut server, &[Happening::ClockJumps { seconds }]);
        }
        prop_assert!(server.verdicts.is_empty());
    }

    #[test]
    fn the_same_events_give_the_same_verdicts(
        policy in some_policy(),
        happenings in prop::collection::vec(happening(), 0..100),
    ) {
        let mut first = Server::new(policy.clone());
        let mut second = Server::new(policy);
        live(&mut first, &happenings);
        live(&mut second, &happenings);
        prop_assert_eq!(first.verdicts, second.verdicts);
    }
}
