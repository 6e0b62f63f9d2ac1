//! What a process calls itself and is told on its command line.
//!
//! Names are the weakest of signs (a miner is renamed at once, and an honest person greps for
//! one), so a match is only ever suspicious. A miner's name counts where a program's name is: in
//! `comm`, the executable's and the first argument's last part. Pool addresses and options count
//! in any argument. Hot servers' processes are read again and again, so that one that rewrites
//! its arguments later is seen too.

use super::process::{Process, ProcessError};
use aho_corasick::{AhoCorasick, BuildError};

/// Bytes of a command line that are looked at; the kernel's own limit is 2 MB.
const MOST_BYTES: u64 = 128 << 10;

/// Programs' names.
const NAMES: &[&str] = &[
    "xmrig",
    "xmr-stak",
    "monerod",
    "minerd",
    "cpuminer",
    "cpuminer-multi",
    "srbminer",
    "srbminer-multi",
    "nheqminer",
    "ccminer",
    "ethminer",
    "nanominer",
    "lolminer",
    "t-rex",
    "kdevtmpfsi",
    "kinsing",
];
/// Arguments' parts.
const ARGUMENTS: &[&str] = &[
    "stratum+tcp://",
    "stratum+ssl://",
    "stratum+udp://",
    "--donate-level",
    "--randomx-mode",
    "--cryptonight",
    "daemon+http://",
    "supportxmr.com",
    "moneroocean.stream",
    "minexmr.com",
    "nanopool.org",
    "hashvault.pro",
    "2miners.com",
    "nicehash.com",
    "unmineable.com",
];

/// The pattern that these words are.
pub fn pattern(words: &str) -> Option<&'static str> {
    let all = NAMES.iter().chain(ARGUMENTS);
    all.copied().find(|pattern| *pattern == words)
}

/// The search.
#[derive(Debug)]
pub struct Exec {
    names: AhoCorasick,
    arguments: AhoCorasick,
}

impl Exec {
    /// Builds the search once, for many processes.
    ///
    /// # Errors
    /// The patterns are too many, which these are not.
    pub fn new() -> Result<Exec, BuildError> {
        let build = |patterns: &[&str]| {
            AhoCorasick::builder()
                .ascii_case_insensitive(true)
                .match_kind(aho_corasick::MatchKind::LeftmostLongest)
                .build(patterns)
        };
        Ok(Exec {
            names: build(NAMES)?,
            arguments: build(ARGUMENTS)?,
        })
    }

    /// The pattern that a process's name or arguments match. The process can hold up whoever reads its
    /// arguments, so this is for a worker.
    ///
    /// # Errors
    /// It is gone, or closed to us.
    pub fn look(&self, process: &Process) -> Result<Option<&'static str>, ProcessError> {
        let comm = process.read("comm", 64)?;
        let line = process.read("cmdline", MOST_BYTES)?;
        // Deleted or closed to us, it has no name to go by.
        let executable = std::fs::read_link(process.directory().join("exe")).unwrap_or_default();
        let name = executable.file_name().unwrap_or_default();
        let found = self
            .named(&comm)
            .or_else(|| self.named(name.as_encoded_bytes()))
            .or_else(|| self.told(&line));
        Ok(found)
    }

    /// A program that is being started: its file's name as it was called, and its arguments.
    pub fn started(&self, file: &[u8], line: &[u8]) -> Option<&'static str> {
        let name = file.rsplit(|byte| *byte == b'/').next().unwrap_or(file);
        self.named(name).or_else(|| self.told(line))
    }

    /// A command line, its arguments ended by NUL.
    pub fn told(&self, line: &[u8]) -> Option<&'static str> {
        let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = first.rsplit(|byte| *byte == b'/').next().unwrap_or(first);
        self.named(name)
            .or_else(|| find(&self.arguments, ARGUMENTS, line))
    }

    fn named(&self, name: &[u8]) -> Option<&'static str> {
        find(&self.names, NAMES, name)
    }
}

fn find(search: &AhoCorasick, patterns: &[&'static str], text: &[u8]) -> Option<&'static str> {
    search
        .find_iter(text)
        .find(|place| {
            let before = place.start().checked_sub(1).and_then(|at| text.get(at));
            let first = text.get(place.start());
            let last = place.end().checked_sub(1).and_then(|at| text.get(at));
            let after = text.get(place.end());
            !(joins(before) && joins(first) || joins(last) && joins(after))
        })
        .and_then(|place| patterns.get(place.pattern().as_usize()).copied())
}

/// Whether a byte makes one word with its neighbour.
fn joins(byte: Option<&u8>) -> bool {
    byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Option<&'static str> {
        Exec::new()
            .unwrap()
            .told(line.replace(' ', "\0").as_bytes())
    }

    #[test]
    fn a_miner_is_known_by_its_name_and_its_pool() {
        assert_eq!(told("/home/a/xmrig -o x"), Some("xmrig"));
        assert_eq!(told("./XMRig-6.21"), Some("xmrig"));
        assert_eq!(
            told("python x.py --url=stratum+tcp://pool.example:3333"),
            Some("stratum+tcp://")
        );
        assert_eq!(told("./a --donate-level 1"), Some("--donate-level"));
    }

    #[test]
    fn words_about_miners_are_no_miners() {
        for honest in [
            "grep xmrig notes.txt",
            "vim src/xmrig.cpp",
            "/opt/determinerd",
            "./minerdata",
            "python train.py --minerd-like",
            "",
        ] {
            assert_eq!(told(honest), None, "{honest}");
        }
    }

    #[test]
    fn a_huge_or_broken_command_line_is_bounded_and_harmless() {
        let mut line = vec![0xffu8; 128 << 10];
        line.extend(b"\0\x1b[2J\n\0stratum+tcp://x");
        assert_eq!(Exec::new().unwrap().told(&line), Some("stratum+tcp://"));
    }

    proptest::proptest! {
        #[test]
        fn no_command_line_makes_it_panic(line: Vec<u8>) {
            let _ = Exec::new().unwrap().told(&line);
        }
    }
}
