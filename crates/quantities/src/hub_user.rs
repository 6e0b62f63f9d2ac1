//! The name of a hub's user.

use super::Plain;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A user's name as JupyterHub has it: any text, chosen by people. It is data: shown escaped,
/// never part of a path, a command or a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HubUser(pub String);

impl HubUser {
    /// The name as it is.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HubUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Plain(&self.0).fmt(f)
    }
}
