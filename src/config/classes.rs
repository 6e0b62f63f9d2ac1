//! `[egress.classes.NAME]`: what a class reaches, and how much of it.

use super::ServiceName;
use super::decode::{FromToml, Section};
use super::values::{integer, number_and_unit, string};
use egress::{AbuseLimits, BitsPerSecond, Class, ClassLimits, Rate, lies_in, names::NamePattern};
use ipnet::IpNet;
use std::num::NonZeroU32;
use toml::de::DeValue;

/// Reads one class, beside these private networks; `ready` is what is not said otherwise. What is wrong is
/// reported at its place.
pub(super) fn read(section: &mut Section<'_, '_>, private: &[IpNet], ready: Class) -> Class {
    let nowhere_else = section.optional::<bool>("nowhere_else");
    let mut class = Class {
        loopback_ports: section.list("loopback_ports", Vec::new()),
        names: section.list("names", Vec::new()),
        deny_names: section.list("deny_names", Vec::new()),
        networks: section.list("networks", Vec::new()),
        nowhere_else: nowhere_else.unwrap_or(ready.nowhere_else),
        deny_networks: section.list("deny_networks", Vec::new()),
        limits: ClassLimits {
            new_connections: section
                .optional::<Perhaps<Rate>>("new_connections")
                .and_then(Perhaps::get),
            connections: section
                .optional::<Perhaps<Count>>("connections")
                .and_then(Perhaps::get)
                .map(|count| count.0),
            bandwidth: section
                .optional::<Perhaps<BitsPerSecond>>("bandwidth")
                .and_then(Perhaps::get),
            shape: section.value("shape", false),
            bytes_per_day: section
                .optional::<Perhaps<Traffic>>("bytes_per_day")
                .and_then(Perhaps::get)
                .map(|bytes| bytes.0),
        },
        ..ready
    };
    if let Some(services) = section.optional_list::<ServiceName>("services") {
        class.dns = services.contains(&ServiceName::Dns);
        class.services = services
            .into_iter()
            .filter_map(ServiceName::ports)
            .collect();
        // A set, so that the order in the file means nothing.
        class
            .services
            .sort_by_key(|service| (service.transport, *service.ports.start()));
    }
    if nowhere_else == Some(true) && class.names.is_empty() && class.networks.is_empty() {
        section.complain(
            "nowhere_else",
            "is true, and there are no names and no networks, so the services are reached nowhere: \
             add some, or set services = []",
        );
    }
    // One that is private only opens that: who asks for it wants it besides the internet.
    class.nowhere_else |= !class.networks.iter().all(|net| lies_in(net, private));
    if class.limits.shape && class.limits.bandwidth.is_none() {
        section.complain(
            "shape",
            "says how `bandwidth` is held, and there is none: set bandwidth, such as \"20 Mbit/s\", \
             or remove shape",
        );
    }
    for (key, some) in [
        ("names", !class.names.is_empty()),
        ("deny_names", !class.deny_names.is_empty()),
    ] {
        if some && !class.dns {
            section.complain(
                key,
                "needs the service \"dns\": addresses of names are learned from resolvers' answers",
            );
        }
    }
    class
}

/// Reads `[egress.abuse]`, the limits of every server.
pub(super) fn read_abuse(section: &mut Section<'_, '_>, default: AbuseLimits) -> AbuseLimits {
    let mut rate = |key, default| {
        let read = section.optional::<Perhaps<Rate>>(key);
        read.map_or(default, Perhaps::get)
    };
    AbuseLimits {
        connections: rate("connections", default.connections),
        packets: rate("packets", default.packets),
        questions: rate("questions", default.questions),
    }
}

/// A value, or `"none"`.
struct Perhaps<T>(Option<T>);

impl<T> Perhaps<T> {
    fn get(self) -> Option<T> {
        self.0
    }
}

impl<T: FromToml> FromToml for Perhaps<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("none") => Ok(Perhaps(None)),
            _ => T::from_toml(value).map(|value| Perhaps(Some(value))),
        }
    }
}

impl FromToml for NamePattern {
    const EXPECTED: &'static str =
        "a host name such as \"pypi.org\", \"*.github.com\" for all below it, or \"*\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        string(value)?
            .parse()
            .map_err(|error: egress::names::PatternError| error.to_string())
    }
}

impl FromToml for Rate {
    const EXPECTED: &'static str =
        "a rate such as \"50/s\", \"600/min\" or \"1000/h\", or \"none\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let (count, unit) = string(value)?.split_once('/').ok_or_else(String::new)?;
        let seconds = match unit.trim() {
            "s" => 1,
            "min" | "m" => 60,
            "h" => 3600,
            other => return Err(format!("unknown unit `{other}`")),
        };
        let count = count
            .trim()
            .parse()
            .ok()
            .filter(|count: &NonZeroU32| count.get() <= 1_000_000)
            .ok_or("the number is from 1 to 1000000")?;
        Ok(Rate { count, seconds })
    }
}

/// Connections.
struct Count(NonZeroU32);

impl FromToml for Count {
    const EXPECTED: &'static str = "a whole number from 1 to 1000000, or \"none\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let number = integer(value)?;
        let count = u32::try_from(number).ok().filter(|n| *n <= 1_000_000);
        count
            .and_then(NonZeroU32::new)
            .map(Count)
            .ok_or_else(String::new)
    }
}

impl FromToml for BitsPerSecond {
    const EXPECTED: &'static str = "a bandwidth such as \"20 Mbit/s\", or \"none\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let (number, unit) = number_and_unit(string(value)?)?;
        let scale = match unit {
            "kbit/s" => 1e3,
            "Mbit/s" => 1e6,
            "Gbit/s" => 1e9,
            "" => return Err("the unit is missing".into()),
            "MB/s" => return Err(format!("write \"{} Mbit/s\"", number * 8.0)),
            other => return Err(format!("unknown unit `{other}`")),
        };
        let bits = number * scale;
        // Below, a packet would not fit a second; above, the kernel cannot count.
        if !(64e3..=100e9).contains(&bits) {
            return Err("from 64 kbit/s to 100 Gbit/s".into());
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded just now"
        )]
        Ok(BitsPerSecond(bits as u64))
    }
}

/// Bytes sent and received.
struct Traffic(u64);

impl FromToml for Traffic {
    const EXPECTED: &'static str = "an amount such as \"500 MB\" or \"20 GB\", or \"none\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let (number, unit) = number_and_unit(string(value)?)?;
        let scale = match unit {
            "MB" => 1e6,
            "GB" => 1e9,
            "TB" => 1e12,
            "MiB" => 1_048_576.0,
            "GiB" => 1_073_741_824.0,
            "TiB" => 1_099_511_627_776.0,
            "" => return Err("the unit is missing".into()),
            other => return Err(format!("unknown unit `{other}`")),
        };
        let bytes = number * scale;
        if !(1e6..=1e15).contains(&bytes) {
            return Err("from 1 MB to 1000 TB".into());
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded just now"
        )]
        Ok(Traffic(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use egress::ClassName;

    fn class(text: &str) -> Class {
        let config = Config::parse(&format!("[egress.classes.lab]\n{text}")).unwrap();
        config.egress.classes[&"lab".parse::<ClassName>().unwrap()].clone()
    }

    fn problem(text: &str) -> String {
        let problems = Config::parse(&format!("[egress.classes.lab]\n{text}")).unwrap_err();
        problems[0].to_string()
    }

    #[test]
    fn names_networks_and_limits_are_read_with_their_units() {
        let lab = class(concat!(
            "names = [\"PyPI.org\", \"*.github.com\"]\ndeny_names = [\"gist.github.com\"]\n",
            "networks = [\"10.2.0.0/16\"]\ndeny_networks = [\"10.2.3.0/24\"]\n",
            "new_connections = \"600/min\"\nconnections = 500\n",
            "bandwidth = \"1.5 Mbit/s\"\nshape = true\nbytes_per_day = \"20 GB\"\n",
        ));
        let names: Vec<String> = lab.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["pypi.org", "*.github.com"]);
        assert_eq!(lab.deny_names.len(), 1);
        assert_eq!((lab.networks.len(), lab.deny_networks.len()), (1, 1));
        let limits = lab.limits;
        assert_eq!(limits.new_connections.unwrap().to_string(), "600 a minute");
        assert_eq!(limits.connections.map(NonZeroU32::get), Some(500));
        assert_eq!(limits.bandwidth, Some(BitsPerSecond(1_500_000)));
        assert!(limits.shape);
        assert_eq!(limits.bytes_per_day, Some(20_000_000_000));
        assert_eq!(
            class("bandwidth = \"none\"\nconnections = \"none\"\n").limits,
            ClassLimits::default()
        );
    }

    #[test]
    fn networks_keep_a_class_to_themselves_unless_they_only_open_private_ones() {
        for (text, nowhere_else) in [
            ("", false),
            ("networks = [\"10.2.0.0/16\", \"fd00::/16\"]\n", false),
            ("networks = [\"10.2.0.0/16\"]\nnowhere_else = true\n", true),
            ("networks = [\"203.0.113.0/24\"]\n", true),
            (
                "networks = [\"203.0.113.0/24\"]\nnowhere_else = false\n",
                true,
            ),
            ("networks = [\"10.2.0.0/16\", \"203.0.113.0/24\"]\n", true),
            ("networks = [\"0.0.0.0/0\"]\n", true),
        ] {
            assert_eq!(class(text).nowhere_else, nowhere_else, "{text}");
        }
        let config = Config::parse(
            "[egress]\nprivate = []\n[egress.classes.lab]\nnetworks = [\"10.0.0.0/8\"]\n",
        );
        let classes = config.unwrap().egress.classes;
        assert!(classes[&"lab".parse::<ClassName>().unwrap()].nowhere_else);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_value_and_remedy() {
        for (text, place, words) in [
            (
                "names = [\"pypi.org\", \"https://x.org\"]\n",
                "2:22",
                "without scheme",
            ),
            ("names = [\"10.0.0.1\"]\n", "2:10", "use `networks`"),
            ("deny_names = [\"a*\"]\n", "2:15", "first label"),
            ("new_connections = \"50\"\n", "2:19", "\"50/s\""),
            ("new_connections = \"0/s\"\n", "2:19", "from 1"),
            ("connections = 0\n", "2:15", "from 1 to 1000000"),
            ("bandwidth = \"10 MB/s\"\n", "2:13", "write \"80 Mbit/s\""),
            ("bandwidth = \"1 kbit/s\"\n", "2:13", "from 64 kbit/s"),
            ("shape = \"yes\"\nbandwidth = \"1 Mbit/s\"\n", "2:9", "true"),
            ("shape = true\n", "2:9", "set bandwidth"),
            ("bytes_per_day = \"20\"\n", "2:17", "the unit is missing"),
            ("nowhere_else = true\n", "2:16", "reached nowhere"),
            (
                "names = [\"a.org\"]\nservices = [\"https\"]\n",
                "2:9",
                "needs the service \"dns\"",
            ),
        ] {
            let found = problem(text);
            assert!(
                found.starts_with(place) && found.contains(words),
                "{text}: {found}"
            );
        }
    }
}
