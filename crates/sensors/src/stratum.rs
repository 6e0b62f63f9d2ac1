//! The mining pools' protocol in what servers send (`bpf/stratum.bpf.c`).
//!
//! A program of ours listens on each guarded server's cgroup. It looks at the first two payloads of
//! each connection that the server opened itself, to another host, as long as it has received
//! nothing there, and tells which word of the protocol it found; what else is sent it neither tells
//! nor keeps. Encrypted traffic (stratum over TLS) shows nothing. `tests/evidence/stratum.rs` has
//! two hosts speak.

use super::program::{self, Place, ProgramError};
use aya::Ebpf;
use aya::maps::{HashMap, MapData, RingBuf};
use aya::programs::cgroup_skb::{CgroupSkbAttachType, CgroupSkbLinkId};
use aya::programs::{CgroupAttachMode, CgroupSkb};
use policy::finding::Word;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/stratum.bpf.o"));
const PLACE: Place = Place {
    name: "a cgroup's egress hook",
    hint: "CAP_BPF and CAP_NET_ADMIN are needed, and CONFIG_CGROUP_BPF",
};
/// Messages read in one go; more of the same say no more.
const MOST_AT_ONCE: usize = 256;

/// A word was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The guarded server's cgroup id.
    pub cgroup: u64,
    /// Which.
    pub word: Word,
    /// To this TCP port.
    pub port: u16,
}

impl Heard {
    /// Reads `struct heard`; `None` for what is none.
    fn parse(bytes: &[u8]) -> Option<Heard> {
        let (cgroup, rest) = bytes.split_first_chunk()?;
        let (word, rest) = rest.split_first_chunk()?;
        let port = u32::from_ne_bytes(*rest.first_chunk()?);
        Some(Heard {
            cgroup: u64::from_ne_bytes(*cgroup),
            word: match u32::from_ne_bytes(*word) {
                1 => Word::Subscribe,
                2 => Word::Authorize,
                3 => Word::Login,
                _ => return None,
            },
            port: port.try_into().ok()?,
        })
    }
}

/// The program in the kernel.
pub struct Stratum {
    program: Ebpf,
    guarded: HashMap<MapData, u64, u8>,
    ring: RingBuf<MapData>,
    attached: BTreeMap<u64, CgroupSkbLinkId>,
}

impl Stratum {
    /// Loads the program and has the kernel check it; it listens to nobody yet.
    ///
    /// # Errors
    /// This kernel or our rights do not allow it; the error says which.
    pub fn load() -> Result<Stratum, ProgramError> {
        let mut program = program::load(OBJECT, None)?;
        let refused = |error| PLACE.refused(error);
        listener(&mut program)?.load().map_err(refused)?;
        Ok(Stratum {
            guarded: program::table(&mut program, "guarded")?,
            ring: program::table(&mut program, "words")?,
            program,
            attached: BTreeMap::new(),
        })
    }

    /// Listens to just these servers: cgroup ids and directories.
    ///
    /// # Errors
    /// The kernel refused one; the others are listened to.
    pub fn watch(&mut self, servers: &BTreeMap<u64, PathBuf>) -> Result<(), ProgramError> {
        let listener = listener(&mut self.program)?;
        let gone: Vec<u64> = self
            .attached
            .keys()
            .filter(|id| !servers.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            let _ = self.guarded.remove(&id);
            if let Some(link) = self.attached.remove(&id) {
                // A removed cgroup has let go of it already.
                let _ = listener.detach(link);
            }
        }
        let mut result = Ok(());
        for (id, directory) in servers {
            if self.attached.contains_key(id) {
                continue;
            }
            // Gone, or another one's by now: the daemon will hear of that.
            let Ok(opened) = File::open(directory) else {
                continue;
            };
            if opened.metadata().map_or(0, |file| file.ino()) != *id {
                continue;
            }
            let attached = self
                .guarded
                .insert(id, 1, 0)
                .map_err(ProgramError::from)
                .and_then(|()| {
                    // Beside those of others, systemd's among them: a link never takes a place.
                    listener
                        .attach(
                            &opened,
                            CgroupSkbAttachType::Egress,
                            CgroupAttachMode::Single,
                        )
                        .map_err(|error| PLACE.refused(error))
                });
            match attached {
                Ok(link) => drop(self.attached.insert(*id, link)),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// What was sent since the last time, oldest first.
    pub fn read(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        while heard.len() < MOST_AT_ONCE
            && let Some(bytes) = self.ring.next()
        {
            heard.extend(Heard::parse(&bytes));
        }
        heard
    }
}

impl AsFd for Stratum {
    /// Readable when something was heard.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

fn listener(object: &mut Ebpf) -> Result<&mut CgroupSkb, ProgramError> {
    program::part(object, "stratum", PLACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_another_shape_are_none() {
        assert_eq!(Heard::parse(&[0; 16]), None);
        assert_eq!(Heard::parse(&[1; 7]), None);
        let mut bytes = 9u64.to_ne_bytes().to_vec();
        bytes.extend([3u32, 3333].map(u32::to_ne_bytes).concat());
        let heard = Heard::parse(&bytes).unwrap();
        assert_eq!(
            (heard.cgroup, heard.word, heard.port),
            (9, Word::Login, 3333)
        );
    }
}
