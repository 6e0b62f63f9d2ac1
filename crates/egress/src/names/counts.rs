//! How many answers there were, by what became of them.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::questions::Sender;
use crate::shared::lock;

/// Senders with something over that wait to be asked for; of more the rest is not told apart.
const SENDERS: usize = 4_096;

/// What each sender has a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scarce {
    /// Addresses that a class reaches by name.
    Addresses,
    /// Questions that wait for their answers, and connections by which they are asked.
    Questions,
}

/// The counts since they were made, which outlive the reader that adds to them.
#[derive(Debug, Default)]
pub struct Counts {
    pub(super) read: AtomicU64,
    pub(super) learned: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unasked: AtomicU64,
    pub(super) forgotten: AtomicU64,
    pub(super) truncated: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) overrun: AtomicU64,
    /// By whom how much was over its share, since it was asked for last.
    over: Mutex<BTreeMap<(Sender, Scarce), u64>>,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers that were read.
    pub read: u64,
    /// Addresses that were written.
    pub learned: u64,
    /// Addresses of allowed names that were not written, since they are in private networks.
    pub closed: u64,
    /// Answers that were turned into "no such name".
    pub refused: u64,
    /// Answers without an open question, dropped before they reached a server of a class with names.
    pub unasked: u64,
    /// Questions that were forgotten before they were answered, since their sender asked too many at
    /// once.
    pub forgotten: u64,
    /// Answers that said of themselves that they are cut; nothing was learned from them.
    pub truncated: u64,
    /// Packets that were no answers, or not understood.
    pub malformed: u64,
    /// Answers whose addresses the kernel did not take.
    pub failed: u64,
    /// Packets that the reader dropped, for one of these reasons or since a part of their stream
    /// was.
    pub dropped: u64,
    /// Packets that the kernel dropped, because more waited to be read than it keeps.
    pub overrun: u64,
}

impl Tally {
    /// Each count with its name for programs.
    pub fn named(&self) -> [(&'static str, u64); 11] {
        [
            ("answers_read", self.read),
            ("addresses_learned", self.learned),
            ("addresses_private", self.closed),
            ("answers_refused", self.refused),
            ("answers_unasked", self.unasked),
            ("questions_forgotten", self.forgotten),
            ("answers_truncated", self.truncated),
            ("answers_malformed", self.malformed),
            ("answers_failed", self.failed),
            ("packets_dropped", self.dropped),
            ("packets_overrun", self.overrun),
        ]
    }
}

impl Counts {
    /// So much of a sender's had to go, or did not come in, since it has its share.
    pub(super) fn over(&self, sender: Sender, what: Scarce, count: usize) {
        let mut over = lock(&self.over);
        if over.len() >= SENDERS && !over.contains_key(&(sender, what)) {
            return;
        }
        let sum = over.entry((sender, what)).or_default();
        *sum = sum.saturating_add(count as u64);
    }

    /// By whom how much was over its share since this was called last.
    pub fn take_over(&self) -> BTreeMap<(Sender, Scarce), u64> {
        std::mem::take(&mut lock(&self.over))
    }

    /// The counts now.
    pub fn tally(&self) -> Tally {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tally {
            read: of(&self.read),
            learned: of(&self.learned),
            closed: of(&self.closed),
            refused: of(&self.refused),
            unasked: of(&self.unasked),
            forgotten: of(&self.forgotten),
            truncated: of(&self.truncated),
            malformed: of(&self.malformed),
            failed: of(&self.failed),
            dropped: of(&self.dropped),
            overrun: of(&self.overrun),
        }
    }
}

/// Adds to one of the counts.
pub fn add(count: &AtomicU64, number: usize) {
    count.fetch_add(number as u64, Ordering::Relaxed);
}

/// The kernel's own count of packets that it could not keep in the queues of one socket.
#[derive(Debug)]
pub struct Overruns {
    file: Option<File>,
    queues: [u16; 3],
    last: u64,
}

impl Overruns {
    /// Of these queues, of the calling thread's network namespace, from now on. Where the kernel
    /// does not show them, there are none.
    pub fn of(queues: [u16; 3]) -> Self {
        /// `nfqnl_seq_ops` of `net/netfilter/nfnetlink_queue.c`.
        const PATH: &str = "/proc/thread-self/net/netfilter/nfnetlink_queue";
        Self {
            file: File::open(PATH).ok(),
            queues,
            last: 0,
        }
    }

    /// Those since this was called last.
    pub fn new_ones(&mut self) -> u64 {
        let mut bytes = [0; 4096];
        let read = self.file.as_ref().map(|file| file.read_at(&mut bytes, 0));
        let Some(Ok(length)) = read else { return 0 };
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default());
        let all = overruns(&text, &self.queues);
        // A queue that is held anew counts from nothing.
        let new = all.checked_sub(self.last).unwrap_or(all);
        self.last = all;
        new
    }
}

/// The packets that were dropped in these queues: for a full queue, and for a full socket.
fn overruns(text: &str, queues: &[u16]) -> u64 {
    let of = |line: &str| {
        let fields: Vec<u64> = line
            .split_ascii_whitespace()
            .map_while(|field| field.parse().ok())
            .collect();
        // Queue, holder, waiting, how and how much is copied, dropped for each reason.
        match *fields.as_slice() {
            [queue, _, _, _, _, full, lost, ..] => {
                let ours = queues.iter().any(|ours| u64::from(*ours) == queue);
                ours.then(|| full.saturating_add(lost))
            }
            _ => None,
        }
    };
    text.lines().filter_map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_that_the_kernel_could_not_keep_are_those_of_our_queues() {
        let text = concat!(
            "    0  31415     7 2 65535    99    99        7  1\n",
            " 4814   1234  4096 2 65535    17     2     4200  1\n",
            " 4815   1234     0 2 65535     0     3       12  1\n",
        );
        assert_eq!(overruns(text, &[4814, 4815]), 22);
        assert_eq!(overruns(text, &[1, 2]), 0);
        assert_eq!(overruns("4814 x\n\n4815 1 2", &[4814, 4815]), 0);
    }

    #[test]
    fn a_count_that_begins_anew_is_all_new() {
        let mut overruns = Overruns::of([1, 2, 3]);
        let file = tempfile::NamedTempFile::new().unwrap();
        for (full, new) in [(5, 5), (5, 0), (9, 4), (2, 2)] {
            std::fs::write(file.path(), format!("1 0 0 2 65535 {full} 0 1 1\n")).unwrap();
            overruns.file = Some(File::open(file.path()).unwrap());
            assert_eq!(overruns.new_ones(), new, "{full}");
        }
        overruns.file = None;
        assert_eq!(overruns.new_ones(), 0);
    }
}
