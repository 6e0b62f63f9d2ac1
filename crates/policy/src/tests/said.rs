//! What is shown to people: the words, and the numbers that prove them.

use super::*;
use crate::finding::{Evidence, Fact, Modes, Sensor, Word};

#[test]
fn words_are_those_of_the_journal() {
    let stages = Stage::ALL.map(|stage| stage.to_string());
    let words = ["free", "deprioritised", "throttled", "frozen", "stopped"];
    assert_eq!(stages, words);
    let levels = [
        Strength::Exonerates,
        Strength::Suspicious,
        Strength::High,
        Strength::Certain,
    ];
    let words = ["exonerates", "suspicious", "high", "certain"];
    assert_eq!(levels.map(|level| level.to_string()), words);
    let sensors = Sensor::ALL.map(|sensor| sensor.to_string());
    let words = [
        "rounding",
        "constants",
        "exec",
        "binary",
        "stratum",
        "pools",
        "scan",
        "volume",
    ];
    assert_eq!(sensors, words);
}

/// Whether a text has each of these, in this order.
fn has(text: &str, parts: &[&str]) -> bool {
    let mut rest = text;
    parts.iter().all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[test]
fn a_fact_is_told_with_the_numbers_that_prove_it() {
    let modes = Modes {
        down: 21,
        up: 22,
        zero: 23,
        flushed: 64,
    };
    let port = Some(2222);
    for (fact, parts) in [
        (Fact::RandomRounding(modes), &["21", "22", "23", "64"][..]),
        (Fact::MixedRounding(modes), &["not flushed", "21", "64"]),
        (Fact::IntervalRounding(modes), &["interval", "21", "64"]),
        (Fact::Constants { found: 5 }, &["5 of RandomX's 7", "4"]),
        (Fact::Named("xmrig"), &["\"xmrig\""]),
        (Fact::NoPythonInPython, &["python"]),
        (Fact::Unreadable, &["FUSE"]),
        (
            Fact::Stratum {
                word: Word::Subscribe,
                port: 3333,
            },
            &["mining.subscribe", "3333"],
        ),
        (
            Fact::Stratum {
                word: Word::Authorize,
                port: 3333,
            },
            &["mining.authorize"],
        ),
        (Fact::Listed, &["deny list"]),
        (
            Fact::Scan {
                hosts: 500,
                answered: 7,
                port,
                looks: 1,
            },
            &["500", "7", "2222"],
        ),
        (
            Fact::PortScan {
                ports: 600,
                looks: 2,
            },
            &["600", "2 looks in a row"],
        ),
        (
            Fact::Flood {
                rate: 70_000,
                looks: 3,
            },
            &["70000", "3 looks in a row"],
        ),
        (Fact::Spoofed { packets: 9 }, &["9 packets"]),
    ] {
        assert!(has(&fact.to_string(), parts), "{fact}");
    }
    // One look is no row, and no port is not named.
    let scan = Fact::Scan {
        hosts: 500,
        answered: 7,
        port: None,
        looks: 1,
    };
    assert!(!has(&scan.to_string(), &["in a row"]), "{scan}");
    assert!(!has(&scan.to_string(), &["port"]), "{scan}");
}

#[test]
fn evidence_names_its_process_if_it_is_of_one() {
    let of = |pid| Evidence {
        fact: Fact::Listed,
        pid,
        at: Time::default(),
    };
    assert_eq!(
        of(Evidence::NO_PROCESS).to_string(),
        Fact::Listed.to_string()
    );
    assert!(has(
        &of(4711).to_string(),
        &["4711", &Fact::Listed.to_string()]
    ));
}

#[test]
fn a_reason_is_told_with_what_was_measured() {
    let (size, left, rate) = (CoreSeconds(3600.0), CoreSeconds(600.0), Cores(1.5));
    let after = 12 * MINUTE;
    let evidence = |of, stop_after| Reason::Evidence {
        level: Strength::High,
        of,
        stands: 10 * MINUTE,
        stop_after,
    };
    for (reason, parts) in [
        (
            Reason::CreditsLow { left, size, rate },
            &["10 core-minutes", "1 core-hour", "1.5 cores"][..],
        ),
        (Reason::SpentUncontended { size }, &["1 core-hour"]),
        (Reason::Sustained { after }, &["12 min"]),
        (Reason::FrozenLongEnough { after }, &["12 min"]),
        (Reason::CpuTimeSpent { limit: size }, &["1 core-hour"]),
        (Reason::WallTimeSpent { limit: after }, &["12 min"]),
        (
            evidence(FindingKind::Mining, Some(after)),
            &["mines", "high", "10 min", "12 min"],
        ),
        (
            evidence(FindingKind::Network, None),
            &["network", "high", "10 min"],
        ),
        (Reason::EvidenceGoesOn { after }, &["certain", "12 min"]),
        (Reason::ProcessesEnded { count: 3 }, &["3 processes"]),
        (Reason::Granted, &["admin"]),
        (
            Reason::Rested { left, size },
            &["10 core-minutes", "1 core-hour"],
        ),
    ] {
        assert!(has(&reason.to_string(), parts), "{reason}");
    }
}
