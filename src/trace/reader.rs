//! Reads a trace, frame by frame, whatever stands in it.

use super::{
    Event, FORMAT, Frame, Header, LONGEST, LONGEST_FRAME, LONGEST_HEADER, MOST_SERVERS, TraceError,
    VERSION, wire,
};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A trace being read. Memory is bounded by its longest frame and its most servers.
#[derive(Debug)]
pub struct Reader<R> {
    path: PathBuf,
    input: R,
    header: Header,
    /// Bytes read, up to the frame that comes.
    at: u64,
    now: Duration,
    living: BTreeSet<u32>,
    cut_off: bool,
}

impl Reader<BufReader<File>> {
    /// Opens a trace.
    ///
    /// # Errors
    /// It cannot be read, or is no trace.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let file = File::open(path).map_err(|source| io_error(path, source))?;
        Reader::new(path, BufReader::new(file))
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads a trace from anywhere; `path` is for messages.
    ///
    /// # Errors
    /// As for [`Reader::open`].
    pub fn new(path: &Path, mut input: R) -> Result<Self, TraceError> {
        let mut line = Vec::new();
        (&mut input)
            .take(LONGEST_HEADER as u64)
            .read_until(b'\n', &mut line)
            .map_err(|source| io_error(path, source))?;
        let header = header(&line).map_err(|why| TraceError::NotATrace {
            path: path.to_owned(),
            why,
        })?;
        Ok(Reader {
            path: path.to_owned(),
            input,
            header,
            at: line.len() as u64,
            now: Duration::ZERO,
            living: BTreeSet::new(),
            cut_off: false,
        })
    }

    /// The first line.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether the last frame was left out because it is not whole, as after a power cut.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read or is damaged; the next call would not make sense.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, TraceError> {
        let Some((length, prefix)) = self.length()? else {
            return Ok(None);
        };
        if length > LONGEST_FRAME as u64 {
            return Err(self.damaged(format!(
                "a frame of {length} bytes, at most {LONGEST_FRAME}"
            )));
        }
        let mut body = Vec::new();
        let read = (&mut self.input).take(length).read_to_end(&mut body);
        let read = read.map_err(|source| io_error(&self.path, source))?;
        if (read as u64) < length {
            self.cut_off = true;
            return Ok(None);
        }
        let frame = wire::read_frame(&body, self.now).and_then(|frame| self.check(frame));
        let frame = frame.map_err(|why| self.damaged(why))?;
        self.at += prefix + length;
        self.now = frame.at;
        Ok(Some(frame))
    }

    /// The length of the next frame, and of that length itself.
    fn length(&mut self) -> Result<Option<(u64, u64)>, TraceError> {
        let mut prefix = Vec::new();
        for byte in (&mut self.input).take(10).bytes() {
            let byte = byte.map_err(|source| io_error(&self.path, source))?;
            prefix.push(byte);
            if byte & 0x80 == 0 {
                let length = wire::number(&mut prefix.as_slice());
                let length = length.map_err(|why| self.damaged(why))?;
                return Ok(Some((length, prefix.len() as u64)));
            }
        }
        if prefix.len() == 10 {
            return Err(self.damaged("a number is too large".into()));
        }
        self.cut_off = !prefix.is_empty();
        Ok(None)
    }

    /// Holds a frame against what was said before.
    fn check(&mut self, frame: Frame) -> Result<Frame, String> {
        if frame.at > LONGEST {
            return Err("it spans more than ten years".into());
        }
        for event in &frame.events {
            match event {
                Event::Appeared { server, .. } => {
                    if !self.living.insert(*server) {
                        return Err(format!("server {server} appears twice"));
                    }
                    if self.living.len() > MOST_SERVERS {
                        return Err(format!("more than {MOST_SERVERS} servers at once"));
                    }
                }
                Event::Gone { server } => {
                    if !self.living.remove(server) {
                        return Err(format!("server {server} stops and was not there"));
                    }
                }
                Event::Held { server, .. } | Event::Used { server, .. } => {
                    if !self.living.contains(server) {
                        return Err(format!("server {server} is not there"));
                    }
                }
            }
        }
        Ok(frame)
    }

    fn damaged(&self, why: String) -> TraceError {
        TraceError::Damaged {
            path: self.path.clone(),
            at: self.at,
            why,
        }
    }
}

fn header(line: &[u8]) -> Result<Header, String> {
    if line.last() != Some(&b'\n') {
        return Err("its first line does not end".into());
    }
    let header: Header = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if header.format != FORMAT {
        return Err("its first line names another format".into());
    }
    if header.version != VERSION {
        return Err(format!("version {} instead of {VERSION}", header.version));
    }
    Ok(header)
}

fn io_error(path: &Path, source: io::Error) -> TraceError {
    TraceError::Io {
        path: path.to_owned(),
        source,
    }
}
