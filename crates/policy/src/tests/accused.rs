//! A server against which evidence stands.

use super::*;

/// A server that computes a little, of which this is found.
fn accused(level: Strength, of: FindingKind, policy: Policy) -> Server {
    let mut server = Server::new(policy);
    server.run_for(0.1, MINUTE, TICK);
    found(&mut server, level, of);
    server
}

fn found(server: &mut Server, level: Strength, of: FindingKind) {
    let event = Event::Evidence { level, of };
    assert_eq!(
        step(&mut server.standing, &event, server.now, &server.policy),
        None
    );
}

/// Time passes, and what was found is found again at each tick.
fn goes_on(server: &mut Server, time: Duration, level: Strength) {
    for _ in 0..time.as_secs() / TICK.as_secs() {
        found(server, level, FindingKind::Mining);
        server.run(0.1, TICK);
    }
}

fn ends_after(after: Duration, stop: Stop) -> Policy {
    Policy {
        evidence: Consequences {
            stop_after: Some(after),
            stop,
            ..Consequences::default()
        },
        ..policy()
    }
}

#[test]
fn high_evidence_throttles_a_rested_server_at_once_and_never_more() {
    for of in FindingKind::ALL {
        let mut server = accused(Strength::High, of, policy());
        server.run(0.1, TICK);
        assert_eq!(server.stages(), [Stage::Throttled]);
        let (_, verdict) = &server.verdicts[0];
        let Reason::Evidence {
            level,
            of: reason,
            stop_after,
            ..
        } = verdict.reason
        else {
            panic!("{verdict:?}");
        };
        assert_eq!((level, reason, stop_after), (Strength::High, of, None));
        goes_on(&mut server, 2 * HOUR, Strength::High);
        assert_eq!(server.standing.stage, Stage::Throttled);
    }
}

#[test]
fn certain_evidence_that_goes_on_freezes_and_then_ends() {
    let after = 10 * MINUTE;
    let mut server = accused(
        Strength::Certain,
        FindingKind::Mining,
        ends_after(after, Stop::Server),
    );
    let began = server.now;
    goes_on(&mut server, after - TICK, Strength::Certain);
    assert_eq!(server.stages(), [Stage::Throttled]);
    assert!(!server.standing.ends_as_miner());
    goes_on(&mut server, 2 * TICK, Strength::Certain);
    assert_eq!(
        server.stages(),
        [Stage::Throttled, Stage::Frozen, Stage::Stopped]
    );
    assert!(server.standing.ends_as_miner());
    let (frozen, verdict) = &server.verdicts[1];
    assert!(frozen.since(began) >= after, "{frozen:?}");
    assert_eq!(verdict.reason, Reason::EvidenceGoesOn { after });
    // Nothing comes after that.
    server.run_for(2.0, HOUR, TICK);
    assert_eq!(server.stages().len(), 3);
}

#[test]
fn certain_evidence_that_does_not_go_on_ends_nothing() {
    let mut server = accused(
        Strength::Certain,
        FindingKind::Mining,
        ends_after(MINUTE * 5, Stop::Server),
    );
    server.run_for(0.1, HOUR, TICK);
    assert_eq!(server.stages(), [Stage::Throttled, Stage::Free]);
}

#[test]
fn where_processes_are_ended_the_server_stands_still_until_they_are() {
    let after = 2 * MINUTE;
    let mut server = accused(
        Strength::Certain,
        FindingKind::Mining,
        ends_after(after, Stop::Processes),
    );
    goes_on(&mut server, after + 10 * TICK, Strength::Certain);
    assert_eq!(server.stages(), [Stage::Throttled, Stage::Frozen]);
    assert!(server.standing.waits_for_end_of_processes(&server.policy));
    let event = Event::ProcessesEnded { count: 3 };
    let verdict = step(&mut server.standing, &event, server.now, &server.policy);
    let verdict = verdict.expect("it goes on without them");
    assert_eq!(
        (verdict.from, verdict.to),
        (Stage::Frozen, Stage::Throttled)
    );
    assert_eq!(verdict.reason, Reason::ProcessesEnded { count: 3 });
    assert!(!server.standing.is_accused(server.now));
    assert!(!server.standing.waits_for_end_of_processes(&server.policy));
    server.run_for(0.0, HOUR, TICK);
    assert_eq!(server.standing.stage, Stage::Free);
    // Without a freeze to end, nothing follows.
    assert_eq!(
        step(&mut server.standing, &event, server.now, &server.policy),
        None
    );
}

#[test]
fn evidence_stands_for_its_time_and_a_weaker_finding_takes_nothing_from_it() {
    let mut server = accused(Strength::Certain, FindingKind::Network, policy());
    let stands = server.policy.evidence.stands;
    found(&mut server, Strength::High, FindingKind::Mining);
    let accusation = *server.standing.accusation(server.now).expect("it stands");
    assert_eq!(accusation.level, Strength::Certain);
    // Of both kinds it counts as mining.
    assert_eq!(accusation.of, FindingKind::Mining);
    assert_eq!(accusation.until.since(server.now), stands);
    let last = Time(server.now.0 + stands - Duration::from_secs(1));
    assert!(server.standing.is_accused(last));
    assert!(!server.standing.is_accused(Time(server.now.0 + stands)));
    // What is stronger begins anew too.
    let mut other = accused(Strength::High, FindingKind::Mining, policy());
    other.run(0.1, MINUTE);
    found(&mut other, Strength::Certain, FindingKind::Mining);
    let accusation = *other.standing.accusation(other.now).expect("it stands");
    assert_eq!(
        (accusation.level, accusation.since),
        (Strength::Certain, other.now)
    );
    // What comes when it stands no more begins anew.
    server.now = Time(server.now.0 + 2 * stands);
    found(&mut server, Strength::High, FindingKind::Network);
    let accusation = *server.standing.accusation(server.now).expect("it stands");
    assert_eq!(
        (accusation.level, accusation.of, accusation.since),
        (Strength::High, FindingKind::Network, server.now)
    );
}

#[test]
fn an_admin_who_gave_unlimited_cpu_has_looked_at_it() {
    let policy = Policy {
        unlimited: true,
        ..ends_after(MINUTE, Stop::Server)
    };
    let mut server = accused(Strength::Certain, FindingKind::Mining, policy);
    goes_on(&mut server, HOUR, Strength::Certain);
    assert_eq!(server.stages(), []);
}

#[test]
fn verdicts_that_were_only_reported_end_nothing_when_they_begin_to_be_carried_out() {
    let after = 2 * MINUTE;
    let mut server = accused(
        Strength::Certain,
        FindingKind::Mining,
        ends_after(after, Stop::Server),
    );
    goes_on(&mut server, after + 2 * TICK, Strength::Certain);
    assert_eq!(server.standing.stage, Stage::Stopped);
    server.standing.reopen(server.now);
    assert_eq!(server.standing.stage, Stage::Throttled);
    assert!(!server.standing.ends_as_miner());
    let accusation = server.standing.accusation(server.now).expect("it stands");
    assert_eq!(accusation.since, server.now);
    goes_on(&mut server, after - TICK, Strength::Certain);
    assert_eq!(server.standing.stage, Stage::Throttled);
    goes_on(&mut server, 2 * TICK, Strength::Certain);
    assert_eq!(server.standing.stage, Stage::Stopped);
}

#[test]
fn what_the_configuration_reports_only_is_only_reported() {
    let mut policy = policy();
    policy.evidence.high = None;
    policy.evidence.certain = None;
    policy.evidence.stop_after = None;
    let mut server = accused(Strength::Certain, FindingKind::Mining, policy);
    goes_on(&mut server, HOUR, Strength::Certain);
    assert_eq!(server.stages(), []);
}

#[test]
fn evidence_does_not_wait_for_the_minimum_stay() {
    let mut server = Server::new(policy());
    server.run_for(2.0, HOUR, TICK);
    server.run_until(Stage::Free, 0.0);
    found(&mut server, Strength::High, FindingKind::Mining);
    server.run(0.1, TICK);
    assert_eq!(server.standing.stage, Stage::Throttled);
}

#[test]
fn only_where_processes_are_ended_a_frozen_server_waits_for_that() {
    let after = 2 * MINUTE;
    for (stop, waits) in [(Stop::Server, false), (Stop::Processes, true)] {
        let policy = ends_after(after, stop);
        let mut server = accused(Strength::Certain, FindingKind::Mining, policy);
        goes_on(&mut server, after - TICK, Strength::Certain);
        assert!(!server.standing.waits_for_end_of_processes(&server.policy));
        goes_on(&mut server, TICK, Strength::Certain);
        let standing = &server.standing;
        assert_eq!(standing.stage, Stage::Frozen);
        assert_eq!(standing.waits_for_end_of_processes(&server.policy), waits);
        assert!(!standing.ends_as_miner(), "it stands still");
    }
    // One that stands still for its load has nothing to be ended.
    let sustained = Sustained {
        freeze_after: Some(HOUR),
        ..policy().sustained
    };
    let mut server = Server::new(Policy {
        sustained,
        ..ends_after(after, Stop::Processes)
    });
    server.run_until(Stage::Frozen, 2.0);
    assert!(!server.standing.waits_for_end_of_processes(&server.policy));
}
