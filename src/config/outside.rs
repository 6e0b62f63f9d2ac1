//! `egress.outside`: what becomes of packets that users send from outside their servers.

use super::decode::FromToml;
use toml::de::DeValue;

/// Whether a user's class holds outside the server too: over ssh, in lingering sessions, for cron.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// It does, while the user has a server.
    Judge,
    /// It does not.
    Leave,
}

impl FromToml for Outside {
    const EXPECTED: &'static str = "\"judge\" or \"leave\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("judge") => Ok(Outside::Judge),
            Some("leave") => Ok(Outside::Leave),
            _ => Err(String::new()),
        }
    }
}
