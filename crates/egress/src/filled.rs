//! The sets that packets and resolvers' answers fill while the table stands: what each is, how much of
//! it one sender can have, and the size, time and flags that follow from that.
//!
//! Such a set has a bound, and who fills it must not take what others need. So in each there is a share
//! for every sender, and its size has room for the shares of many. A set that is none of these is filled
//! by the daemon alone, with what it knows: servers, ports, networks of the configuration.

use crate::{
    ruleset::{Expr, Set},
    sets,
    uapi::{NFT_SET_EVAL, NFT_SET_TIMEOUT},
};

/// Senders that a set has room for at least. The kernel makes a hash table for all of them when it makes
/// the set (`nelem_hint` in `nft_rhash_init`), 8 bytes each and a third more, rounded up to a power of
/// two. A server that starts again and again is another sender each time.
const SENDERS: u32 = 16_384;
/// And at most.
const SENDERS_MAX: u32 = 262_144;
/// Attempts that a set has room for, for each server that the table has room for.
const ATTEMPTS_EACH: u32 = 96;
/// And at least: 71 senders who have all that they can, 49 in what was answered.
const ATTEMPTS: u32 = 98_304;
/// An element of some 130 bytes each: 51 MB in a set that is full.
const ATTEMPTS_MAX: u32 = 393_216;
/// What has ended takes room until the kernel collects it, a second or so.
const ENDED: u32 = 8_192;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// How long an attempt is remembered that nobody answers, and how long a host that does.
pub const REMEMBERED_MS: u64 = MINUTE_MS;
/// A datagram may be answered for so long, as connection tracking has it (`nf_conntrack_udp_timeout_stream`).
const ANSWERED_WITHIN_MS: u64 = 2 * MINUTE_MS;
/// Of one sender so many attempts are noted a second, and so many at once. A sender that begins more
/// shows what it does by those: the strongest sign of a scan is 512 ports that did not answer within a
/// minute. A cluster of some hundred workers, half of them down, is noted as a whole.
pub const NOTED_A_SECOND: u32 = 10;
/// So many at once.
pub const NOTED_AT_ONCE: u32 = 768;
/// Addresses that one sender's questions may have in a class's set of one family.
pub const NAMES_SHARE: u32 = 1_024;
/// Addresses of one class and family.
pub const NAMES: u32 = 65_536;

/// So much of a sender is noted; what is over matches.
pub fn enough() -> Expr {
    Expr::Limit {
        rate: NOTED_A_SECOND.into(),
        unit_s: 1,
        burst: NOTED_AT_ONCE,
        bytes: false,
        over: true,
    }
}

/// A set that packets or answers fill; the word that its name begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filled {
    /// A class's limit of new connections, of each sender.
    NewConnections,
    /// A class's limit of connections at a time, of each sender.
    Connections,
    /// A class's bandwidth, of what each sends.
    Sent,
    /// The same of what each receives.
    Had,
    /// Counters of a day's bytes.
    Day,
    /// Everybody's limit of connections begun.
    MostConnections,
    /// Everybody's limit of packets that are no TCP.
    MostPackets,
    /// Everybody's limit of questions for names that wait to be remembered.
    MostQuestions,
    /// How many attempts of each sender are noted.
    Noted,
    /// Counters of attempts that were not noted.
    NotNoted,
    /// Counters of what was refused, by mark.
    Refused,
    /// Of connections by TCP, how many entries of the kernel's table of connections each begins.
    TcpEntries,
    /// The same of all else.
    OtherEntries,
    /// How many of a sender's are alive.
    HeldEntries,
    /// How many datagrams to each server are noted.
    Arrived,
    /// Datagrams that a server may answer.
    Datagrams,
    /// Of what was refused, what was over those entries.
    TooManyEntries,
    /// Of that, what was over [`Filled::MostConnections`].
    TooManyConnections,
    /// What was over [`Filled::MostPackets`].
    TooManyPackets,
    /// What was over [`Filled::MostQuestions`].
    TooManyQuestions,
    /// Counters of false addresses, by mark.
    Spoofers,
    /// How many refusals of each mark are told of.
    Told,
    /// Attempts that nobody answered.
    Unanswered,
    /// Hosts that answered.
    Answered,
    /// Addresses of names.
    Names,
}

/// What one sender can have of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// One element: its key is the sender.
    One,
    /// So many elements, by a limit in the rules that fill it. What is over is not put in.
    Limited(u32),
    /// So many elements, as who puts them in keeps account. For what is over, the sender's own oldest go.
    Kept(u32),
}

impl Filled {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::NewConnections,
        Self::Connections,
        Self::Sent,
        Self::Had,
        Self::Day,
        Self::MostConnections,
        Self::MostPackets,
        Self::MostQuestions,
        Self::Noted,
        Self::NotNoted,
        Self::Refused,
        Self::TcpEntries,
        Self::OtherEntries,
        Self::HeldEntries,
        Self::Arrived,
        Self::Datagrams,
        Self::TooManyEntries,
        Self::TooManyConnections,
        Self::TooManyPackets,
        Self::TooManyQuestions,
        Self::Spoofers,
        Self::Told,
        Self::Unanswered,
        Self::Answered,
        Self::Names,
    ];

    /// What the names of such sets begin with; a family's digit, how senders are known, and a class may
    /// follow.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewConnections => "new_connections",
            Self::Connections => "connections",
            Self::Sent => "sent",
            Self::Had => "had",
            Self::Day => "day",
            Self::MostConnections => "most_connections",
            Self::MostPackets => "most_packets",
            Self::MostQuestions => "most_questions",
            Self::Noted => "noted",
            Self::NotNoted => "not_noted",
            Self::Refused => "refused",
            Self::TcpEntries => "tcp_entries",
            Self::OtherEntries => "other_entries",
            Self::HeldEntries => "held_entries",
            Self::Arrived => "arrived",
            Self::Datagrams => "datagrams",
            Self::TooManyEntries => "too_many_entries",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyPackets => "too_many_packets",
            Self::TooManyQuestions => "too_many_questions",
            Self::Spoofers => "spoofers",
            Self::Told => "told",
            Self::Unanswered => "unanswered",
            Self::Answered => "answered",
            Self::Names => "names",
        }
    }

    /// What a set is, by its name; `None` for one that the daemon alone fills with what it knows.
    pub fn of(name: &str) -> Option<Self> {
        let is = |filled: &Self| match name.strip_prefix(filled.as_str()) {
            Some(rest) => {
                let rest = rest.strip_prefix(['4', '6']).unwrap_or(rest);
                rest.is_empty() || rest.starts_with('_')
            }
            None => false,
        };
        Self::ALL.into_iter().find(is)
    }

    /// What one sender can have of it.
    pub fn share(self) -> Share {
        let minutes = |minutes: u32| NOTED_AT_ONCE + minutes * 60 * NOTED_A_SECOND;
        match self {
            Self::Unanswered => Share::Limited(minutes(1)),
            // An attempt that is answered when it is a minute old counts a minute more.
            Self::Answered => Share::Limited(minutes(2)),
            Self::Datagrams => Share::Limited(minutes(2)),
            Self::Names => Share::Kept(NAMES_SHARE),
            _ => Share::One,
        }
    }

    /// How long an element is there after it was used last; 0 for one that is told for how long, or
    /// that ends with what it counts. A limit has to last until its sender may do as much again as at
    /// first, a counter until it is read, once a tick.
    fn lasts_ms(self) -> u64 {
        match self {
            Self::Names => 0,
            // They end when there are none left. The kernel takes no time for these (`nft_dynset_init`:
            // `ops->gc`).
            Self::Connections | Self::HeldEntries => 0,
            Self::Datagrams => ANSWERED_WITHIN_MS,
            Self::Unanswered | Self::Answered => REMEMBERED_MS,
            Self::Sent | Self::Had | Self::MostQuestions => MINUTE_MS,
            Self::Noted | Self::Told => 5 * MINUTE_MS,
            _ => HOUR_MS,
        }
    }

    fn flags(self) -> u32 {
        match self {
            Self::Names => NFT_SET_TIMEOUT,
            Self::Connections | Self::HeldEntries => NFT_SET_EVAL,
            _ => NFT_SET_EVAL | NFT_SET_TIMEOUT,
        }
    }

    /// How many elements it has room for, in a table with room for so many servers.
    pub fn size(self, room: u32) -> u32 {
        match self.share() {
            Share::One => room.clamp(SENDERS, SENDERS_MAX),
            Share::Limited(_) => room
                .saturating_mul(ATTEMPTS_EACH)
                .clamp(ATTEMPTS, ATTEMPTS_MAX),
            Share::Kept(_) => NAMES + ENDED,
        }
    }

    /// Such a set, empty, in the smallest table.
    pub fn set(self, name: &str, key_type: u32, key_len: u32) -> Set {
        debug_assert_eq!(Self::of(name), Some(self), "{name}");
        Set {
            flags: self.flags(),
            size: self.size(0),
            timeout_ms: self.lasts_ms(),
            ..sets::plain(name, key_type, key_len)
        }
    }
}

/// Gives those of a table that are filled room for so many servers.
pub fn make_room(sets: &mut [Set], room: u32) {
    for set in sets {
        if let Some(filled) = Filled::of(&set.name) {
            set.size = filled.size(room);
        }
    }
}

#[cfg(test)]
mod tests;
