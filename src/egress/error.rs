//! What can go wrong, with the object, the kernel's answer and what to do about it.

use nix::errno::Errno;

use super::{CgroupId, ClassName};

/// An egress operation that failed. A failed transaction has changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A policy no table can be built from.
    #[error("egress policy, {what}: {why}")]
    Policy {
        /// The class, service or set.
        what: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// A server whose class the loaded policy does not have.
    #[error("cgroup {cgroup}: no class {class} in the loaded policy; define it or choose another")]
    UnknownClass {
        /// The server's cgroup.
        cgroup: CgroupId,
        /// The class asked for.
        class: ClassName,
    },
    /// A server at a cgroup level that the table does not look at.
    #[error(
        "cgroup {cgroup}: at level {level} below the root; egress looks at levels 2 and 3 only"
    )]
    Level {
        /// The server's cgroup.
        cgroup: CgroupId,
        /// Its level.
        level: u8,
    },
    /// A server number outside 1..2²³, or another server's.
    #[error("cgroup {cgroup}: number {number} {why}")]
    Number {
        /// The server's cgroup.
        cgroup: CgroupId,
        /// The number.
        number: u32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A user outside the server who cannot be judged so.
    #[error("uid {uid} {why}")]
    Person {
        /// The uid.
        uid: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// A cgroup that was never admitted.
    #[error("cgroup {cgroup}: not admitted, so it has no class to change; admit it first")]
    NotAdmitted {
        /// The cgroup.
        cgroup: CgroupId,
    },
    /// An operation that needs the table before `load`.
    #[error("cannot {attempt}: the egress table is not loaded; call load first")]
    NotLoaded {
        /// What was attempted.
        attempt: &'static str,
    },
    /// The netlink socket itself failed.
    #[error("cannot {attempt}: {errno}; {}", remedy(*errno))]
    Socket {
        /// What was attempted.
        attempt: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel refused a message; the whole transaction was undone.
    #[error("kernel refused to {message}: {errno}{}; {}", more(said), remedy(*errno))]
    Refused {
        /// The first message refused, in words ("add rule 3 of chain output").
        message: String,
        /// The kernel's answer.
        errno: Errno,
        /// The kernel's own words, where it had any.
        said: String,
    },
    /// An NFLOG group that another socket listens to: the kernel gives it to the first.
    #[error("NFLOG group {group} is listened to by another program; set another group for egress")]
    GroupTaken {
        /// The group.
        group: u16,
    },
    /// A netfilter queue that another socket holds.
    #[error("netfilter queue {queue} is held by another program; set another egress.dns_queue")]
    QueueTaken {
        /// The queue.
        queue: u16,
    },
    /// The table belongs to a writer that still runs (`NFT_TABLE_F_OWNER`).
    #[error(
        "the table inet hubwarden belongs to a daemon that still runs; stop it first: \
         systemctl stop hubwarden, or if it hangs: systemctl kill --signal=KILL hubwarden"
    )]
    Owned,
    /// Containers cannot be held: the kernel has no rules for bridges.
    #[error(
        "this kernel has no packet rules for bridges, so containers are not held; \
         a kernel with CONFIG_NF_TABLES_BRIDGE has them: {errno}"
    )]
    NoBridges {
        /// The kernel's answer.
        errno: Errno,
    },
    /// A name, list or rule too long for its netlink attribute (64 KiB).
    #[error("cannot {message}: {length} bytes do not fit a netlink attribute; shorten it")]
    TooLong {
        /// The message, in words.
        message: String,
        /// Its attribute's length, bytes.
        length: usize,
    },
    /// An answer that is not what the kernel's headers describe.
    #[error(
        "cannot {attempt}: the kernel's answer is malformed ({what}); report this with the kernel's version"
    )]
    Malformed {
        /// What was attempted.
        attempt: &'static str,
        /// What is wrong with the answer.
        what: &'static str,
    },
    /// The kernel neither confirmed nor refused; the state is unknown until verified.
    #[error("cannot tell whether {attempt} succeeded: the kernel's answers were lost; load again")]
    NoAnswer {
        /// What was attempted.
        attempt: &'static str,
    },
    /// Others change rules faster than they can be read.
    #[error("cannot {attempt}: the rules changed during each of {tries} readings; try again later")]
    Unsettled {
        /// What was attempted.
        attempt: &'static str,
        /// How many times.
        tries: u32,
    },
    /// This writer changed the table while it was read: what was read is out of date.
    #[error("cannot {attempt}: it was written meanwhile; read it again")]
    Overtaken {
        /// What was attempted.
        attempt: &'static str,
    },
}

impl Error {
    /// An error of the standard library's, which keeps the kernel's answer as a number; 0 for any
    /// other.
    pub(super) fn of_io(attempt: &'static str, error: &std::io::Error) -> Self {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        Self::Socket { attempt, errno }
    }

    /// The kernel's errno, where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Socket { errno, .. } | Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

fn more(said: &str) -> String {
    if said.is_empty() {
        String::new()
    } else {
        format!(" ({said})")
    }
}

fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => "run as root or with CAP_NET_ADMIN",
        Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => {
            "this kernel has no nf_tables; load the module nf_tables"
        }
        Errno::EOPNOTSUPP | Errno::ENOENT => {
            "something it names is gone, or the kernel lacks a module \
             (nft_socket, nft_ct, nft_reject_inet, nft_log, nft_limit, nfnetlink_log; 5.15 or later)"
        }
        Errno::EBUSY => "another program holds it; see what else writes this table",
        Errno::ENOMEM | Errno::ENOBUFS => "the kernel is short of memory; try again",
        _ => "hubwarden check names what this kernel lacks",
    }
}
