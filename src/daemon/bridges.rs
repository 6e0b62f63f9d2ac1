//! Which bridge each configured network of containers is, as the engines tell.
//!
//! While that is not known, containers on the network are free until somebody says whose they are, so
//! it is found out fast. Docker tells of a network a moment after the network's bridge came: after a
//! bridge came, engines are asked again and again for a while. And each is asked for itself, since one
//! that takes a question and never answers must not keep the other's word from being heard.

use super::{Daemon, Shell, Tasks, now};
use crate::act::CpuControl;
use crate::hub::{Engine, Units, network_bridge, with_networks};
use egress::Link;
use quantities::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Engines are asked this often …
const AGAIN: Duration = Duration::from_millis(100);
/// … for so long after a bridge came or went; else at each event and tick.
const UNSETTLED: Duration = Duration::from_secs(3);
/// One that could not be asked is left alone for so many times as long as it took to fail, since
/// systemd starts Podman for each question; and one that is not there yet is asked at once …
const REST_TIMES: u32 = 10;
/// … and no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// What is asked of the engines, and of whom.
#[derive(Default)]
pub(super) struct Asking {
    /// Configured networks for which no bridge is there.
    missing: BTreeSet<String>,
    /// The bridges that are there, and when one came or went.
    bridges: BTreeSet<u32>,
    changed: Option<Time>,
    under_way: BTreeSet<Engine>,
    /// Until when an engine is left alone.
    rests: BTreeMap<Engine, Time>,
    /// Why an engine names no bridge, by network.
    reasons: BTreeMap<String, BTreeMap<Engine, String>>,
}

impl Asking {
    /// Notes the interfaces of the moment, and which networks are not among them.
    pub fn note(&mut self, links: &[Link], missing: BTreeSet<String>, now: Time) {
        let bridges = links.iter().filter(|link| link.bridge);
        let bridges = bridges.map(|link| link.index).collect();
        if std::mem::replace(&mut self.bridges, bridges) != self.bridges {
            self.changed = Some(now);
            // What failed before may know this one.
            self.rests.clear();
        }
        self.reasons.retain(|network, _| missing.contains(network));
        self.missing = missing;
    }

    /// No network is wanted.
    pub fn nothing_missing(&mut self) {
        self.missing.clear();
        self.reasons.clear();
    }

    /// The engines to begin to ask; each is under way until it is told of as done.
    fn begin(&mut self, engines: impl FnOnce() -> Vec<Engine>, now: Time) -> Vec<Engine> {
        if self.missing.is_empty() {
            return Vec::new();
        }
        let rests = |engine: &Engine| self.rests.get(engine).is_some_and(|until| now < *until);
        let mut due = engines();
        due.retain(|engine| !rests(engine) && self.under_way.insert(*engine));
        due
    }

    /// It answered somebody, so it can be asked again.
    pub fn answers(&mut self, engine: Engine) {
        self.rests.remove(&engine);
    }

    /// It could not be asked. That counts for nothing if a bridge came or went meanwhile: an engine that
    /// was started anew breaks off what it was asked, and makes bridges.
    fn failed(&mut self, engine: Engine, asked: Time, now: Time) {
        if self.changed.is_some_and(|changed| asked < changed) {
            return;
        }
        let rest = now.since(asked).saturating_mul(REST_TIMES);
        let until = Time(now.0 + rest.min(LONGEST_REST));
        self.rests.insert(engine, until);
    }

    /// All that it was to be asked is asked.
    fn ended(&mut self, engine: Engine) {
        self.under_way.remove(&engine);
    }

    fn unsettled(&self, now: Time) -> bool {
        let fresh = |at: Time| now.since(at) < UNSETTLED;
        !self.missing.is_empty() && self.changed.is_some_and(fresh)
    }

    /// Why a network has no bridge, once all who may know have been asked.
    fn verdict(&self, network: &str, engines: &[Engine]) -> Option<String> {
        let reasons = self.reasons.get(network)?;
        let words: Option<Vec<&str>> = engines
            .iter()
            .map(|engine| reasons.get(engine).map(String::as_str))
            .collect();
        Some(words?.join("; "))
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Asks for the bridges of networks that no interface here is named as.
    pub(super) fn ask_for_bridges(&mut self) {
        let networks = &mut self.shell.network.containers;
        let engines = || with_networks(&self.shell.config.hub);
        for engine in networks.asking.begin(engines, now()) {
            self.tasks.begin(async move |tasks| {
                while tasks.ask_engine(engine).await {
                    tokio::time::sleep(AGAIN).await;
                }
                tasks.post(move |daemon| daemon.shell.network.containers.asking.ended(engine));
            });
        }
    }

    fn found_bridge(&mut self, network: String, bridge: String) {
        let shell = &mut self.shell;
        let before = shell
            .network
            .containers
            .bridges
            .insert(network, bridge.clone());
        if before == Some(bridge) {
            return;
        }
        // A daemon that is killed must not leave the next one to ask first.
        shell.storage.dirty = true;
        self.due.save = true;
        self.follow_containers();
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// Asks one for all that is missing; whether to ask again soon.
    async fn ask_engine(&self, engine: Engine) -> bool {
        let known = self.turn(|daemon| {
            let shell = &daemon.shell;
            let missing = shell.network.containers.asking.missing.clone();
            (shell.config.hub.clone(), missing)
        });
        let (hub, missing) = known.await;
        for network in missing {
            let asked = now();
            match network_bridge(engine, &network, &hub).await {
                Ok(bridge) => self.post(|daemon| daemon.found_bridge(network, bridge)),
                Err(why) => {
                    let (answered, why) = (why.is_answer(), why.to_string());
                    self.turn(move |daemon| {
                        daemon.shell.not_found(engine, network, why);
                        if !answered {
                            let asking = &mut daemon.shell.network.containers.asking;
                            asking.failed(engine, asked, now());
                        }
                    })
                    .await;
                    if !answered {
                        return false;
                    }
                }
            }
        }
        self.turn(|daemon| daemon.shell.network.containers.asking.unsettled(now()))
            .await
    }
}

impl Shell {
    fn not_found(&mut self, engine: Engine, network: String, why: String) {
        let engines = with_networks(&self.config.hub);
        let asking = &mut self.network.containers.asking;
        let reasons = asking.reasons.entry(network.clone()).or_default();
        reasons.insert(engine, why);
        if let Some(why) = asking.verdict(&network, &engines) {
            self.network_trouble(&format!(
                "containers of network {network} are only held once they are known: no bridge here \
                 has that name, and {why}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Engine; 2] = [Engine::Docker, Engine::Podman];

    fn both() -> Vec<Engine> {
        BOTH.to_vec()
    }

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    fn bridge(index: u32) -> Link {
        Link {
            index,
            bridge: true,
            ..Link::default()
        }
    }

    fn missing(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn engines_are_asked_once_at_a_time_and_only_for_what_is_missing() {
        let mut asking = Asking::default();
        asking.note(&[bridge(3)], missing(&[]), at(0));
        assert_eq!(asking.begin(both, at(0)), []);
        asking.note(&[bridge(3)], missing(&["hub"]), at(1));
        assert_eq!(asking.begin(both, at(1)), BOTH);
        asking.under_way.remove(&Engine::Docker);
        assert_eq!(asking.begin(both, at(2)), [Engine::Docker]);
    }

    #[test]
    fn one_that_takes_long_to_fail_rests_while_the_other_goes_on_and_one_that_is_not_there_does_not()
     {
        let mut asking = Asking::default();
        asking.note(&[], missing(&["hub"]), at(0));
        asking.failed(Engine::Podman, at(0), at(20));
        asking.failed(Engine::Docker, at(20), at(20));
        assert_eq!(asking.begin(both, at(20)), [Engine::Docker]);
        assert_eq!(asking.begin(both, at(49)), []);
        assert_eq!(asking.begin(both, at(50)), [Engine::Podman]);
        asking.under_way.clear();
        asking.failed(Engine::Podman, at(60), at(61));
        assert_eq!(asking.begin(both, at(70)), [Engine::Docker]);
        assert_eq!(asking.begin(both, at(71)), [Engine::Podman]);
    }

    #[test]
    fn an_engine_that_was_started_anew_while_it_was_asked_is_asked_again_once_it_works() {
        let mut asking = Asking::default();
        asking.note(&[], missing(&["hub"]), at(0));
        let asked = |asking: &mut Asking, now| asking.begin(|| vec![Engine::Podman], now);
        assert_eq!(asked(&mut asking, at(1)), [Engine::Podman]);
        // Broken off, and a bridge comes before the rest is over.
        asking.under_way.clear();
        asking.failed(Engine::Podman, at(1), at(3));
        assert_eq!(asked(&mut asking, at(4)), []);
        asking.note(&[bridge(3)], missing(&["hub"]), at(4));
        assert_eq!(asked(&mut asking, at(4)), [Engine::Podman]);
        // The bridge came while it was asked.
        asking.note(&[bridge(3), bridge(4)], missing(&["hub"]), at(5));
        asking.under_way.clear();
        asking.failed(Engine::Podman, at(4), at(6));
        assert_eq!(asked(&mut asking, at(6)), [Engine::Podman]);
        // It says whose a container is.
        asking.under_way.clear();
        asking.failed(Engine::Podman, at(6), at(8));
        assert_eq!(asked(&mut asking, at(9)), []);
        asking.answers(Engine::Podman);
        assert_eq!(asked(&mut asking, at(9)), [Engine::Podman]);
    }

    #[test]
    fn a_bridge_that_comes_or_goes_makes_for_questions_in_quick_succession_until_it_is_known() {
        let mut asking = Asking::default();
        asking.note(&[bridge(3)], missing(&["hub"]), at(0));
        assert!(asking.unsettled(at(2)) && !asking.unsettled(at(3)));
        asking.note(&[bridge(3)], missing(&["hub"]), at(10));
        assert!(!asking.unsettled(at(10)));
        asking.note(&[bridge(3), bridge(4)], missing(&["hub"]), at(11));
        assert!(asking.unsettled(at(11)));
        asking.note(&[bridge(3), bridge(4)], missing(&[]), at(12));
        assert!(!asking.unsettled(at(12)));
    }

    #[test]
    fn that_a_network_is_not_found_is_said_once_all_were_asked() {
        let mut asking = Asking::default();
        asking.note(&[], missing(&["hub"]), at(0));
        let mut why = |engine, text: &str| {
            let reasons = asking.reasons.entry("hub".to_owned()).or_default();
            reasons.insert(engine, text.to_owned());
            asking.verdict("hub", &BOTH)
        };
        assert_eq!(why(Engine::Podman, "Podman has none"), None);
        let both = why(Engine::Docker, "Docker has none");
        assert_eq!(both.unwrap(), "Docker has none; Podman has none");
    }
}
