//! The conditions and actions our rules are made of. Each is a run of expressions; a rule is
//! some of them in a row.

mod uid;

pub use uid::{by_uid, is_root_s, mark_by_uid, marked_by_uid, number_by_uid};

use super::{
    Transport,
    ruleset::{Cmp, Expr, LookupTo, Reg, Verdict},
    uapi::*,
};

const R0: Reg = Reg(0);
const R1: Reg = Reg(1);
/// Loopback has this index in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
const IP_CT_DIR_REPLY: u8 = 1;

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

fn equals(from: Reg, value: &[u8]) -> Expr {
    Expr::Cmp {
        op: Cmp::Eq,
        from,
        value: value.to_vec(),
    }
}

fn has(set: &str) -> Expr {
    Expr::Lookup {
        set: set.to_owned(),
        from: R0,
        to: LookupTo::Nothing,
        invert: false,
    }
}

/// What was loaded last is in a set.
pub fn is_in(set: &str) -> Vec<Expr> {
    vec![has(set)]
}

fn cgroup(level: u8, to: Reg) -> Expr {
    Expr::Socket {
        key: NFT_SOCKET_CGROUPV2,
        level: level.into(),
        to,
    }
}

/// It leaves through loopback.
pub fn to_loopback() -> Vec<Expr> {
    vec![
        Expr::Meta {
            key: NFT_META_OIF,
            to: R0,
        },
        equals(R0, &LOOPBACK.to_ne_bytes()),
    ]
}

/// It came through loopback.
pub fn from_loopback() -> Vec<Expr> {
    vec![
        Expr::Meta {
            key: NFT_META_IIF,
            to: R0,
        },
        equals(R0, &LOOPBACK.to_ne_bytes()),
    ]
}

/// It came from elsewhere than this node's loopback.
pub fn not_from_loopback() -> Vec<Expr> {
    vec![
        Expr::Meta {
            key: NFT_META_IIF,
            to: R0,
        },
        Expr::Cmp {
            op: Cmp::Neq,
            from: R0,
            value: LOOPBACK.to_ne_bytes().to_vec(),
        },
    ]
}

/// It came in from anywhere: no process of this node sends it now.
pub fn came_in() -> Vec<Expr> {
    vec![
        Expr::Meta {
            key: NFT_META_IIF,
            to: R0,
        },
        Expr::Cmp {
            op: Cmp::Neq,
            from: R0,
            value: vec![0; 4],
        },
    ]
}

/// It answers a flow that the other side began.
pub fn is_answer() -> Vec<Expr> {
    vec![
        Expr::Ct {
            key: NFT_CT_DIRECTION,
            to: R0,
        },
        equals(R0, &[IP_CT_DIR_REPLY]),
    ]
}

/// It carries this protocol.
pub fn protocol(number: u8) -> Vec<Expr> {
    vec![
        Expr::Meta {
            key: NFT_META_L4PROTO,
            to: R0,
        },
        equals(R0, &[number]),
    ]
}

/// It is TCP, and not the first packet of a connection: anything but SYN without ACK.
pub fn continues_tcp() -> Vec<Expr> {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    let mut exprs = protocol(Transport::Tcp.number());
    exprs.extend([
        Expr::Payload {
            base: NFT_PAYLOAD_TRANSPORT_HEADER,
            offset: 13,
            len: 1,
            to: R0,
        },
        Expr::Bitwise {
            from: R0,
            to: R0,
            mask: vec![SYN | ACK],
            xor: vec![0],
        },
        Expr::Cmp {
            op: Cmp::Neq,
            from: R0,
            value: vec![SYN],
        },
    ]);
    exprs
}

/// Its destination is in a set of this family's addresses.
pub fn destination_in(family: Family, set: &str) -> Vec<Expr> {
    let (number, _, offset, len) = family.layout();
    address_in(number, offset, len, set)
}

/// Its source is in a set of this family's addresses.
pub fn source_in(family: Family, set: &str) -> Vec<Expr> {
    let (number, offset, _, len) = family.layout();
    address_in(number, offset, len, set)
}

/// Load its flow: source address and port, destination address and port.
pub fn flow(family: Family) -> Vec<Expr> {
    let (number, source, destination, len) = family.layout();
    // Registers of an address.
    let wide = if len == 4 { 1 } else { 4 };
    let load = |base, offset, len, to| Expr::Payload {
        base,
        offset,
        len,
        to: Reg(to),
    };
    vec![
        Expr::Meta {
            key: NFT_META_NFPROTO,
            to: R0,
        },
        equals(R0, &[number]),
        load(NFT_PAYLOAD_NETWORK_HEADER, source, len, 0),
        load(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, wide),
        load(NFT_PAYLOAD_NETWORK_HEADER, destination, len, wide + 1),
        load(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 2 * wide + 1),
    ]
}

/// What was loaded last is in a set from now on, for as long as the set says.
pub fn keep(set: &str) -> Vec<Expr> {
    vec![Expr::Update {
        set: set.to_owned(),
        key: R0,
        timeout_ms: 0,
        expr: None,
    }]
}

/// What was loaded last is an element of a set that has a check of its own, which matches.
pub fn update(set: &str, check: Expr) -> Vec<Expr> {
    vec![Expr::Update {
        set: set.to_owned(),
        key: R0,
        timeout_ms: 0,
        expr: Some(Box::new(check)),
    }]
}

/// Load what its socket's cgroup at this level maps to, if it does.
pub fn number_by_cgroup(level: u8, map: &str) -> Vec<Expr> {
    let mut exprs = mark_by_cgroup(level, map);
    exprs.pop();
    exprs
}

/// Load its mark, if it is one of ours.
pub fn number_by_mark() -> Vec<Expr> {
    let mut exprs = marked();
    exprs.push(Expr::Meta {
        key: NFT_META_MARK,
        to: R0,
    });
    exprs
}

/// It begins a flow.
pub fn is_new() -> Vec<Expr> {
    // `NF_CT_STATE_BIT(IP_CT_NEW)` of `linux/netfilter/nf_conntrack_common.h`.
    const NEW: u32 = 1 << 3;
    vec![
        Expr::Ct {
            key: NFT_CT_STATE,
            to: R0,
        },
        Expr::Bitwise {
            from: R0,
            to: R0,
            mask: NEW.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        Expr::Cmp {
            op: Cmp::Neq,
            from: R0,
            value: vec![0; 4],
        },
    ]
}

/// Its protocol and source port are in a set of both.
pub fn service_from(set: &str) -> Vec<Expr> {
    let mut exprs = service_in(set);
    if let Some(Expr::Payload { offset, .. }) = exprs.get_mut(1) {
        *offset = 0;
    }
    exprs
}

/// Its mark is this.
pub fn mark_is(mark: u32) -> Vec<Expr> {
    vec![
        Expr::Meta {
            key: NFT_META_MARK,
            to: R0,
        },
        equals(R0, &mark.to_ne_bytes()),
    ]
}

/// Count it.
pub fn count() -> Vec<Expr> {
    vec![Expr::Counter]
}

/// Count it and drop it, without a word.
pub fn discard() -> Vec<Expr> {
    vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]
}

fn address_in(number: u8, offset: u32, len: u32, set: &str) -> Vec<Expr> {
    vec![
        Expr::Meta {
            key: NFT_META_NFPROTO,
            to: R0,
        },
        equals(R0, &[number]),
        Expr::Payload {
            base: NFT_PAYLOAD_NETWORK_HEADER,
            offset,
            len,
            to: R0,
        },
        has(set),
    ]
}

/// What its destination maps to decides; with `port`, its destination and destination port.
pub fn by_destination(family: Family, port: bool, map: &str) -> Vec<Expr> {
    let mut exprs = destination_in(family, map);
    exprs.pop();
    if port {
        let after = match family {
            Family::V4 => Reg(1),
            Family::V6 => Reg(4),
        };
        exprs.push(Expr::Payload {
            base: NFT_PAYLOAD_TRANSPORT_HEADER,
            offset: 2,
            len: 2,
            to: after,
        });
    }
    exprs.push(Expr::Lookup {
        set: map.to_owned(),
        from: R0,
        to: LookupTo::Verdict,
        invert: false,
    });
    exprs
}

/// Its protocol and destination port are in a set of both.
pub fn service_in(set: &str) -> Vec<Expr> {
    vec![
        Expr::Meta {
            key: NFT_META_L4PROTO,
            to: R0,
        },
        Expr::Payload {
            base: NFT_PAYLOAD_TRANSPORT_HEADER,
            offset: 2,
            len: 2,
            to: R1,
        },
        has(set),
    ]
}

/// It is TCP and its destination port is in a set of ports.
pub fn tcp_port_in(set: &str) -> Vec<Expr> {
    let mut exprs = protocol(Transport::Tcp.number());
    exprs.extend([
        Expr::Payload {
            base: NFT_PAYLOAD_TRANSPORT_HEADER,
            offset: 2,
            len: 2,
            to: R0,
        },
        has(set),
    ]);
    exprs
}

/// What its socket's cgroup at this level maps to decides.
pub fn by_cgroup(level: u8, map: &str) -> Vec<Expr> {
    let set = map.to_owned();
    vec![
        cgroup(level, R0),
        Expr::Lookup {
            set,
            from: R0,
            to: LookupTo::Verdict,
            invert: false,
        },
    ]
}

/// Its socket's cgroup at this level is in a set.
pub fn cgroup_in(level: u8, set: &str) -> Vec<Expr> {
    vec![cgroup(level, R0), has(set)]
}

/// Its mark and its (receiving) socket's cgroup at this level are in a set of both.
pub fn mark_and_cgroup_in(level: u8, set: &str) -> Vec<Expr> {
    vec![
        Expr::Meta {
            key: NFT_META_MARK,
            to: R0,
        },
        cgroup(level, R1),
        has(set),
    ]
}

/// Its mark is one of ours.
pub fn marked() -> Vec<Expr> {
    vec![
        Expr::Meta {
            key: NFT_META_MARK,
            to: R0,
        },
        Expr::Bitwise {
            from: R0,
            to: R0,
            mask: MARK_MASK.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        equals(R0, &MARK.to_ne_bytes()),
    ]
}

/// There is a socket for it. `socket wildcard` loads 0 or 1 if there is one and matches nothing
/// if there is not.
pub fn has_socket() -> Vec<Expr> {
    vec![
        Expr::Socket {
            key: NFT_SOCKET_WILDCARD,
            level: 0,
            to: R0,
        },
        Expr::Cmp {
            op: Cmp::Lte,
            from: R0,
            value: vec![1],
        },
    ]
}

/// Mark it with this.
pub fn mark(value: u32) -> Vec<Expr> {
    vec![
        Expr::Immediate {
            to: R0,
            value: value.to_ne_bytes().to_vec(),
        },
        Expr::MetaSet {
            key: NFT_META_MARK,
            from: R0,
        },
    ]
}

/// Mark it with what its socket's cgroup at this level maps to, if it does.
pub fn mark_by_cgroup(level: u8, map: &str) -> Vec<Expr> {
    let set = map.to_owned();
    vec![
        cgroup(level, R0),
        Expr::Lookup {
            set,
            from: R0,
            to: LookupTo::Reg(R0),
            invert: false,
        },
        Expr::MetaSet {
            key: NFT_META_MARK,
            from: R0,
        },
    ]
}

/// Mark it with what its destination maps to, if it does.
pub fn mark_by_destination(family: Family, map: &str) -> Vec<Expr> {
    let mut exprs = destination_in(family, map);
    exprs.pop();
    exprs.extend([
        Expr::Lookup {
            set: map.to_owned(),
            from: R0,
            to: LookupTo::Reg(R0),
            invert: false,
        },
        Expr::MetaSet {
            key: NFT_META_MARK,
            from: R0,
        },
    ]);
    exprs
}

/// Tell of it, unless much was told of its mark lately.
pub fn tell(told: &str, group: u16, prefix: String) -> Vec<Expr> {
    /// An IPv6 header and the ports behind it, with room for a TCP header.
    const HEADERS: u32 = 64;
    vec![
        Expr::Meta {
            key: NFT_META_MARK,
            to: R0,
        },
        Expr::Update {
            set: told.to_owned(),
            key: R0,
            timeout_ms: 0,
            expr: Some(Box::new(Expr::Limit {
                rate: 10,
                unit_s: 60,
                burst: 5,
                bytes: false,
                over: false,
            })),
        },
        Expr::Log {
            group,
            prefix,
            snaplen: HEADERS,
        },
    ]
}

/// Refuse it, being TCP, so that its sender's call fails at once. An ICMP error would reach the
/// sender's socket while `connect` holds it and be kept until the retransmission, a second later
/// (`sock_owned_by_user` in `tcp_v4_err`; 1.02 s measured on 6.18); a reset waits for the call
/// to let go.
pub fn reset() -> Vec<Expr> {
    let mut exprs = protocol(Transport::Tcp.number());
    exprs.extend([Expr::Counter, Expr::Reset]);
    exprs
}

/// Refuse it, telling its sender at once.
pub fn reject() -> Vec<Expr> {
    vec![
        Expr::Counter,
        Expr::Reject {
            code: NFT_REJECT_ICMPX_ADMIN_PROHIBITED,
        },
    ]
}

/// Let it pass our table.
pub fn accept() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Accept)]
}

/// Drop it without a word.
pub fn drop() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Drop)]
}

/// Go back to where this chain was jumped to from.
pub fn back() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Return)]
}

/// Let another chain decide.
pub fn goto(chain: &str) -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Goto(chain.to_owned()))]
}

/// Go through another chain and come back.
pub fn jump(chain: &str) -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Jump(chain.to_owned()))]
}
