//! How much of what a class allows: new connections, connections at a time, bandwidth, bytes a
//! day.
//!
//! Each limit is a set that packets fill, keyed by the server's number, each element with a limit
//! of its own. So a server costs an element, made by its first packet, and no rule.

mod received;
mod rules;

use std::{fmt, num::NonZeroU32};

use crate::filled::Filled;

pub use received::{element_of, element_of_port, input, output_of_bridges, received_sets};
pub use rules::*;

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitsPerSecond(pub u64);

impl BitsPerSecond {
    /// The most that a limit can say: a rate and its burst, in bytes, times a second in nanoseconds
    /// have to fit 64 bits (`nft_limit_init`).
    pub const MAX: Self = Self(100_000_000_000);
}

impl fmt::Display for BitsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits % 1_000_000_000 == 0 => write!(f, "{} Gbit/s", bits / 1_000_000_000),
            bits if bits % 1_000_000 == 0 => write!(f, "{} Mbit/s", bits / 1_000_000),
            bits => write!(f, "{} kbit/s", bits / 1_000),
        }
    }
}

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In how many seconds.
    pub seconds: u32,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.seconds {
            1 => "second",
            60 => "minute",
            _ => "hour",
        };
        write!(f, "{} a {unit}", self.count)
    }
}

/// The limits of each server of a class; none of them is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassLimits {
    /// New connections to elsewhere; as many again may come at once.
    pub new_connections: Option<Rate>,
    /// Connections to elsewhere at a time, as connection tracking counts them.
    pub connections: Option<NonZeroU32>,
    /// What is sent and, on its own account, what is received.
    pub bandwidth: Option<BitsPerSecond>,
    /// What is sent beyond the bandwidth is delayed, not dropped, where the kernel can.
    pub shape: bool,
    /// Bytes sent and received in a day. The table only counts them; who uses it changes the class
    /// of a server that has had its share.
    pub bytes_per_day: Option<u64>,
}

/// A limit that refused a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// [`ClassLimits::new_connections`].
    NewConnections,
    /// [`ClassLimits::connections`].
    Connections,
}

impl Limit {
    /// The set of what each sender has used of it.
    fn filled(self) -> Filled {
        match self {
            Self::NewConnections => Filled::NewConnections,
            Self::Connections => Filled::Connections,
        }
    }

    /// All of them.
    pub const ALL: [Self; 2] = [Self::NewConnections, Self::Connections];

    /// The word in the log prefix.
    pub fn as_str(self) -> &'static str {
        self.filled().as_str()
    }
}

impl ClassLimits {
    /// Whether packets to elsewhere are counted against anything.
    fn on_sent(&self) -> bool {
        self.new_connections.is_some() || self.connections.is_some() || self.on_received()
    }

    /// The bandwidth that what is sent is shaped to.
    pub fn shaped(&self) -> Option<BitsPerSecond> {
        self.bandwidth.filter(|_| self.shape)
    }

    /// Whether packets from elsewhere are looked at.
    fn on_received(&self) -> bool {
        self.bandwidth.is_some() || self.bytes_per_day.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, ClassName, Mode, Policy, phrases as p};

    #[test]
    fn rates_read_as_an_admin_would_say_them() {
        for (bits, says) in [
            (20_000_000, "20 Mbit/s"),
            (1_000_000_000, "1 Gbit/s"),
            (1_500_000, "1500 kbit/s"),
        ] {
            assert_eq!(BitsPerSecond(bits).to_string(), says);
        }
        let rate = Rate {
            count: NonZeroU32::new(50).unwrap(),
            seconds: 60,
        };
        assert_eq!(rate.to_string(), "50 a minute");
    }

    #[test]
    fn a_class_without_limits_costs_nothing_more() {
        let name: ClassName = "standard".parse().unwrap();
        let policy = Policy::standard(Mode::Enforce);
        let class = Class::standard();
        assert_eq!(allow(&name, &class), p::accept());
        assert!(chains(&name, &class, &policy).is_empty() && sets(&name, &class).is_empty());
        assert!(input(&policy).0.is_empty());
    }
}
