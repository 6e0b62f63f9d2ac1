//! What several facts about one server amount to.
//!
//! - certain: rule R, together with constants, stratum, or a minute of heat and rule R again;
//! - high: constants or stratum, on a hot server;
//! - suspicious: whatever is merely odd;
//! - exonerates: what looks odd and is honest.
//!
//! Abuse of the network has a level of its own, which needs no heat and adds nothing to evidence of
//! mining: a scan that goes on, or a flood, is high.
//!
//! Sustained CPU alone is none of these, however long: it is where training jobs and miners are
//! alike. More evidence never lowers what less of it proved; `tests` hold both down.

use super::FindingKind;
use crate::finding::{Evidence, Fact, Strength};
use std::time::Duration;

/// Rule R twice proves it only on a server that was hot for this long.
pub const HOT_FOR_CERTAIN: Duration = Duration::from_secs(60);

/// What evidence on one server proves together; `hot` is for how long it has used much CPU,
/// `None` when it does not.
pub fn suspicion(evidence: &[Evidence], hot: Option<Duration>) -> Option<Strength> {
    let network = evidence_of(FindingKind::Network, evidence);
    let network = network.iter().map(Evidence::strength).max();
    network.max(of_mining(&evidence_of(FindingKind::Mining, evidence), hot))
}

/// What evidence that proves so much is of: of mining, if that alone proves as much.
pub fn kind_of_finding(
    evidence: &[Evidence],
    hot: Option<Duration>,
    proved: Strength,
) -> FindingKind {
    match of_mining(&evidence_of(FindingKind::Mining, evidence), hot) >= Some(proved) {
        true => FindingKind::Mining,
        false => FindingKind::Network,
    }
}

/// The evidence of one matter.
pub fn evidence_of(matter: FindingKind, evidence: &[Evidence]) -> Vec<Evidence> {
    let of_network = matter == FindingKind::Network;
    let all = evidence.iter().copied();
    all.filter(|one| one.fact.is_of_network() == of_network)
        .collect()
}

fn of_mining(evidence: &[Evidence], hot: Option<Duration>) -> Option<Strength> {
    let strongest = evidence.iter().map(Evidence::strength).max()?;
    let (Some(hot), true) = (hot, strongest >= Strength::Suspicious) else {
        // What is idle harms nobody: it is noted, and no more.
        return Some(strongest.min(Strength::Suspicious));
    };
    let mut windows = evidence
        .iter()
        .filter(|one| matches!(one.fact, Fact::RandomRounding(_)))
        .map(|one| one.at);
    let random = windows.next();
    let again = random.is_some_and(|first| windows.any(|at| at != first));
    let second_sign = strongest >= Strength::High || (again && hot >= HOT_FOR_CERTAIN);
    Some(match (random, second_sign) {
        (Some(_), true) => Strength::Certain,
        _ => strongest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Modes;
    use proptest::prelude::*;
    use quantities::Time;

    fn at(seconds: u64, fact: Fact) -> Evidence {
        Evidence {
            fact,
            pid: 1,
            at: Time(Duration::from_secs(seconds)),
        }
    }

    const RANDOM: Fact = Fact::RandomRounding(Modes {
        down: 20,
        up: 20,
        zero: 20,
        flushed: 60,
    });
    const STRATUM: Fact = Fact::Stratum {
        word: crate::finding::Word::Login,
        port: 3333,
    };
    const SCAN: Fact = Fact::Scan {
        hosts: 500,
        answered: 0,
        port: Some(22),
        looks: 10,
    };
    const HOT: Option<Duration> = Some(Duration::from_secs(15));
    const LONG_HOT: Option<Duration> = Some(Duration::from_secs(61));

    #[test]
    fn rule_r_and_constants_together_are_certain() {
        let both = [at(1, RANDOM), at(2, Fact::Constants { found: 7 })];
        assert_eq!(suspicion(&both, HOT), Some(Strength::Certain));
        let both = [at(1, RANDOM), at(2, STRATUM)];
        assert_eq!(suspicion(&both, HOT), Some(Strength::Certain));
    }

    #[test]
    fn rule_r_alone_needs_a_minute_and_a_second_window() {
        let (once, twice) = ([at(1, RANDOM)], [at(1, RANDOM), at(31, RANDOM)]);
        assert_eq!(suspicion(&once, LONG_HOT), Some(Strength::Suspicious));
        assert_eq!(suspicion(&twice, HOT), Some(Strength::Suspicious));
        assert_eq!(suspicion(&twice, LONG_HOT), Some(Strength::Certain));
        let same_window = [at(1, RANDOM), at(1, RANDOM)];
        assert_eq!(
            suspicion(&same_window, LONG_HOT),
            Some(Strength::Suspicious)
        );
    }

    #[test]
    fn constants_are_high_from_four_of_seven() {
        for (found, level) in [(3, Strength::Suspicious), (4, Strength::High)] {
            let evidence = [at(1, Fact::Constants { found })];
            assert_eq!(suspicion(&evidence, LONG_HOT), Some(level));
            assert_eq!(suspicion(&evidence, None), Some(Strength::Suspicious));
        }
    }

    #[test]
    fn names_and_listed_hosts_are_never_more_than_suspicious() {
        let names = [
            at(1, Fact::Named("xmrig")),
            at(2, Fact::Named("stratum+tcp://")),
            at(3, Fact::Listed),
        ];
        assert_eq!(suspicion(&names, LONG_HOT), Some(Strength::Suspicious));
    }

    #[test]
    fn interval_arithmetic_is_exonerated_and_said_so() {
        let honest = [at(1, Fact::IntervalRounding(Modes::default()))];
        assert_eq!(suspicion(&honest, LONG_HOT), Some(Strength::Exonerates));
    }

    #[test]
    fn abuse_of_the_network_needs_no_heat_and_proves_no_mining() {
        let scan = [at(1, SCAN)];
        assert_eq!(suspicion(&scan, None), Some(Strength::High));
        assert_eq!(
            kind_of_finding(&scan, HOT, Strength::High),
            FindingKind::Network
        );
        let both = [at(1, SCAN), at(2, STRATUM)];
        assert_eq!(
            kind_of_finding(&both, HOT, Strength::High),
            FindingKind::Mining
        );
        assert_eq!(
            kind_of_finding(&both, None, Strength::High),
            FindingKind::Network
        );
        let both = [at(1, SCAN), at(2, RANDOM)];
        assert_eq!(suspicion(&both, LONG_HOT), Some(Strength::High));
        let both = [at(1, Fact::Spoofed { packets: 9 }), at(2, STRATUM)];
        assert_eq!(suspicion(&both, None), Some(Strength::Suspicious));
    }

    #[test]
    fn a_name_accuses_nobody_and_a_scan_not_of_mining() {
        for (fact, accuses, of_mining) in [
            (RANDOM, true, true),
            (STRATUM, true, true),
            (Fact::Constants { found: 4 }, true, true),
            (Fact::Constants { found: 3 }, false, false),
            (Fact::Named("xmrig"), false, false),
            (SCAN, true, false),
            (Fact::Spoofed { packets: 9 }, false, false),
        ] {
            let said = (fact.accuses(), fact.is_of_mining());
            assert_eq!(said, (accuses, of_mining), "{fact}");
        }
    }

    fn any_fact() -> impl Strategy<Value = Fact> {
        prop_oneof![
            Just(RANDOM),
            Just(Fact::MixedRounding(Modes::default())),
            Just(Fact::IntervalRounding(Modes::default())),
            (0usize..8).prop_map(|found| Fact::Constants { found }),
            Just(Fact::Named("xmrig")),
            Just(Fact::NoPythonInPython),
            Just(STRATUM),
            Just(Fact::Listed),
            Just(SCAN),
            Just(Fact::PortScan {
                ports: 1_000,
                looks: 9
            }),
            Just(Fact::Spoofed { packets: 9 }),
        ]
    }

    fn any_evidence() -> impl Strategy<Value = Vec<Evidence>> {
        prop::collection::vec(
            (0u64..100, any_fact()).prop_map(|(time, fact)| at(time, fact)),
            0..8,
        )
    }

    fn any_heat() -> impl Strategy<Value = Option<Duration>> {
        prop::option::of((0u64..200).prop_map(Duration::from_secs))
    }

    proptest! {
        #[test]
        fn more_evidence_never_lowers_the_level(less in any_evidence(), more in any_evidence(), hot in any_heat()) {
            let mut all = less.clone();
            all.extend(more);
            prop_assert!(suspicion(&all, hot) >= suspicion(&less, hot));
        }

        #[test]
        fn longer_heat_never_lowers_the_level(evidence in any_evidence(), hot in any_heat(), more in 0u64..200) {
            let longer = hot.unwrap_or_default() + Duration::from_secs(more);
            prop_assert!(suspicion(&evidence, Some(longer)) >= suspicion(&evidence, hot));
        }

        #[test]
        fn the_order_of_evidence_does_not_matter(evidence in any_evidence(), hot in any_heat()) {
            let mut turned = evidence.clone();
            turned.reverse();
            prop_assert_eq!(suspicion(&turned, hot), suspicion(&evidence, hot));
        }

        #[test]
        fn sustained_cpu_alone_proves_nothing(seconds in 0u64..1_000_000) {
            prop_assert_eq!(suspicion(&[], Some(Duration::from_secs(seconds))), None);
        }

        #[test]
        fn nothing_above_suspicious_without_heat(evidence in any_evidence()) {
            let mining: Vec<_> = evidence
                .into_iter()
                .filter(|one| !one.fact.is_of_network())
                .collect();
            prop_assert!(suspicion(&mining, None) <= Some(Strength::Suspicious));
        }
    }
}
