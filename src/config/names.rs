//! Names with a shape: templates with `{USERNAME}`, services.

use egress::{Service, Transport};
use std::fmt;

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

/// A service as configured: by name, or protocol and ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceName {
    /// `dns`: UDP and TCP 53, to the node's resolvers only.
    Dns,
    /// Anything else, to any address not denied.
    Ports(Service),
}

impl ServiceName {
    /// The ports, unless it is `dns`.
    pub fn ports(self) -> Option<Service> {
        match self {
            ServiceName::Dns => None,
            ServiceName::Ports(service) => Some(service),
        }
    }

    /// Reads `"https"`, `"tcp/8443"` or `"udp/6000-6100"`.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tcp = |port| Ok(ServiceName::Ports(Service::tcp(port)));
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
        let transport = match protocol {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
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
            transport,
            ports: first..=last,
        }))
    }
}
