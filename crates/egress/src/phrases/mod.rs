//! The conditions and actions our rules are made of. Each is a run of expressions; a rule is
//! some of them in a row.

mod actions;
mod conditions;
mod loads;
mod tracked;

pub use actions::*;
pub use conditions::*;
pub use loads::*;
pub use tracked::*;

use super::{
    ruleset::{Cmp, Expr, LookupTo, Reg},
    uapi::*,
};

/// The register that phrases work in.
pub const R0: Reg = Reg(0);
/// The one behind it, for the second part of a key.
pub const R1: Reg = Reg(1);

/// The one behind an interface's name in the first.
pub const R4: Reg = Reg(4);

/// The packet mark that says "sent by server N": this byte on top, N in the 24 bits below.
pub const MARK: u32 = 0x4800_0000;
/// The bits of a mark that say it is ours.
pub const MARK_MASK: u32 = 0xff00_0000;

/// An address family with what differs between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    pub fn of(address: std::net::IpAddr) -> Self {
        match address {
            std::net::IpAddr::V4(_) => Self::V4,
            std::net::IpAddr::V6(_) => Self::V6,
        }
    }

    /// As sets are named.
    pub fn digit(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// The nft program's type of its addresses.
    pub fn address_type(self) -> u32 {
        match self {
            Self::V4 => TYPE_IPV4,
            Self::V6 => TYPE_IPV6,
        }
    }

    /// `NFPROTO_*`, and offset of source and destination in the header, and length, bytes.
    fn layout(self) -> (u8, u32, u32, u32) {
        match self {
            Self::V4 => (NFPROTO_IPV4, 12, 16, 4),
            Self::V6 => (NFPROTO_IPV6, 8, 24, 16),
        }
    }
}

/// Load a fact about the packet (`NFT_META_*`).
pub fn load(key: u32, to: Reg) -> Expr {
    Expr::Meta { key, to }
}

/// Change a fact about the packet to what was loaded last.
pub fn store(key: u32) -> Expr {
    Expr::MetaSet { key, from: R0 }
}

/// Load bytes of a header (`NFT_PAYLOAD_*`).
pub fn header(base: u32, offset: u32, len: u32, to: Reg) -> Expr {
    Expr::Payload {
        base,
        offset,
        len,
        to,
    }
}

/// What was loaded last compares so.
pub fn compare(op: Cmp, value: &[u8]) -> Expr {
    Expr::Cmp {
        op,
        from: R0,
        value: value.to_vec(),
    }
}

/// What was loaded last is this.
pub fn equals(value: &[u8]) -> Expr {
    compare(Cmp::Eq, value)
}

/// What was loaded last, with only these bits of it kept and these turned round.
pub fn bits(mask: &[u8], xor: &[u8]) -> Expr {
    Expr::Bitwise {
        from: R0,
        to: R0,
        mask: mask.to_vec(),
        xor: xor.to_vec(),
    }
}

/// The same of a number in this node's byte order.
pub fn number_bits(mask: u32, xor: u32) -> Expr {
    bits(&mask.to_ne_bytes(), &xor.to_ne_bytes())
}

/// Look up what was loaded last.
pub fn look_up(set: &str, to: LookupTo, invert: bool) -> Expr {
    Expr::Lookup {
        set: set.to_owned(),
        from: R0,
        to,
        invert,
    }
}

/// What was loaded last is in a set.
pub fn has(set: &str) -> Expr {
    look_up(set, LookupTo::Nothing, false)
}
