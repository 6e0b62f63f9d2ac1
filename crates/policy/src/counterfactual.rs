//! What would have changed what evidence amounts to: each sign taken away, and each that is missing
//! added. Asked of [`suspicion`] itself, so that it is true of whatever rules that has.

use super::evidence::{HOT_FOR_CERTAIN, suspicion};
use crate::finding::Word;
use crate::finding::{CONSTANTS_NEEDED, Evidence, Fact, Sensor, Strength};
use quantities::{Time, in_words};
use std::collections::BTreeSet;
use std::time::Duration;

/// A change, and what it would lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterfactual {
    /// The change, as the beginning of a sentence: "Without what constants found".
    pub change: String,
    /// What it would be then.
    pub level: Option<Strength>,
}

/// Every single change that would make a difference.
pub fn counterfactuals(evidence: &[Evidence], hot: Option<Duration>) -> Vec<Counterfactual> {
    let level = suspicion(evidence, hot);
    let mut changes = Vec::new();
    let sensors: BTreeSet<Sensor> = evidence.iter().map(|one| one.fact.sensor()).collect();
    for sensor in sensors {
        let without: Vec<Evidence> = evidence
            .iter()
            .filter(|one| one.fact.sensor() != sensor)
            .copied()
            .collect();
        let change = format!("Without what {sensor} found");
        changes.push((change, suspicion(&without, hot)));
    }
    match hot {
        Some(_) => changes.push(("If it rested".to_owned(), suspicion(evidence, None))),
        None => changes.push((
            "If it used much CPU".to_owned(),
            suspicion(evidence, Some(Duration::ZERO)),
        )),
    }
    for (change, fact) in missing(evidence) {
        let mut with = evidence.to_vec();
        with.push(fact);
        changes.push((change, suspicion(&with, hot)));
    }
    if let Some(random) = evidence
        .iter()
        .rev()
        .find(|one| matches!(one.fact, Fact::RandomRounding(_)))
    {
        let mut again = evidence.to_vec();
        again.push(Evidence {
            at: Time(random.at.0 + Duration::from_secs(1)),
            ..*random
        });
        let change = format!(
            "With random rounding in a second window, and much CPU for {}",
            in_words(HOT_FOR_CERTAIN)
        );
        changes.push((change, suspicion(&again, Some(HOT_FOR_CERTAIN))));
    }
    changes
        .into_iter()
        .filter(|(_, then)| *then != level)
        .map(|(change, level)| Counterfactual { change, level })
        .collect()
}

/// Signs that are not there yet, with words for them.
fn missing(evidence: &[Evidence]) -> Vec<(String, Evidence)> {
    let at = evidence.iter().map(|one| one.at).max().unwrap_or_default();
    let sign = |fact| Evidence { fact, pid: 0, at };
    vec![
        (
            format!("With {CONSTANTS_NEEDED} of RandomX's 7 constants in memory"),
            sign(Fact::Constants {
                found: CONSTANTS_NEEDED,
            }),
        ),
        (
            "With the mining pools' protocol in its traffic".to_owned(),
            sign(Fact::Stratum {
                word: Word::Login,
                port: 0,
            }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Modes;

    const HOT: Option<Duration> = Some(Duration::from_secs(15));

    fn at(seconds: u64, fact: Fact) -> Evidence {
        Evidence {
            fact,
            pid: 1,
            at: Time(Duration::from_secs(seconds)),
        }
    }

    fn told(evidence: &[Evidence], hot: Option<Duration>) -> Vec<String> {
        counterfactuals(evidence, hot)
            .into_iter()
            .map(|one| format!("{}: {:?}", one.change, one.level))
            .collect()
    }

    #[test]
    fn a_certain_case_says_which_sign_it_hangs_on() {
        let random = Fact::RandomRounding(Modes::default());
        let evidence = [at(1, random), at(2, Fact::Constants { found: 7 })];
        assert_eq!(
            told(&evidence, HOT),
            [
                "Without what rounding found: Some(High)",
                "Without what constants found: Some(Suspicious)",
                "If it rested: Some(Suspicious)",
            ]
        );
    }

    #[test]
    fn random_rounding_alone_says_what_would_prove_it() {
        let evidence = [at(0, Fact::RandomRounding(Modes::default()))];
        assert_eq!(
            told(&evidence, HOT),
            [
                "Without what rounding found: None",
                "With 4 of RandomX's 7 constants in memory: Some(Certain)",
                "With the mining pools' protocol in its traffic: Some(Certain)",
                "With random rounding in a second window, and much CPU for 60 s: Some(Certain)",
            ]
        );
    }

    #[test]
    fn nothing_found_says_what_is_looked_for() {
        assert_eq!(
            told(&[], HOT),
            [
                "With 4 of RandomX's 7 constants in memory: Some(High)",
                "With the mining pools' protocol in its traffic: Some(High)",
            ]
        );
    }

    #[test]
    fn rest_is_what_a_name_and_constants_of_an_idle_server_wait_for() {
        let evidence = [at(1, Fact::Constants { found: 7 })];
        let told = told(&evidence, None);
        assert!(
            told.contains(&"If it used much CPU: Some(High)".to_owned()),
            "{told:?}"
        );
    }
}
