//! Frames as bytes.
//!
//! Whole numbers are LEB128: seven bits a byte, the lowest first, the top bit set on all but the
//! last. A frame is its length in bytes, the milliseconds since the frame before, and its events.
//! An event begins with `server << 2 | kind`, so that a sample of one of the first 2,048 servers
//! takes three or four bytes.

use super::{Event, Frame, LONGEST_NAME};
use std::time::Duration;

const APPEARED: u64 = 0;
const GONE: u64 = 1;
const HELD: u64 = 2;
const USED: u64 = 3;

/// Writes a frame; `since` is the time since the frame before.
pub(super) fn write_frame(events: &[Event], since: Duration, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(4 * events.len() + 4);
    write_number(millis(since), &mut body);
    for event in events {
        write_event(event, &mut body);
    }
    write_number(body.len() as u64, out);
    out.extend_from_slice(&body);
}

fn write_event(event: &Event, out: &mut Vec<u8>) {
    let mut begin = |server: &u32, kind| write_number(u64::from(*server) << 2 | kind, out);
    match event {
        Event::Appeared { server, user } => {
            begin(server, APPEARED);
            let fits = |end: &usize| user.is_char_boundary(*end);
            let end = (0..=LONGEST_NAME.min(user.len())).rev().find(fits);
            let end = end.unwrap_or(0);
            write_number(end as u64, out);
            out.extend_from_slice(&user.as_bytes()[..end]);
        }
        Event::Gone { server } => begin(server, GONE),
        Event::Held { server, held } => {
            begin(server, HELD);
            write_number(u64::from(*held), out);
        }
        Event::Used { server, cpu } => {
            begin(server, USED);
            write_number(millis(*cpu), out);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a frame's body; `before` is the time of the frame before.
pub(super) fn read_frame(mut body: &[u8], before: Duration) -> Result<Frame, String> {
    let since = Duration::from_millis(number(&mut body)?);
    let at = before.checked_add(since).ok_or("its time is too large")?;
    let mut frame = Frame {
        at,
        events: Vec::new(),
    };
    while !body.is_empty() {
        frame.events.push(read_event(&mut body)?);
    }
    Ok(frame)
}

fn read_event(body: &mut &[u8]) -> Result<Event, String> {
    let begin = number(body)?;
    let server = u32::try_from(begin >> 2).map_err(|_| "a server's number is too large")?;
    Ok(match begin & 3 {
        APPEARED => {
            let length = number(body)?;
            let length = usize::try_from(length).ok().filter(|l| *l <= LONGEST_NAME);
            let length = length.ok_or("a name is too long")?;
            let (name, rest) = body.split_at_checked(length).ok_or("a name is cut off")?;
            *body = rest;
            let user = std::str::from_utf8(name).map_err(|_| "a name is not UTF-8")?;
            let user = user.to_owned();
            Event::Appeared { server, user }
        }
        GONE => Event::Gone { server },
        HELD => match number(body)? {
            0 => Event::Held {
                server,
                held: false,
            },
            1 => Event::Held { server, held: true },
            other => return Err(format!("a server is held by {other}, which is not 0 or 1")),
        },
        _ => Event::Used {
            server,
            cpu: Duration::from_millis(number(body)?),
        },
    })
}

/// Takes a number from the front.
pub(super) fn number(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut result = 0u64;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first().ok_or("a number is cut off")?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if place == 9 && part > 1 {
            break;
        }
        result |= part << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(result);
        }
    }
    Err("a number is too large".into())
}
