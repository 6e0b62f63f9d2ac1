//! Names with a shape: templates with `{USERNAME}`, services, egress classes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;

/// A spawner's template with `{USERNAME}` in it once, as `jupyter-{USERNAME}-singleuser`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    prefix: String,
    suffix: String,
}

const USERNAME: &str = "{USERNAME}";

impl Template {
    /// Joins the parts around `{USERNAME}`.
    pub fn new(prefix: &str, suffix: &str) -> Self {
        Template {
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (prefix, suffix) = text
            .split_once(USERNAME)
            .ok_or("{USERNAME} is missing in it")?;
        if suffix.contains(USERNAME) {
            return Err("{USERNAME} stands in it twice".to_owned());
        }
        if let Some(odd) = [prefix, suffix]
            .iter()
            .flat_map(|part| part.chars())
            .find(|c| !(c.is_ascii_alphanumeric() || "-_.:@".contains(*c)))
        {
            return Err(format!(
                "`{}` is not allowed; besides {{USERNAME}} only letters, digits and -_.:@ are",
                odd.escape_debug()
            ));
        }
        Ok(Template::new(prefix, suffix))
    }

    /// What stands before the user's name.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What stands behind it.
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// The template with a name in its place.
    pub fn expand(&self, name: &str) -> String {
        format!("{}{name}{}", self.prefix, self.suffix)
    }

    /// The name that stands in `text`, if `text` has this shape and the name is not empty.
    pub fn extract<'t>(&self, text: &'t str) -> Option<&'t str> {
        text.strip_prefix(self.prefix.as_str())?
            .strip_suffix(self.suffix.as_str())
            .filter(|name| !name.is_empty())
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{USERNAME}{}", self.prefix, self.suffix)
    }
}

/// A transport protocol and the ports it may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// TCP, or else UDP.
    pub tcp: bool,
    /// Destination ports.
    pub ports: RangeInclusive<u16>,
}

/// A service as configured: by name, or protocol and ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceName {
    /// `dns`: UDP and TCP 53, to the node's resolvers only.
    Dns,
    /// Anything else, to any address not denied.
    Ports(Service),
}

impl ServiceName {
    /// Reads `"https"`, `"tcp/8443"` or `"udp/6000-6100"`.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tcp = |port| {
            Ok(ServiceName::Ports(Service {
                tcp: true,
                ports: port..=port,
            }))
        };
        match text {
            "dns" => return Ok(ServiceName::Dns),
            "http" => return tcp(80),
            "https" => return tcp(443),
            "git" => return tcp(9418),
            "rsync" => return tcp(873),
            "ssh" => return tcp(22),
            _ => {}
        }
        let (protocol, ports) = text.split_once('/').ok_or("unknown name")?;
        let is_tcp = match protocol {
            "tcp" => true,
            "udp" => false,
            _ => return Err(format!("`{protocol}` is neither tcp nor udp")),
        };
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("`{text}` is no port from 1 to 65535")),
        };
        let (first, last) = match ports.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(ports)?, port(ports)?),
        };
        if first > last {
            return Err(format!("{first} is above {last}"));
        }
        Ok(ServiceName::Ports(Service {
            tcp: is_tcp,
            ports: first..=last,
        }))
    }
}

/// The name of an egress class; short and plain, since the kernel carries it in chain names and
/// log prefixes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClassName(String);

impl ClassName {
    /// The class every installation has.
    pub fn standard() -> Self {
        ClassName("standard".to_owned())
    }

    /// Servers not known yet: nothing is reached.
    pub fn pending() -> Self {
        ClassName("pending".to_owned())
    }

    /// Units in the guarded slice that are no servers: nothing is refused.
    pub fn exempt() -> Self {
        ClassName("exempt".to_owned())
    }

    /// Reads an admin's name.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "pending" || text == "exempt" {
            return Err(format!("class `{text}` is built in; choose another name"));
        }
        let mut chars = text.chars();
        let good = chars.next().is_some_and(|c| c.is_ascii_lowercase())
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && text.len() <= 20;
        if good {
            Ok(ClassName(text.to_owned()))
        } else {
            Err(format!(
                "class name `{}` must be a lower-case letter, then up to 19 of a-z, 0-9 and _",
                text.chars()
                    .take(40)
                    .flat_map(char::escape_debug)
                    .collect::<String>()
            ))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
