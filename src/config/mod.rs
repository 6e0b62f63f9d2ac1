//! Configuration: types, units, and every problem of a file at once, with its place.
//!
//! [`Config::parse`] either yields a whole configuration or the list of all that is wrong; a file
//! is never half accepted. `config.example.toml` shows every key with its default.

mod advice;
mod api_url;
mod classes;
mod decode;
mod evidence;
mod hub;
mod limits;
mod metrics;
mod names;
mod or_none;
mod outside;
mod ready;
mod trace;
mod values;

pub use api_url::ApiUrl;
pub use decode::Problem;
pub use evidence::Evidence;
pub use hub::{ApiPeer, Hub, StopBy};
pub use limits::{Cpu, Limits, Patch, ThrottleWhen};
pub use metrics::{Listen, Metrics, USUAL_GROUP};
pub use names::{ServiceName, Template};
pub use outside::Outside;
pub use trace::{Size, Trace};
pub use values::{Share, parse_amount, parse_duration};

use decode::{Document, Section};
use egress::{AbuseLimits, Class, ClassName, Policy};
use ipnet::IpNet;
use quantities::{Cores, Mode};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::DeTable;

/// Where the configuration is kept.
pub const PATH: &str = "/etc/hubwarden/config.toml";

/// A larger file is refused unread.
const MAX_BYTES: u64 = 1 << 20;

/// Everything an admin can set.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Report only, or act too.
    pub mode: Mode,
    /// Time between two samples of every server.
    pub tick: Duration,
    /// How to find servers and tell whose they are.
    pub hub: Hub,
    /// What every server may use.
    pub limits: Limits,
    /// What the members of a hub group may use otherwise, by the group's name.
    pub groups: BTreeMap<String, Patch>,
    /// What one user may use otherwise, by the hub user's name.
    pub users: BTreeMap<String, Patch>,
    /// The cores that `hub.slice` as a whole leaves to the hub, ssh and the system.
    pub reserve: Option<Cores>,
    /// What servers may reach.
    pub egress: Egress,
    /// What tells a miner from a training job, and what becomes of one.
    pub evidence: Evidence,
    /// Where counters are shown.
    pub metrics: Metrics,
    /// Whether samples are written down.
    pub trace: Trace,
}

/// `[egress]`: classes and what they share.
#[derive(Debug, Clone, PartialEq)]
pub struct Egress {
    /// The class of a known server.
    pub class: ClassName,
    /// The class of a server while certain evidence holds it back, if another than its own.
    pub quarantine: Option<ClassName>,
    /// The class of a server while evidence that it abuses the network holds it back, likewise.
    pub abusing: Option<ClassName>,
    /// What DNS may be asked.
    pub resolvers: Resolvers,
    /// Whether a user's class holds outside the server too.
    pub outside: Outside,
    /// Networks no class reaches.
    pub denied: Vec<IpNet>,
    /// Networks that a class reaches only where its own `networks` name them.
    pub private: Vec<IpNet>,
    /// Netlink log group on which the kernel tells of refusals.
    pub log_group: u16,
    /// Netfilter queue in which DNS answers wait to be read; the next two are used too.
    pub dns_queue: u16,
    /// How long an address counts for a name at most.
    pub names_ttl_max: Duration,
    /// Limits of every server, whatever its class.
    pub abuse: AbuseLimits,
    /// The classes by name.
    pub classes: BTreeMap<ClassName, Class>,
}

/// The resolvers that servers may ask.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolvers {
    /// Those of `/etc/resolv.conf`, followed as it changes.
    Auto,
    /// Just these.
    Fixed(Vec<IpAddr>),
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is wrong; all its problems.
    #[error("{}", listing(.path, .problems))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Never empty.
        problems: Vec<Problem>,
    },
}

fn listing(path: &Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}:{problem}", path.display()))
        .collect();
    lines.join("\n")
}

impl Default for Config {
    fn default() -> Self {
        Config {
            mode: Mode::Observe,
            tick: Duration::from_secs(5),
            hub: Hub::default(),
            limits: Limits::default(),
            groups: BTreeMap::new(),
            users: BTreeMap::new(),
            reserve: None,
            egress: Egress {
                class: standard(),
                quarantine: Some(ClassName::quarantine()),
                abusing: None,
                outside: Outside::Judge,
                resolvers: Resolvers::Auto,
                denied: default_denied(),
                private: Policy::usual_private(),
                log_group: 4814,
                dns_queue: 4814,
                names_ttl_max: Policy::NAMES_TTL_MAX,
                abuse: AbuseLimits::default(),
                classes: BTreeMap::from([
                    (standard(), Class::standard()),
                    (ClassName::quarantine(), Class::default()),
                ]),
            },
            evidence: Evidence::default(),
            metrics: Metrics::default(),
            trace: Trace::default(),
        }
    }
}

/// The class every installation has.
fn standard() -> ClassName {
    // "standard" is a good name by the test that loads the defaults; `exempt` would refuse nothing.
    "standard".parse().unwrap_or_else(|_| ClassName::pending())
}

/// Where clouds serve credentials, and link-local networks.
fn default_denied() -> Vec<IpNet> {
    let link_local = ["169.254.0.0/16", "fe80::/10"];
    let mut denied: Vec<IpNet> = link_local
        .iter()
        .filter_map(|net| net.parse().ok())
        .collect();
    for address in Policy::metadata() {
        if !denied.iter().any(|net| net.contains(&address)) {
            denied.push(address);
        }
    }
    denied
}

impl Config {
    /// What one user's servers may use, being in these hub groups.
    pub fn limits_of(&self, user: &str, groups: &BTreeSet<String>) -> Limits {
        let mut limits = self.limits.clone();
        for (name, patch) in &self.groups {
            if groups.contains(name) {
                patch.apply(&mut limits);
            }
        }
        if let Some(patch) = self.users.get(user) {
            patch.apply(&mut limits);
        }
        limits
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, or has problems: all of them, with line and column.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > MAX_BYTES {
            return Err(read(std::io::Error::other(format!(
                "{size} bytes; at most {MAX_BYTES} are read"
            ))));
        }
        let bytes = std::fs::read(path).map_err(read)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            read(std::io::Error::other(format!("byte {at} is not UTF-8")))
        })?;
        Config::parse(&text).map_err(|problems| ConfigError::Wrong {
            path: path.to_owned(),
            problems,
        })
    }

    /// Checks a text.
    ///
    /// # Errors
    /// All problems, in the order of the file.
    pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
        let document = Document::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            document.report(error.span().unwrap_or(0..0), error.message());
        }
        let config = read(Section::root(&document, table.get_ref()));
        match document.into_problems() {
            problems if problems.is_empty() => Ok(config),
            problems => Err(problems),
        }
    }
}

fn read(mut root: Section<'_, '_>) -> Config {
    let default = Config::default();
    let second = Duration::from_secs(1);
    let mut config = Config {
        mode: root.value("mode", default.mode),
        tick: root.ranged("tick", default.tick, second..=60 * second),
        hub: hub::read(root.section("hub"), default.hub),
        limits: default.limits,
        groups: BTreeMap::new(),
        users: BTreeMap::new(),
        reserve: default.reserve,
        egress: read_egress(root.section("egress"), default.egress),
        evidence: evidence::read(root.section("evidence"), default.evidence),
        metrics: metrics::read(root.section("metrics"), default.metrics),
        trace: trace::read(root.section("trace"), default.trace),
    };
    limits::read(&mut root, &config.limits.clone()).apply(&mut config.limits);
    let mut slice = root.section("slice");
    config.reserve = slice.reserve(config.reserve);
    slice.finish();
    config.groups = read_people(root.section("groups"), &config.limits, &mut config.egress);
    config.users = read_people(root.section("users"), &config.limits, &mut config.egress);
    root.finish();
    config
}

/// `[groups.NAME]` or `[users.NAME]`, by name.
fn read_people(
    mut section: Section<'_, '_>,
    below: &Limits,
    egress: &mut Egress,
) -> BTreeMap<String, Patch> {
    let mut people = BTreeMap::new();
    for (name, _, mut person) in section.sections() {
        let mut patch = limits::read(&mut person, below);
        patch.read_class(&mut person, egress);
        person.finish();
        people.insert(name, patch);
    }
    section.finish();
    people
}

fn read_egress(mut section: Section<'_, '_>, default: Egress) -> Egress {
    let minute = Duration::from_secs(60);
    let mut egress = Egress {
        class: default.class,
        outside: section.value("outside", default.outside),
        resolvers: section.value("resolvers", default.resolvers),
        denied: section.list("denied", default.denied),
        private: section.list("private", default.private),
        log_group: section.value("log_group", default.log_group),
        dns_queue: section.value("dns_queue", default.dns_queue),
        names_ttl_max: section.ranged(
            "names_ttl_max",
            default.names_ttl_max,
            minute..=24 * 60 * minute,
        ),
        quarantine: default.quarantine,
        abusing: default.abusing,
        abuse: default.abuse,
        classes: default.classes,
    };
    let mut abuse = section.section("abuse");
    egress.abuse = classes::read_abuse(&mut abuse, egress.abuse);
    abuse.finish();
    let mut classes = section.section("classes");
    for (name, span, mut class) in classes.sections() {
        let name = name.parse::<ClassName>();
        let ready = name.as_ref().ok().and_then(ready::class);
        let read = classes::read(
            &mut class,
            &egress.private,
            ready.unwrap_or_else(Class::standard),
        );
        match name {
            Ok(name) if name.is_built_in() => {
                let message = format!("class `{name}` is built in; choose another name");
                class.complain_at(span, message);
            }
            Ok(name) => drop(egress.classes.insert(name, read)),
            Err(why) => class.complain_at(span, why.to_string()),
        }
        class.finish();
    }
    let (quarantine, abusing) = (egress.quarantine.clone(), egress.abusing.clone());
    egress.quarantine = egress.stand_in("when_throttled_by_evidence", quarantine, &mut section);
    egress.abusing = egress.stand_in("when_abusing", abusing, &mut section);
    if let Some(text) = section.optional::<String>("class")
        && let Some(name) = egress.class_named(&text, &mut section, "class")
    {
        egress.class = name;
    }
    section.finish();
    egress
}

impl Egress {
    /// The class at `key`, or none; the default where nothing is there.
    fn stand_in(
        &mut self,
        key: &str,
        default: Option<ClassName>,
        section: &mut Section<'_, '_>,
    ) -> Option<ClassName> {
        match section.optional::<String>(key).as_deref() {
            None => default,
            Some("none") => None,
            Some(name) => self.class_named(name, section, key),
        }
    }

    /// The class of this name, which is among the classes then, or a problem at `key`.
    fn class_named(
        &mut self,
        text: &str,
        section: &mut Section<'_, '_>,
        key: &str,
    ) -> Option<ClassName> {
        let found = text.parse::<ClassName>().ok();
        if let Some(name) = found {
            if let (false, Some(ready)) = (self.classes.contains_key(&name), ready::class(&name)) {
                self.classes.insert(name.clone(), ready);
            }
            if self.classes.contains_key(&name) {
                return Some(name);
            }
        }
        let mut names: BTreeSet<&str> = self.classes.keys().map(ClassName::as_str).collect();
        names.extend(ready::NAMES);
        let names: Vec<&str> = names.into_iter().collect();
        let message = format!("names no class; there are: {}", names.join(", "));
        section.complain(key, &message);
        None
    }
}

#[cfg(test)]
mod tests;
