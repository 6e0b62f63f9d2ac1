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
    UidRule {
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
    /// The kernel's refusal or silence, or a failing socket.
    #[error("{}{}", .0, remedy(.0))]
    Kernel(#[from] nft::Error),
    /// The table belongs to a socket that is still open (`NFT_TABLE_F_OWNER`).
    #[error(
        "the table inet hubwarden belongs to a daemon that still runs, or to what holds it for one; \
         hubwarden off takes it away; by hand: systemctl stop hubwarden hubwarden-table, or if that \
         hangs: systemctl kill --signal=KILL hubwarden hubwarden-table"
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
}

impl Error {
    /// An error of the standard library's, which keeps the kernel's answer as a number; 0 for any
    /// other.
    pub(super) fn of_io(attempt: &'static str, error: &std::io::Error) -> Self {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        nft::Error::Socket { attempt, errno }.into()
    }

    /// The kernel's errno, where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel(error) => error.errno(),
            _ => None,
        }
    }
}

/// What to do about it, where the error itself does not say.
fn remedy(error: &nft::Error) -> String {
    let remedy = match error {
        nft::Error::GroupTaken { .. } => "set another group for egress",
        nft::Error::QueueTaken { .. } => "set another egress.dns_queue",
        nft::Error::NoAnswer { .. } => "load again",
        nft::Error::Socket { errno, .. } | nft::Error::Refused { errno, .. } => by_errno(*errno),
        _ => return String::new(),
    };
    format!("; {remedy}")
}

fn by_errno(errno: Errno) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_kernel_says_what_to_do() {
        let refused = |errno| {
            let (message, said) = ("add set s".to_owned(), "no room".to_owned());
            Error::from(nft::Error::Refused {
                message,
                errno,
                said,
            })
            .to_string()
        };
        assert_eq!(
            refused(Errno::EPERM),
            "kernel refused to add set s: EPERM: Operation not permitted (no room); \
             run as root or with CAP_NET_ADMIN"
        );
        assert!(refused(Errno::EDOM).ends_with("; hubwarden check names what this kernel lacks"));
        assert_eq!(
            Error::from(nft::Error::GroupTaken { group: 5 }).to_string(),
            "NFLOG group 5 is listened to by another program; set another group for egress"
        );
        assert_eq!(
            Error::from(nft::Error::QueueTaken { queue: 7 }).to_string(),
            "netfilter queue 7 is held by another program; set another egress.dns_queue"
        );
    }
}
