//! Credits that only count while others wait for the CPU.

use super::*;
use proptest::prelude::*;

#[test]
fn a_node_nobody_else_needs_is_left_to_its_one_busy_user() {
    let mut server = Server::new(Policy {
        contended_above: Some(0.1),
        ..policy()
    });
    server.contended = false;
    server.run_for(2.0, 3 * HOUR, TICK);
    assert_eq!(server.stages(), [Stage::Deprioritised]);
    server.contended = true;
    server.run(2.0, TICK);
    assert_eq!(server.standing.stage, Stage::Throttled);
    server.contended = false;
    server.run_for(2.0, Duration::from_secs(115), TICK);
    assert_eq!(server.standing.stage, Stage::Throttled);
    server.run_for(2.0, 2 * TICK, TICK);
    assert_eq!(server.standing.stage, Stage::Deprioritised);
}

#[test]
fn without_a_measure_it_is_all_one_whether_others_wait() {
    let mut server = Server::new(policy());
    server.contended = false;
    server.run_for(2.0, 3 * HOUR, TICK);
    assert_eq!(server.stages(), [Stage::Deprioritised, Stage::Throttled]);
}

/// Two who spin side by side: each time the one is let up, the other waits again.
#[test]
fn whose_neighbour_waits_again_is_let_up_ever_more_seldom() {
    let mut server = spinner_beside_others();
    let begun = server.verdicts.len();
    for _ in 0..2 * 3600 {
        server.contended = server.standing.stage < Stage::Throttled;
        server.run(2.0, SECOND);
    }
    let verdicts = &server.verdicts[begun..];
    let let_up = |verdict: &&(Time, Verdict)| verdict.1.to < Stage::Throttled;
    let times: Vec<u64> = verdicts
        .iter()
        .filter(let_up)
        .map(|(at, _)| at.0.as_secs())
        .collect();
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // One second passes until the neighbour is heard, and one until the first calm is.
    assert_eq!(gaps[..4], [62, 122, 242, 482], "{gaps:?}");
    assert!(gaps[4..].iter().all(|gap| *gap == 482), "{gaps:?}");
    // Once nobody minds for as long, all is as at first.
    server.contended = false;
    server.run_for(2.0, 2 * HOUR, SECOND);
    assert_eq!(server.standing.stage, Stage::Deprioritised);
    server.contended = true;
    server.run(2.0, SECOND);
    assert_eq!(server.standing.stage, Stage::Throttled);
    server.contended = false;
    server.run_for(2.0, Duration::from_secs(31), SECOND);
    assert_eq!(server.standing.stage, Stage::Deprioritised);
}

#[test]
fn one_throttled_again_sooner_than_others_were_calm_has_relapsed() {
    for (calm, relapsed) in [(29, true), (30, false)] {
        let mut server = Server::new(while_others_wait());
        server.run_until(Stage::Throttled, 2.0);
        server.contended = false;
        server.run_until(Stage::Deprioritised, 2.0);
        server.run_for(2.0, Duration::from_secs(calm - 1), SECOND);
        server.contended = true;
        server.run(2.0, SECOND);
        assert_eq!(server.standing.stage, Stage::Throttled);
        let expected = if relapsed { 60 } else { 30 };
        let next = server.standing.calm(&server.policy);
        assert_eq!(next, Duration::from_secs(expected));
    }
}

#[test]
fn the_first_throttling_is_no_relapse_however_soon_it_comes() {
    let mut server = Server::new(Policy {
        contended_above: Some(0.1),
        deprioritise_below: 0.01,
        ..policy()
    });
    server.run_until(Stage::Throttled, 2.0);
    let yielded = server.verdicts[1].0.since(server.verdicts[0].0);
    assert!(yielded < Duration::from_secs(30), "{yielded:?}");
    let calm = server.standing.calm(&server.policy);
    assert_eq!(calm, Duration::from_secs(120));
}

#[test]
fn that_others_are_calm_counts_while_a_server_stands_still() {
    let sustained = Sustained {
        freeze_after: Some(HOUR),
        freeze_for: Duration::from_secs(600),
        stop: false,
    };
    let mut server = Server::new(Policy {
        contended_above: Some(0.1),
        sustained,
        ..policy()
    });
    server.run_until(Stage::Frozen, 2.0);
    server.contended = false;
    server.run_until(Stage::Throttled, 2.0);
    server.run(2.0, TICK);
    assert_eq!(server.standing.stage, Stage::Deprioritised);
}

#[test]
fn a_moment_without_waiting_is_no_calm() {
    let mut server = spinner_beside_others();
    assert_eq!(server.standing.stage, Stage::Throttled);
    for _ in 0..20 {
        server.contended = false;
        server.run_for(2.0, Duration::from_secs(29), SECOND);
        server.contended = true;
        server.run(2.0, SECOND);
        assert_eq!(server.standing.stage, Stage::Throttled);
    }
    server.contended = false;
    server.run_for(2.0, Duration::from_secs(31), SECOND);
    assert_eq!(server.standing.stage, Stage::Deprioritised);
}

proptest! {
    /// Pressure may come and go as it likes, and the minimum stay may be nothing.
    #[test]
    fn contention_throttles_nobody_twice_within_half_a_minute(
        contention in prop::collection::vec((any::<bool>(), 1u32..40), 1..60),
        stay in 0u64..5,
    ) {
        let mut server = Server::new(Policy {
            min_stay: Duration::from_secs(stay),
            ..while_others_wait()
        });
        server.run(2.0, HOUR);
        for (contended, seconds) in contention {
            server.contended = contended;
            server.run_for(2.0, Duration::from_secs(seconds.into()), Duration::from_secs(1));
        }
        let throttled = |verdict: &&(Time, Verdict)| verdict.1.to == Stage::Throttled;
        let times: Vec<Time> = server.verdicts.iter().filter(throttled).map(|(at, _)| *at).collect();
        for pair in times.windows(2) {
            prop_assert!(pair[1].since(pair[0]) >= Duration::from_secs(30), "{times:?}");
        }
    }
}
