//! Why a server stands where it stands, for `hubwarden explain`.

use super::Shell;
use super::cgroups::{Cgroup, Guarded};
use crate::control::{Explanation, Sign};
use hubwarden_core::accounts::Place;
use hubwarden_core::actuator::Actuator;
use policy::finding::LEAST_OF_EACH;
use policy::finding::{CONSTANTS_NEEDED, Strength, scan};
use policy::{HOT_FOR_CERTAIN, counterfactuals};
use quantities::CgroupId;
use quantities::{Cores, Time, in_words};
use std::collections::BTreeMap;

impl Shell {
    /// How a hub user's servers stand; of one Unix user's only, where `whose` says so.
    pub(super) fn explain(&self, user: &str, whose: Option<u32>, now: Time) -> Vec<Explanation> {
        let shared = self.node.accounts().shared_limits();
        self.registry
            .entries
            .values()
            .filter_map(|entry| match entry {
                Cgroup::Server(guarded) => Some(guarded),
                _ => None,
            })
            .filter(|guarded| guarded.server.user.as_str() == user)
            .filter(|guarded| whose.is_none() || guarded.server.uid == whose)
            .filter_map(|guarded| {
                let place = self.node.accounts().place(guarded.id)?;
                let leads = place.lead().is_none();
                leads.then(|| self.explanation(guarded, place, &shared, now))
            })
            .collect()
    }

    fn explanation(
        &self,
        guarded: &Guarded,
        place: &Place,
        shared: &BTreeMap<CgroupId, Cores>,
        now: Time,
    ) -> Explanation {
        let log = self.node.evidence().of(guarded.id);
        let evidence = log.map_or(&[][..], |log| log.findings());
        let hot = log.and_then(|log| log.hot_since()).map(|at| now.since(at));
        let mut signs: Vec<_> = evidence.iter().collect();
        signs.sort_by_key(|sign| sign.at);
        Explanation {
            server: self.server_status(guarded, place, shared),
            stage_seconds: place
                .standing()
                .moved_at()
                .map_or(-1.0, |at| now.since(at).as_secs_f64()),
            reason: self
                .node
                .actuator(guarded.id)
                .and_then(Actuator::reason)
                .unwrap_or_default()
                .to_owned(),
            hot_seconds: hot.map_or(-1.0, |hot| hot.as_secs_f64()),
            signs: signs
                .into_iter()
                .map(|sign| Sign {
                    sensor: sign.fact.sensor().as_str().to_owned(),
                    level: sign.strength().as_str().to_owned(),
                    reading: sign.to_string(),
                    seconds_ago: now.since(sign.at).as_secs_f64(),
                })
                .collect(),
            counterfactuals: counterfactuals(evidence, hot)
                .into_iter()
                .map(|one| {
                    let level = one.level.map_or("none", Strength::as_str);
                    (one.change, level.to_owned())
                })
                .collect(),
            rules: self.rules(),
        }
    }

    /// What is looked for, with the thresholds in force.
    fn rules(&self) -> Vec<String> {
        let config = &self.config.evidence;
        let lasting = match config.hot_for.is_zero() {
            true => String::new(),
            false => format!(", for {}", in_words(config.hot_for)),
        };
        vec![
            format!(
                "a server is looked at that uses more than {}, or would if it did not wait for the \
                 CPU, or runs into its quota{lasting}",
                config.hot
            ),
            format!(
                "random rounding: down, up and to zero, each seen {LEAST_OF_EACH} times or more \
                 within {}, and 90 % of them with denormals flushed",
                in_words(config.settings.window)
            ),
            format!(
                "high: {CONSTANTS_NEEDED} of RandomX's 7 constants in memory, or the mining \
                 pools' protocol in traffic"
            ),
            format!(
                "certain: one of these and random rounding, or random rounding in two windows and \
                 much CPU for {}",
                in_words(HOT_FOR_CERTAIN)
            ),
            "suspicious at most: names, arguments, listed hosts, and whatever is found of a \
             server at rest"
                .to_owned(),
            format!(
                "abuse of the network, at rest too: {} hosts, or {} ports of one host, that did \
                 not answer within a minute, packets in great number, or false source addresses; \
                 high where a scan or a flood goes on for {} looks",
                scan::HOSTS,
                scan::PORTS,
                scan::SUSTAINED
            ),
            format!(
                "evidence stands for {} after it was found last",
                in_words(config.consequences.stands)
            ),
        ]
    }
}
