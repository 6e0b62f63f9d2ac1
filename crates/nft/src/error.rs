//! What can go wrong, with the object and the kernel's answer.

use nix::errno::Errno;

/// An operation that failed. A failed transaction has changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The netlink socket itself failed.
    #[error("cannot {attempt}: {errno}")]
    Socket {
        /// What was attempted.
        attempt: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel refused a message; the whole transaction was undone.
    #[error("kernel refused to {message}: {errno}{}", more(said))]
    Refused {
        /// The first message refused, in words ("add rule 3 of chain output").
        message: String,
        /// The kernel's answer.
        errno: Errno,
        /// The kernel's own words, where it had any.
        said: String,
    },
    /// An NFLOG group that another socket listens to: the kernel gives it to the first.
    #[error("NFLOG group {group} is listened to by another program")]
    GroupTaken {
        /// The group.
        group: u16,
    },
    /// A netfilter queue that another socket holds.
    #[error("netfilter queue {queue} is held by another program")]
    QueueTaken {
        /// The queue.
        queue: u16,
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
    /// A socket that was handed over and is not what it should be.
    #[error("the socket that was handed over is {what}")]
    Foreign {
        /// What it is.
        what: &'static str,
    },
    /// The kernel neither confirmed nor refused; the state is unknown until it is read.
    #[error("cannot tell whether {attempt} succeeded: the kernel's answers were lost")]
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
    pub(crate) fn of_io(attempt: &'static str, error: &std::io::Error) -> Self {
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
