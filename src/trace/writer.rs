//! Writes traces, and no more of them than allowed.

use super::{Event, Header, TraceError, wire};
use crate::config::Trace;
use quantities::CgroupId;
use quantities::Time;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Smaller amounts wait until they come together: an idle server costs no bytes most ticks.
const WORTH_WRITING: Duration = Duration::from_millis(10);
/// Of the allowed size, what one file may take: so that the oldest can go without leaving nothing.
const FILES: u64 = 8;
/// Files at most, however small: every start of the daemon begins one.
const MOST_FILES: usize = 1000;

/// What a tick saw of one server.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<'a> {
    /// Its cgroup.
    pub id: CgroupId,
    /// Whose it is.
    pub user: &'a str,
    /// CPU time used since the cgroup was made.
    pub usage: Duration,
    /// Whether it is throttled in fact, so that its use says nothing of what it wants.
    pub held: bool,
}

/// Writes what ticks saw. Everything it fails at it tries again on the next tick, in a new file.
#[derive(Debug)]
pub struct Recorder {
    directory: PathBuf,
    settings: Trace,
    tick: Duration,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    size: u64,
    last: Time,
    next_number: u32,
    servers: BTreeMap<CgroupId, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    number: u32,
    written: Duration,
    held: bool,
    seen: Time,
}

impl Recorder {
    /// Writes into a directory, which is made when there is something to write.
    pub fn new(directory: PathBuf, settings: Trace, tick: Duration) -> Recorder {
        Recorder {
            directory,
            settings,
            tick,
            open: None,
        }
    }

    /// Goes by another configuration; a changed one begins a new file.
    pub fn configure(&mut self, settings: Trace, tick: Duration) {
        if settings != self.settings || tick != self.tick {
            self.settings = settings;
            self.tick = tick;
            self.open = None;
        }
    }

    /// Whether there is anything to write.
    pub fn wanted(&self) -> bool {
        self.settings.enabled
    }

    /// Writes what was seen now; servers that are not mentioned are gone.
    ///
    /// # Errors
    /// The directory or file cannot be written.
    pub fn write(&mut self, now: Time, seen: &[Sighting<'_>]) -> Result<(), TraceError> {
        let most = self.settings.max_size.0 / FILES;
        if let Some(open) = &mut self.open {
            let bytes = open.frame(now, seen, self.settings.user_names);
            if open.size + bytes.len() as u64 <= most {
                return self.append(&bytes);
            }
        }
        // In a new file everybody is mentioned anew.
        let open = self
            .open
            .insert(begin(&self.directory, &self.settings, self.tick, now)?);
        let bytes = open.frame(now, seen, self.settings.user_names);
        self.append(&bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), TraceError> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        if let Err(source) = open.file.write_all(bytes) {
            let path = open.path;
            return Err(TraceError::Io { path, source });
        }
        open.size += bytes.len() as u64;
        self.open = Some(open);
        Ok(())
    }
}

/// Begins a file, and makes room for it first.
fn begin(
    directory: &Path,
    settings: &Trace,
    tick: Duration,
    now: Time,
) -> Result<Open, TraceError> {
    let io = |source| TraceError::Io {
        path: directory.to_owned(),
        source,
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(directory).map_err(io)?;
    prune(directory, settings.max_size.0).map_err(io)?;
    let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let started = since_1970.as_secs();
    let header = Header::new(started, tick, settings.user_names);
    let (path, mut file) = create(directory, started).map_err(io)?;
    let mut line = serde_json::to_vec(&header).map_err(|error| io(error.into()))?;
    line.push(b'\n');
    if let Err(source) = file.write_all(&line) {
        // A full disk must not fill up with names as well, one a tick.
        let _ = std::fs::remove_file(&path);
        return Err(TraceError::Io { path, source });
    }
    Ok(Open {
        path,
        file,
        size: line.len() as u64,
        last: now,
        next_number: 0,
        servers: BTreeMap::new(),
    })
}

/// A name of its own: a second file of the same second gets a number behind.
fn create(directory: &Path, started: u64) -> io::Result<(PathBuf, File)> {
    for again in 0..100 {
        let path = directory.join(format!("{started:012}-{again:02}.trace"));
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        match options.open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Removes the oldest files until there is room for another one.
fn prune(directory: &Path, most: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if is_ours(&entry.file_name().to_string_lossy()) && entry.file_type()?.is_file() {
            files.push((entry.path(), entry.metadata()?.len()));
        }
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, size)| size).sum();
    let mut count = files.len();
    for (path, size) in files {
        if total <= most - most / FILES && count < MOST_FILES {
            break;
        }
        count -= 1;
        std::fs::remove_file(path)?;
        total -= size;
    }
    Ok(())
}

/// What is not named as we name is somebody else's, and not removed.
fn is_ours(name: &str) -> bool {
    let stem = name.strip_suffix(".trace").unwrap_or_default();
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    stem.split_once('-')
        .is_some_and(|(started, again)| digits(started, 12) && digits(again, 2))
}

impl Open {
    /// What is to be written of this tick.
    fn frame(&mut self, now: Time, seen: &[Sighting<'_>], user_names: bool) -> Vec<u8> {
        let events = self.events(now, seen, user_names);
        let since = now.since(self.last);
        let mut bytes = Vec::new();
        wire::write_frame(&events, since, &mut bytes);
        // Whole milliseconds are written, and the rest counts towards the next frame.
        self.last.0 += Duration::from_millis(since.as_millis() as u64);
        bytes
    }

    fn events(&mut self, now: Time, seen: &[Sighting<'_>], user_names: bool) -> Vec<Event> {
        let mut events = Vec::new();
        for sighting in seen {
            let known = self.servers.entry(sighting.id).or_insert_with(|| {
                let server = self.next_number;
                self.next_number = self.next_number.saturating_add(1);
                let user = if user_names { sighting.user } else { "" };
                let user = user.to_owned();
                events.push(Event::Appeared { server, user });
                Known {
                    number: server,
                    written: sighting.usage,
                    held: false,
                    seen: now,
                }
            });
            known.seen = now;
            note(known, sighting, &mut events);
        }
        self.servers.retain(|_, known| {
            let here = known.seen == now;
            if !here {
                let server = known.number;
                events.push(Event::Gone { server });
            }
            here
        });
        events
    }
}

fn note(known: &mut Known, sighting: &Sighting<'_>, events: &mut Vec<Event>) {
    let server = known.number;
    // A counter that went backwards began anew.
    let new = sighting.usage.checked_sub(known.written);
    let new = new.unwrap_or_else(|| {
        known.written = Duration::ZERO;
        sighting.usage
    });
    if new >= WORTH_WRITING {
        let cpu = Duration::from_millis(new.as_millis() as u64);
        events.push(Event::Used { server, cpu });
        known.written += cpu;
    }
    if sighting.held != known.held {
        known.held = sighting.held;
        let held = known.held;
        events.push(Event::Held { server, held });
    }
}

/// Where traces are, below the daemon's state.
pub fn directory(state: &Path) -> PathBuf {
    state.join("traces")
}
