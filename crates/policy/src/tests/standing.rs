//! How a server stands, and what it begins with.

use super::*;

#[test]
fn credits_last_for_what_is_used_beyond_the_baseline() {
    let policy = Policy {
        limit: None,
        ..policy()
    };
    let mut server = Server::new(policy);
    assert_eq!(server.standing.moved_at(), None);
    server.run(2.25, Duration::from_secs(100));
    assert_eq!(server.standing.credits.left, CoreSeconds(3400.0));
    let lasts = |server: &Server| server.standing.lasts(&server.policy);
    assert_eq!(lasts(&server), Some(Duration::from_secs(1700)));
    // With a grant they do not fall, at the baseline neither, and once spent there are none.
    server.policy.unlimited = true;
    assert_eq!(lasts(&server), None);
    server.policy.unlimited = false;
    server.run(0.25, TICK);
    assert_eq!(lasts(&server), None);
    server.run_for(2.25, HOUR, TICK);
    assert_eq!(server.standing.stage, Stage::Throttled);
    assert!(server.standing.credits.rate >= server.policy.baseline);
    server.policy.baseline = Cores(0.1);
    assert_eq!(lasts(&server), None);
    let last = server.verdicts.last().map(|(at, _)| *at);
    assert_eq!(server.standing.moved_at(), last);
}

#[test]
fn a_new_server_begins_where_the_user_s_last_one_stood() {
    let sustained = Sustained {
        freeze_after: Some(HOUR),
        freeze_for: HOUR,
        stop: false,
    };
    let repeat = Some(Repeat {
        window: 24 * HOUR,
        faster: 1.0,
    });
    let mut server = Server::new(Policy {
        sustained,
        repeat,
        ..policy()
    });
    server.run_until(Stage::Frozen, 2.0);
    let earlier = server.standing;
    let rest = Duration::from_secs(100);
    let next = Standing::after_rest(&earlier, rest, &server.policy);
    assert_eq!(
        next.stage,
        Stage::Throttled,
        "a new server does not stand still"
    );
    let left = earlier.credits.left.0 + 25.0;
    assert_eq!(next.credits.left, CoreSeconds(left));
    assert_eq!(next.moved_at(), earlier.moved_at());
    // Its throttlings count on.
    server.standing = next;
    server.sample();
    server.run(0.25, Duration::from_secs(10));
    let twice = 2.0 * 2.5;
    assert_eq!(
        server.standing.credits.left,
        CoreSeconds(left + 2.5 - twice)
    );
}

#[test]
fn a_new_server_of_a_user_whose_neighbours_wait_is_let_up_as_seldom() {
    let mut server = spinner_beside_others();
    server.contended = false;
    server.run_for(2.0, Duration::from_secs(31), SECOND);
    server.contended = true;
    server.run(2.0, SECOND);
    let relapsed = Duration::from_secs(60);
    assert_eq!(server.standing.calm(&server.policy), relapsed);
    let next = Standing::after_rest(&server.standing, Duration::ZERO, &server.policy);
    assert_eq!(next.calm(&server.policy), relapsed);
}

#[test]
fn a_throttling_drains_credits_faster_until_its_window_ends() {
    let repeat = Some(Repeat {
        window: 24 * HOUR,
        faster: 0.5,
    });
    let mut server = Server::new(Policy { repeat, ..policy() });
    for _ in 0..2 {
        server.run_for(2.0, HOUR, TICK);
        assert_eq!(server.standing.stage, Stage::Throttled);
        server.run_for(0.0, 4 * HOUR, TICK);
    }
    let throttled: Vec<Time> = (server.verdicts.iter())
        .filter(|(_, verdict)| verdict.to == Stage::Throttled)
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(throttled.len(), 2);
    let drain = |at| server.standing.drain(at, &server.policy);
    assert_eq!(drain(server.now), 2.0);
    assert_eq!(drain(Time(throttled[0].0 + 24 * HOUR)), 1.5);
    assert_eq!(drain(Time(throttled[1].0 + 24 * HOUR)), 1.0);
}

#[test]
fn between_the_two_thresholds_a_server_stays_where_it_is() {
    let mut server = Server::new(Policy {
        limit: None,
        deprioritise_below: 0.5,
        free_above: 0.75,
        ..policy()
    });
    server.run(2.25, Duration::from_secs(900));
    assert_eq!(server.standing.credits.left, CoreSeconds(1800.0));
    assert_eq!(server.standing.stage, Stage::Free);
    server.run(2.25, TICK);
    assert_eq!(server.standing.stage, Stage::Deprioritised);
    server.run(0.0, HOUR / 2);
    assert_eq!(server.standing.stage, Stage::Deprioritised);
    server.run(0.0, HOUR);
    assert_eq!(server.standing.stage, Stage::Free);
}

#[test]
fn a_server_that_goes_on_climbing_does_not_wait_for_the_minimum_stay() {
    let mut server = Server::new(Policy {
        min_stay: 10 * HOUR,
        ..policy()
    });
    server.run_for(2.0, HOUR, TICK);
    assert_eq!(server.stages(), [Stage::Deprioritised, Stage::Throttled]);
}

#[test]
fn a_grant_does_not_wait_for_the_minimum_stay() {
    let mut server = Server::new(policy());
    server.run_until(Stage::Throttled, 2.0);
    server.policy.unlimited = true;
    server.run(2.0, Duration::from_secs(1));
    assert_eq!(server.standing.stage, Stage::Free);
    assert_eq!(
        server.verdicts.last().map(|(_, verdict)| &verdict.reason),
        Some(&Reason::Granted)
    );
}

#[test]
fn the_time_limit_that_ends_first_is_the_reason() {
    let time = |cpu, wall| TimeLimits {
        cpu,
        wall,
        then: Stage::Stopped,
        ..policy().time
    };
    let (much, little) = (CoreSeconds(900.0), CoreSeconds(100.0));
    for (limits, reason) in [
        (
            time(Some(much), Some(10 * TICK)),
            Reason::WallTimeSpent { limit: 10 * TICK },
        ),
        (
            time(Some(little), Some(HOUR)),
            Reason::CpuTimeSpent { limit: little },
        ),
        (
            time(Some(little), None),
            Reason::CpuTimeSpent { limit: little },
        ),
    ] {
        let mut server = Server::new(Policy {
            time: limits,
            ..policy()
        });
        server.run_for(1.0, HOUR / 10, TICK);
        assert_eq!(server.stages(), [Stage::Stopped]);
        assert_eq!(server.verdicts[0].1.reason, reason);
    }
}
