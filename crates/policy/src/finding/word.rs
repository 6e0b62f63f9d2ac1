//! The words by which stratum, the mining pools' protocol, is known.

use std::fmt;

/// A word of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// `mining.subscribe`
    Subscribe,
    /// `mining.authorize`
    Authorize,
    /// `"method":"login"` with a `"login"` to go by, as Monero's pools have it.
    Login,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Word::Subscribe => "mining.subscribe",
            Word::Authorize => "mining.authorize",
            Word::Login => "\"method\":\"login\"",
        })
    }
}
