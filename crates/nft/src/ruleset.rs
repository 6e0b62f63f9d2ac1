//! A ruleset as plain data: what is sent to the kernel and what is read back are compared in
//! these terms.

use crate::uapi;

/// A table, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// `NFPROTO_INET`, `NFPROTO_BRIDGE` or `NFPROTO_NETDEV`.
    pub family: u8,
    /// The table's name.
    pub table: String,
    /// `NFT_TABLE_F_*`.
    pub flags: u32,
    /// A line for who lists the table.
    pub comment: String,
    /// Its chains.
    pub chains: Vec<Chain>,
    /// Its named sets and maps.
    pub sets: Vec<Set>,
}

/// A chain and its rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name within the table.
    pub name: String,
    /// Where packets enter it; `None` for a chain that only rules lead to.
    pub hook: Option<Hook>,
    /// The interface whose packets those are, in the family `netdev`.
    pub device: Option<String>,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

/// Where a base chain of type `filter` sits. Its policy is always accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `NF_INET_*`, `NF_BR_*` or `NF_NETDEV_*`.
    pub number: u32,
    /// Lower ones see a packet first; filter is 0.
    pub priority: i32,
}

/// Expressions that are evaluated in order until one does not match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The expressions.
    pub exprs: Vec<Expr>,
    /// A line for who lists the table.
    pub comment: String,
}

/// A 32-bit register by its number, 0 to 15; values of more than four bytes take the following
/// ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u8);

/// What a rule does, one step of the kernel's rule machine.
///
/// Field names are those of the kernel's attributes (`enum nft_*_attributes` in
/// `linux/netfilter/nf_tables.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Expr {
    /// Load a fact about the packet (`NFT_META_*`).
    Meta { key: u32, to: Reg },
    /// Change a fact about the packet.
    MetaSet { key: u32, from: Reg },
    /// Load a fact about the packet's flow (`NFT_CT_*`).
    Ct { key: u32, to: Reg },
    /// Change a fact about the packet's flow; nothing where the flow is not tracked. Of labels, what is
    /// not set stays as it is.
    CtSet { key: u32, from: Reg },
    /// Load what the first packet of the packet's flow had before any translation (`NFT_CT_*`, of the
    /// original direction); no match where the flow is not tracked, or of the other family.
    CtOriginal { key: u32, to: Reg },
    /// Load a fact about the packet's socket (`NFT_SOCKET_*`); no match if there is none.
    Socket { key: u32, level: u32, to: Reg },
    /// Load bytes of the packet from an offset in a header (`NFT_PAYLOAD_*`).
    Payload {
        base: u32,
        offset: u32,
        len: u32,
        to: Reg,
    },
    /// Compare a register; no match if it does not hold.
    Cmp { op: Cmp, from: Reg, value: Vec<u8> },
    /// Match a register between two values, both included.
    Range {
        from: Reg,
        low: Vec<u8>,
        high: Vec<u8>,
    },
    /// `to = (from & mask) ^ xor`.
    Bitwise {
        from: Reg,
        to: Reg,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Turn a number of 32 bits in this node's byte order into the network's, in which ranges compare.
    ToNetwork { from: Reg, to: Reg },
    /// Look a register up in a set; no match if absent.
    Lookup {
        set: String,
        from: Reg,
        to: LookupTo,
        invert: bool,
    },
    /// Load a value.
    Immediate { to: Reg, value: Vec<u8> },
    /// Decide.
    Verdict(Verdict),
    /// Add the element keyed by a register, or renew its timeout, and run the element's own
    /// copy of `expr`; no match if that does not.
    Update {
        set: String,
        key: Reg,
        timeout_ms: u64,
        expr: Option<Box<Expr>>,
    },
    /// Add the element keyed by a register, if it is not there; one that is keeps its time.
    Add { set: String, key: Reg },
    /// Remove the element keyed by a register, if it is there.
    Remove { set: String, key: Reg },
    /// Load the kind of the packet's destination address, `RTN_*`, as this node routes it; with
    /// `incoming`, as the interface that it came in by has it.
    Fib { to: Reg, incoming: bool },
    /// Load the name of the interface by which this node's routes lead to the packet's destination, with
    /// NULs up to 16 bytes; nothing but NULs where they lead nowhere, or the address is this node's own.
    FibName { to: Reg },
    /// Match while under this many packets per `unit_s` seconds, or with `bytes` this many bytes;
    /// with `over`, from there on.
    Limit {
        rate: u64,
        unit_s: u64,
        burst: u32,
        bytes: bool,
        over: bool,
    },
    /// Note the packet's flow and match while there are at most this many; with `over`, when there
    /// are more.
    Connections { count: u32, over: bool },
    /// Hand the packet to who holds this queue. Without `bypass`, drop it when nobody does.
    Queue { number: u16, bypass: bool },
    /// The same by the iptables target, for kernels without the expression.
    QueueTarget { number: u16, bypass: bool },
    /// Count packets and bytes. The counts are not compared.
    Counter,
    /// Send the packet by the interface whose index is in a register, as it is.
    Forward { from: Reg },
    /// Tell an NFLOG group of the packet.
    Log {
        group: u16,
        prefix: String,
        snaplen: u32,
    },
    /// Drop the packet and tell its sender so by ICMP or ICMPv6.
    Reject { code: u8 },
    /// Drop the packet, which is TCP, and reset its connection.
    Reset,
    /// Something that is never written here.
    Foreign { name: String, data: Vec<u8> },
}

/// Where a lookup's result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupTo {
    /// Nowhere: the set has only keys.
    Nothing,
    /// The map's value is the verdict.
    Verdict,
    /// The map's value is loaded.
    Reg(Reg),
}

/// A comparison, `NFT_CMP_*`. Values compare as big-endian numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Cmp {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
}

impl Cmp {
    /// All, in the order of the kernel's numbers.
    pub const ALL: [Self; 6] = [
        Self::Eq,
        Self::Neq,
        Self::Lt,
        Self::Lte,
        Self::Gt,
        Self::Gte,
    ];
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verdict {
    Accept,
    Drop,
    Continue,
    Break,
    Return,
    Jump(String),
    Goto(String),
}

/// A named set, or with `data` a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Its name within the table.
    pub name: String,
    /// `NFT_SET_*`; `NFT_SET_MAP` is kept in step with `data`.
    pub flags: u32,
    /// The nft program's number for the key's type; the kernel only keeps it.
    pub key_type: u32,
    /// Bytes of a key.
    pub key_len: u32,
    /// What keys map to.
    pub data: Option<DataType>,
    /// Lengths, bytes, of a concatenated interval key's fields; otherwise empty.
    pub fields: Vec<u32>,
    /// Most elements; 0 for no bound.
    pub size: u32,
    /// How long elements live unless renewed; 0 for ever.
    pub timeout_ms: u64,
    /// Whether each element counts the packets it matched. The counts are not compared.
    pub counted: bool,
    /// Type, length, value for the nft program: byte orders.
    pub userdata: Vec<u8>,
    /// Its elements. Those of a set that packets fill (`NFT_SET_EVAL`) are not compared.
    pub elements: Vec<Element>,
}

impl Set {
    /// Whether packets fill it, not the program that made it.
    pub fn is_dynamic(&self) -> bool {
        self.flags & uapi::NFT_SET_EVAL != 0
    }

    /// Whether its elements end by themselves, each at its time.
    pub fn is_timed(&self) -> bool {
        !self.is_dynamic() && self.flags & uapi::NFT_SET_TIMEOUT != 0
    }
}

/// What a map's keys map to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// Verdicts.
    Verdict,
    /// Values of this many bytes, and the nft program's number for their type.
    Value {
        /// The nft program's type.
        kind: u32,
        /// Bytes.
        len: u32,
    },
}

/// An element of a set or map.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// Its key, or in an interval set the first of a range.
    pub key: Vec<u8>,
    /// The last of a range, in concatenated interval sets.
    pub key_end: Option<Vec<u8>>,
    /// In other interval sets: whether `key` is the first beyond a range.
    pub interval_end: bool,
    /// What the key maps to.
    pub data: Option<Data>,
    /// How long it is still there, ms; 0 for ever, or for as long as its set says. Not compared.
    pub timeout_ms: u64,
    /// A line for who lists the set.
    pub comment: String,
}

/// What a key maps to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// Bytes.
    Value(Vec<u8>),
    /// Go on in a chain.
    Goto(String),
    /// Any other verdict's code.
    Code(i32),
}

impl Element {
    /// A key alone.
    pub fn key(key: Vec<u8>) -> Self {
        Self {
            key,
            ..Self::default()
        }
    }

    /// A key and what it maps to.
    pub fn map(key: Vec<u8>, data: Data) -> Self {
        Self {
            key,
            data: Some(data),
            ..Self::default()
        }
    }
}
