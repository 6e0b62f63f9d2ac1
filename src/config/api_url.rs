//! Where the hub's REST API is, as an URL says it.

use super::decode::FromToml;
use crate::http::Endpoint;
use std::fmt;
use std::path::{Component, PathBuf};
use toml::de::DeValue;

/// Where the hub's REST API is: `http://127.0.0.1:15001/hub/api`, or, as JupyterHub writes a Unix
/// socket, `http+unix://%2Frun%2Fjupyterhub%2Fhub.sock/hub/api`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiUrl {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What stands before each path, without a slash at its end.
    pub prefix: String,
}

impl ApiUrl {
    fn parse(text: &str) -> Result<ApiUrl, String> {
        if let Some(rest) = text.strip_prefix("http+unix://") {
            let (socket, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let socket =
                socket_path(socket).ok_or("its socket is no absolute path, with %2F for /")?;
            return Ok(ApiUrl {
                endpoint: Endpoint::Unix(socket),
                prefix: prefix(path)?,
            });
        }
        let rest = text.strip_prefix("http://").ok_or_else(|| {
            if text.starts_with("https://") {
                "no TLS is spoken: give the hub's own port on this node, not the proxy's".to_owned()
            } else {
                String::new()
            }
        })?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = authority.rsplit_once(':').ok_or("the port is missing")?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port = port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("`{}` is no port from 1 to 65535", port.escape_debug()))?;
        let odd = |c: char| !(c.is_ascii_alphanumeric() || ".:-_".contains(c));
        if host.is_empty() || host.contains(odd) {
            return Err(format!("`{}` is no host", host.escape_debug()));
        }
        Ok(ApiUrl {
            endpoint: Endpoint::Tcp {
                host: host.to_owned(),
                port,
            },
            prefix: prefix(path)?,
        })
    }
}

/// What stands before each path of the API.
fn prefix(path: &str) -> Result<String, String> {
    let prefix = path.trim_end_matches('/');
    if !prefix.bytes().all(|b| b.is_ascii_graphic()) || prefix.contains(['?', '#']) {
        return Err("a path without `?` and `#` belongs behind the port".to_owned());
    }
    Ok(prefix.to_owned())
}

/// A socket's path as it stands in a URL: percent-encoded.
fn socket_path(encoded: &str) -> Option<PathBuf> {
    let mut parts = encoded.split('%');
    let mut path = parts.next()?.to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        path.push(byte.is_ascii_graphic().then_some(byte.into())?);
        path.push_str(rest);
    }
    let path = PathBuf::from(path);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    (path.is_absolute() && !climbs).then_some(path)
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Unix(path) => {
                let path = path.display().to_string();
                let encoded = path.replace('%', "%25").replace('/', "%2F");
                write!(f, "http+unix://{encoded}{}", self.prefix)
            }
            tcp => write!(f, "http://{tcp}{}", self.prefix),
        }
    }
}

impl FromToml for ApiUrl {
    const EXPECTED: &'static str = "\"none\" or such as \"http://127.0.0.1:15001/hub/api\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        ApiUrl::parse(value.as_str().ok_or_else(String::new)?)
    }
}
