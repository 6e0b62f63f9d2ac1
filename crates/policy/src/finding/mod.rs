//! What sensors find: a [`Fact`] with the numbers that prove it, and of which process.
//!
//! Contents of users' memory, command lines and traffic are never in here: a fact holds which
//! pattern matched, and nothing of what surrounded it.

mod modes;
pub mod scan;
mod word;

pub use modes::{LEAST_FOR_INTERVALS, LEAST_OF_EACH, Modes, PUBLISHED_RULE};
pub use word::Word;

use quantities::Time;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Of RandomX's seven constants this many prove it: one alone is a number like any other.
pub const CONSTANTS_NEEDED: usize = 4;

/// Who finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensor {
    /// Rounding modes, seen at context switches.
    Rounding,
    /// Constants in memory.
    Constants,
    /// Names and arguments.
    Exec,
    /// What kind of program runs.
    Binary,
    /// Mining protocol in traffic.
    Stratum,
    /// Addresses and names of pools, as deny lists have them.
    Pools,
    /// Connections begun to many hosts, or ports of one, that do not answer, and false source addresses.
    Scan,
    /// How much is sent.
    Volume,
}

impl Sensor {
    /// All sensors.
    pub const ALL: [Sensor; 8] = [
        Sensor::Rounding,
        Sensor::Constants,
        Sensor::Exec,
        Sensor::Binary,
        Sensor::Stratum,
        Sensor::Pools,
        Sensor::Scan,
        Sensor::Volume,
    ];

    /// The word used in the journal's `EVIDENCE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Sensor::Rounding => "rounding",
            Sensor::Constants => "constants",
            Sensor::Exec => "exec",
            Sensor::Binary => "binary",
            Sensor::Stratum => "stratum",
            Sensor::Pools => "pools",
            Sensor::Scan => "scan",
            Sensor::Volume => "volume",
        }
    }
}

impl fmt::Display for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much something proves, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// It looks odd and has an honest explanation, which is said.
    Exonerates,
    /// Worth a line in the journal, and nothing more.
    Suspicious,
    /// No honest program measured does this.
    High,
    /// Two independent signs of it.
    Certain,
}

impl Strength {
    /// The word used in the journal, in `explain` and in the corpus.
    pub fn as_str(self) -> &'static str {
        match self {
            Strength::Exonerates => "exonerates",
            Strength::Suspicious => "suspicious",
            Strength::High => "high",
            Strength::Certain => "certain",
        }
    }
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was seen, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// Rule R: all three directed modes at random with denormals flushed, as RandomX computes.
    RandomRounding(Modes),
    /// All three directed modes, without flushing: RandomX would flush.
    MixedRounding(Modes),
    /// Rounding up, or up and down: interval arithmetic.
    IntervalRounding(Modes),
    /// RandomX's constants are in memory: how many of seven.
    Constants {
        /// How many.
        found: usize,
    },
    /// A miner's name or option.
    Named(&'static str),
    /// It calls itself `python` and has no Python in it.
    NoPythonInPython,
    /// Whoever reads its memory or its program has to wait, and goes without.
    Unreadable,
    /// Mining protocol in its traffic.
    Stratum {
        /// The word that was found.
        word: Word,
        /// The TCP port it went to.
        port: u16,
    },
    /// It asked for a host that a deny list names.
    Listed,
    /// It tries to reach many hosts at a time, and most do not answer.
    Scan {
        /// How many hosts did not answer within the last minute.
        hosts: u32,
        /// How many did.
        answered: u32,
        /// The port that nearly all of them are asked on.
        port: Option<u16>,
        /// At how many looks in a row.
        looks: u32,
    },
    /// It tries port after port of one host, and most do not answer.
    PortScan {
        /// How many ports did not answer within the last minute.
        ports: u32,
        /// At how many looks in a row.
        looks: u32,
    },
    /// It sends packets in great number.
    Flood {
        /// Packets a second.
        rate: u32,
        /// At how many looks in a row.
        looks: u32,
    },
    /// It sends from addresses that are not its own.
    Spoofed {
        /// How many packets since the look before.
        packets: u64,
    },
}

impl Fact {
    /// Whose fact it is.
    pub fn sensor(&self) -> Sensor {
        match self {
            Fact::RandomRounding(_) | Fact::MixedRounding(_) | Fact::IntervalRounding(_) => {
                Sensor::Rounding
            }
            Fact::Constants { .. } | Fact::Unreadable => Sensor::Constants,
            Fact::Named(_) => Sensor::Exec,
            Fact::NoPythonInPython => Sensor::Binary,
            Fact::Stratum { .. } => Sensor::Stratum,
            Fact::Listed => Sensor::Pools,
            Fact::Scan { .. } | Fact::PortScan { .. } | Fact::Spoofed { .. } => Sensor::Scan,
            Fact::Flood { .. } => Sensor::Volume,
        }
    }

    /// Whether it is abuse of the network, which has nothing to do with mining and needs no CPU.
    pub fn is_of_network(&self) -> bool {
        matches!(
            self,
            Fact::Scan { .. } | Fact::PortScan { .. } | Fact::Flood { .. } | Fact::Spoofed { .. }
        )
    }

    /// What it proves by itself: of mining, about a server that is hot.
    pub fn strength(&self) -> Strength {
        match self {
            Fact::Scan {
                hosts,
                answered,
                port,
                looks,
            } if scan::is_sustained(*hosts, *answered, *port, *looks) => Strength::High,
            Fact::PortScan { ports, looks } if scan::is_sustained_of_ports(*ports, *looks) => {
                Strength::High
            }
            Fact::Flood { looks, .. } if *looks >= scan::SUSTAINED => Strength::High,
            Fact::Constants { found } if *found >= CONSTANTS_NEEDED => Strength::High,
            Fact::Stratum { .. } => Strength::High,
            Fact::IntervalRounding(_) => Strength::Exonerates,
            Fact::RandomRounding(_)
            | Fact::MixedRounding(_)
            | Fact::Constants { .. }
            | Fact::Named(_)
            | Fact::NoPythonInPython
            | Fact::Unreadable
            | Fact::Listed
            | Fact::Scan { .. }
            | Fact::PortScan { .. }
            | Fact::Flood { .. }
            | Fact::Spoofed { .. } => Strength::Suspicious,
        }
    }

    /// Whether it is a sign that mining or abuse goes on, and no mere name.
    pub fn accuses(&self) -> bool {
        matches!(self, Fact::RandomRounding(_)) || self.strength() >= Strength::High
    }

    /// Whether it is a sign that mining goes on.
    pub fn is_of_mining(&self) -> bool {
        self.accuses() && !self.is_of_network()
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::RandomRounding(modes) => write!(
                f,
                "rounding modes change at random with denormals flushed, as RandomX computes \
                 ({modes}; 4 of each and 90 % flushed are needed)"
            ),
            Fact::MixedRounding(modes) => write!(
                f,
                "all rounding modes are used, but denormals are not flushed as RandomX does \
                 ({modes})"
            ),
            Fact::IntervalRounding(modes) => write!(
                f,
                "rounding goes up, or up and down, and never to zero: interval arithmetic, which \
                 is honest ({modes})"
            ),
            Fact::Constants { found } => write!(
                f,
                "{found} of RandomX's 7 constants are in its memory ({CONSTANTS_NEEDED} are needed)"
            ),
            Fact::Named(pattern) => write!(f, "its name or arguments say {pattern:?}"),
            Fact::NoPythonInPython => f.write_str("it calls itself python and has no Python in it"),
            Fact::Unreadable => f.write_str(
                "it holds whoever reads its memory, its arguments or its program (they are on a file system \
                 that does not answer, FUSE or a network's), so that none can be searched",
            ),
            Fact::Stratum { word, port } => write!(
                f,
                "it speaks stratum, the mining pools' protocol ({word}, to TCP port {port})"
            ),
            Fact::Listed => f.write_str("it asked for a host that a deny list names"),
            Fact::Scan {
                hosts,
                answered,
                port,
                looks,
            } => {
                write!(
                    f,
                    "it tries to reach many hosts: {hosts} did not answer within a minute, and \
                     {answered} did"
                )?;
                if let Some(port) = port {
                    write!(f, "; nearly all were asked on TCP port {port}")?;
                }
                in_a_row(f, *looks)
            }
            Fact::PortScan { ports, looks } => {
                write!(
                    f,
                    "it tries port after port of one host: {ports} did not answer within a minute"
                )?;
                in_a_row(f, *looks)
            }
            Fact::Flood { rate, looks } => {
                write!(f, "it sends {rate} packets a second")?;
                in_a_row(f, *looks)
            }
            Fact::Spoofed { packets } => write!(
                f,
                "it sends from addresses that are not its own ({packets} packets)"
            ),
        }
    }
}

fn in_a_row(f: &mut fmt::Formatter<'_>, looks: u32) -> fmt::Result {
    match looks {
        0 | 1 => Ok(()),
        looks => write!(f, " (at {looks} looks in a row)"),
    }
}

/// One observed fact about one process of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// What.
    pub fact: Fact,
    /// Of which process (thread group), or [`Evidence::NO_PROCESS`].
    pub pid: u32,
    /// When.
    pub at: Time,
}

impl Evidence {
    /// It is the server's as a whole: traffic belongs to no process by the time it is seen.
    pub const NO_PROCESS: u32 = 0;

    /// What it proves by itself.
    pub fn strength(&self) -> Strength {
        self.fact.strength()
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Evidence::NO_PROCESS => self.fact.fmt(f),
            pid => write!(f, "process {pid}: {}", self.fact),
        }
    }
}
