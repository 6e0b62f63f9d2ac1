//! Configuration: types, units, and every problem of a file at once, with its place.
//!
//! [`Config::parse`] either yields a whole configuration or the list of all that is wrong; a file
//! is never half accepted. `config.example.toml` shows every key with its default.

mod decode;
mod metrics;
mod names;
mod record;
mod values;

pub use decode::Problem;
pub use metrics::{Listen, Metrics};
pub use names::{ServiceName, Template};
pub use record::{Record, Size};
pub use values::Share;

use crate::egress::{Class, ClassName, Policy};
use crate::units::{CoreSeconds, Cores, Mode};
use decode::{Document, FromToml, Section};
use ipnet::IpNet;
use std::collections::BTreeMap;
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
    /// CPU credits and limits.
    pub cpu: Cpu,
    /// What servers may reach.
    pub egress: Egress,
    /// Where counters are shown.
    pub metrics: Metrics,
    /// Whether samples are written down.
    pub record: Record,
}

/// `[hub]`: how this node's hub names things and where it listens.
#[derive(Debug, Clone, PartialEq)]
pub struct Hub {
    /// `unit_name_template` of SystemdSpawner; several are tried.
    pub unit_names: Vec<Template>,
    /// `username_template` of SystemdSpawner: the Unix user that proves a unit's owner.
    pub unix_users: Vec<Template>,
    /// The slice that servers are started in; unknown members reach nothing.
    pub slice: String,
    /// The hub's own API on loopback, which servers need.
    pub api_ports: Vec<u16>,
    /// Networks besides loopback from which a proxy asks servers.
    pub proxies: Vec<IpNet>,
}

/// `[cpu]`: limit, baseline and credits of every server.
#[derive(Debug, Clone, PartialEq)]
pub struct Cpu {
    /// The most a server may use while it has credits; none means no limit of ours.
    pub limit: Option<Cores>,
    /// The rate at which credits refill, and the limit once they are spent.
    pub baseline: Cores,
    /// How much CPU above the baseline a rested server may use.
    pub credits: CoreSeconds,
    /// Below this share of its credits a server gets a low weight.
    pub deprioritise_below: Share,
    /// Above this share it is free again.
    pub free_above: Share,
    /// CPU weight of a deprioritised server (1–10000; systemd's default is 100).
    pub weight: u64,
    /// Accounting period of our quota: short ones throttle gently.
    pub period: Duration,
    /// A server stays at least this long before the opposite happens to it.
    pub min_stay: Duration,
}

/// `[egress]`: classes and what they share.
#[derive(Debug, Clone, PartialEq)]
pub struct Egress {
    /// The class of a known server.
    pub class: ClassName,
    /// What DNS may be asked.
    pub resolvers: Resolvers,
    /// Networks no class reaches.
    pub denied: Vec<IpNet>,
    /// Netlink log group on which the kernel tells of refusals.
    pub log_group: u16,
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
            hub: Hub {
                unit_names: vec![
                    Template::new("jupyter-", "-singleuser"),
                    Template::new("jupyter-", ""),
                ],
                unix_users: vec![Template::new("", ""), Template::new("jupyter-", "")],
                slice: "jupyter.slice".to_owned(),
                api_ports: vec![8081, 15001],
                proxies: Vec::new(),
            },
            cpu: Cpu {
                limit: Some(Cores(2.0)),
                baseline: Cores(0.25),
                credits: CoreSeconds(3600.0),
                deprioritise_below: Share(0.05),
                free_above: Share(0.10),
                weight: 20,
                period: Duration::from_millis(20),
                min_stay: Duration::from_secs(30),
            },
            egress: Egress {
                class: standard(),
                resolvers: Resolvers::Auto,
                denied: default_denied(),
                log_group: 4814,
                classes: BTreeMap::from([(standard(), Class::standard())]),
            },
            metrics: Metrics::default(),
            record: Record::default(),
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
    let config = Config {
        mode: root.value("mode", default.mode),
        tick: root.ranged("tick", default.tick, second..=60 * second),
        hub: read_hub(root.section("hub"), default.hub),
        cpu: read_cpu(root.section("cpu"), default.cpu),
        egress: read_egress(root.section("egress"), default.egress),
        metrics: metrics::read(root.section("metrics"), default.metrics),
        record: record::read(root.section("record"), default.record),
    };
    root.finish();
    config
}

fn read_hub(mut section: Section<'_, '_>, default: Hub) -> Hub {
    let hub = Hub {
        unit_names: section.list("unit_names", default.unit_names),
        unix_users: section.list("unix_users", default.unix_users),
        slice: section.value("slice", default.slice),
        api_ports: section.list("api_ports", default.api_ports),
        proxies: section.list("proxies", default.proxies),
    };
    let stem = hub.slice.strip_suffix(".slice").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if stem.is_empty() || !stem.chars().all(plain) {
        section.complain(
            "slice",
            "must be a top-level slice: letters and digits, then .slice (a dash would nest it)",
        );
    } else if ["system.slice", "user.slice", "machine.slice"].contains(&hub.slice.as_str()) {
        section.complain(
            "slice",
            "must not be one of systemd's own slices: everything in it would lose its network",
        );
    }
    for (key, list) in [
        ("unit_names", &hub.unit_names),
        ("unix_users", &hub.unix_users),
    ] {
        if list.is_empty() {
            section.complain(key, "is empty; no server would ever be recognised");
        }
    }
    if hub.unit_names.iter().any(|name| name.prefix().is_empty()) {
        section.complain(
            "unit_names",
            "has a template that begins with {USERNAME}; every unit of the node would match",
        );
    }
    section.finish();
    hub
}

fn read_cpu(mut section: Section<'_, '_>, default: Cpu) -> Cpu {
    let ms = Duration::from_millis;
    let cores = Cores(0.01)..=Cores(4096.0);
    let cpu = Cpu {
        limit: match section.optional::<Limit>("limit") {
            Some(Limit(limit)) => limit,
            None => default.limit,
        },
        baseline: section.ranged("baseline", default.baseline, cores),
        credits: section.ranged(
            "credits",
            default.credits,
            CoreSeconds(1.0)..=CoreSeconds(3.6e6),
        ),
        deprioritise_below: section.ranged(
            "deprioritise_below",
            default.deprioritise_below,
            Share(0.0)..=Share(0.9),
        ),
        free_above: section.ranged("free_above", default.free_above, Share(0.01)..=Share(1.0)),
        weight: section.ranged("weight", default.weight, 1..=100),
        period: section.ranged("period", default.period, ms(10)..=ms(100)),
        min_stay: section.ranged("min_stay", default.min_stay, ms(0)..=ms(3_600_000)),
    };
    if cpu.limit.is_some_and(|limit| limit < cpu.baseline) {
        section.complain("limit", "is below cpu.baseline; a server could never burst");
    }
    if cpu.deprioritise_below >= cpu.free_above {
        section.complain(
            "free_above",
            "must be greater than cpu.deprioritise_below, or servers would flap between the two",
        );
    }
    section.finish();
    cpu
}

/// A limit, or `"none"`.
struct Limit(Option<Cores>);

impl FromToml for Limit {
    const EXPECTED: &'static str = "a number of cores such as \"2 cores\", or \"none\"";

    fn from_toml(value: &toml::de::DeValue<'_>) -> Result<Self, String> {
        if value.as_str() == Some("none") {
            return Ok(Limit(None));
        }
        match Cores::from_toml(value)? {
            Cores(cores) if (0.01..=4096.0).contains(&cores) => Ok(Limit(Some(Cores(cores)))),
            _ => Err("from 0.01 to 4096 cores".to_owned()),
        }
    }
}

fn read_egress(mut section: Section<'_, '_>, default: Egress) -> Egress {
    let mut egress = Egress {
        class: default.class,
        resolvers: section.value("resolvers", default.resolvers),
        denied: section.list("denied", default.denied),
        log_group: section.value("log_group", default.log_group),
        classes: default.classes,
    };
    let mut classes = section.section("classes");
    for (name, span, mut class) in classes.sections() {
        let mut read = Class {
            loopback_ports: class.list("loopback_ports", Vec::new()),
            ..Class::standard()
        };
        if let Some(services) = class.optional_list::<ServiceName>("services") {
            read.dns = services.contains(&ServiceName::Dns);
            read.services = services
                .into_iter()
                .filter_map(ServiceName::ports)
                .collect();
            // A set, so that the order in the file means nothing.
            read.services
                .sort_by_key(|service| (service.transport, *service.ports.start()));
        }
        match name.parse::<ClassName>() {
            Ok(name) if name.is_built_in() => {
                let message = format!("class `{name}` is built in; choose another name");
                class.complain_at(span, message);
            }
            Ok(name) => drop(egress.classes.insert(name, read)),
            Err(why) => class.complain_at(span, why.to_string()),
        }
        class.finish();
    }
    if let Some(text) = section.optional::<String>("class") {
        match text.parse::<ClassName>() {
            Ok(name) if egress.classes.contains_key(&name) => egress.class = name,
            _ => section.complain(
                "class",
                &format!(
                    "names no class; there are: {}",
                    egress
                        .classes
                        .keys()
                        .map(ClassName::as_str)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            ),
        }
    }
    section.finish();
    egress
}

#[cfg(test)]
mod tests;
