//! A socket of the crate mnl: transactions, and dumps.

use std::{
    io::{self, IoSlice},
    os::fd::AsRawFd,
};

use mnl::{Bus, NlMessages, Socket};
use nft::uapi::*;
use nftnl::FinalizedBatch;
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{MsgFlags, NetlinkAddr, sendmsg, setsockopt, sockopt},
    sys::time::TimeVal,
};

use crate::messages::{self as ffi, Message};

const RECEIVE: usize = 80 << 10;

pub struct Netlink {
    pub socket: Socket,
    seq: u32,
    /// Four bytes each, so that it lies as the C library reads it.
    buffer: Vec<u32>,
}

impl Netlink {
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(Bus::Netfilter)?;
        let fd = ffi::fd(&socket);
        // mnl opens it without: between the two, another thread's child would get it.
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        setsockopt(&fd, sockopt::RcvBufForce, &(4 << 20))?;
        setsockopt(&fd, sockopt::SndBufForce, &(1 << 20))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(5, 0))?;
        ffi::option(&socket, nix::libc::NETLINK_CAP_ACK, 1)?;
        ffi::option(&socket, nix::libc::NETLINK_EXT_ACK, 1)?;
        Ok(Self {
            socket,
            seq: 1 << 30,
            buffer: vec![0; RECEIVE / 4],
        })
    }

    /// All of these messages happen, or none.
    pub fn transact(&mut self, batch: &FinalizedBatch, says: &[String]) -> io::Result<()> {
        let parts: Vec<_> = batch.iter().map(IoSlice::new).collect();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        setsockopt(
            &ffi::fd(&self.socket),
            sockopt::SndBufForce,
            &length.max(1 << 20),
        )?;
        let to = NetlinkAddr::new(0, 0);
        sendmsg(
            self.socket.as_raw_fd(),
            &parts,
            &[],
            MsgFlags::empty(),
            Some(&to),
        )?;
        // The numbers that the crate gives: begin, the messages, end.
        let numbers = batch.sequence_numbers();
        let first = numbers.end - 1 - says.len() as u32;
        let (mut confirmed, mut refused) = (false, None::<(u32, i32, String)>);
        loop {
            match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(messages) => {
                    for message in messages.flatten() {
                        let Some((seq, code, said)) = outcome(message) else {
                            continue;
                        };
                        match code {
                            0 => confirmed |= seq + 1 == numbers.end,
                            _ if refused.as_ref().is_none_or(|(known, ..)| seq < *known) => {
                                refused = Some((seq, code, said));
                            }
                            _ => {}
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
        match refused {
            Some((seq, code, said)) => {
                let what = says.get(seq.wrapping_sub(first) as usize);
                let what = what.map_or("the transaction", String::as_str);
                let errno = io::Error::from_raw_os_error(code);
                Err(io::Error::new(
                    errno.kind(),
                    format!("{what}: {errno} {said}"),
                ))
            }
            None if confirmed => Ok(()),
            None => Err(io::Error::other("no answer")),
        }
    }

    /// Asks, and hands each answer of a kind to `each`; again where it changed meanwhile.
    pub fn ask<T>(
        &mut self,
        request: &Message<'_>,
        kind: u16,
        each: impl Fn(&[u8], &mut Vec<T>),
    ) -> io::Result<Vec<T>> {
        for _ in 0..10 {
            self.seq += 1;
            let (seq, mut found, mut whole) = (self.seq, Vec::new(), true);
            let mut bytes = ffi::request(request, seq);
            let flags = u16::from_ne_bytes([bytes[6], bytes[7]]) | NLM_F_REQUEST | NLM_F_ACK;
            bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
            self.socket.send(&bytes)?;
            'answers: loop {
                for message in self.receive(MsgFlags::empty())? {
                    let message = message?;
                    let (header, flags) =
                        (&message[..16], u16::from_ne_bytes([message[6], message[7]]));
                    if header[8..12] != seq.to_ne_bytes() {
                        continue;
                    }
                    whole &= flags & NLM_F_DUMP_INTR == 0;
                    match u16::from_ne_bytes([message[4], message[5]]) {
                        NLMSG_DONE => break 'answers,
                        NLMSG_ERROR => match outcome(message) {
                            Some((_, 0, _)) => break 'answers,
                            Some((_, code, _)) => return Err(io::Error::from_raw_os_error(code)),
                            None => return Err(io::ErrorKind::InvalidData.into()),
                        },
                        it if it == NFNL_SUBSYS_NFTABLES << 8 | kind => each(message, &mut found),
                        _ => {}
                    }
                }
            }
            if whole {
                return Ok(found);
            }
        }
        Err(io::Error::other("others keep changing it"))
    }

    pub fn receive(&mut self, flags: MsgFlags) -> io::Result<NlMessages<'_>> {
        // mnl's own has no flags: its callers wait, or have the whole socket not wait.
        let buffer = bytes(&mut self.buffer);
        let length =
            nix::sys::socket::recv(self.socket.as_raw_fd(), buffer, flags | MsgFlags::MSG_TRUNC)?;
        match buffer.get(..length) {
            Some(bytes) => Ok(NlMessages::new(bytes)),
            None => Err(io::Error::from_raw_os_error(nix::libc::ENOBUFS)),
        }
    }
}

fn bytes(words: &mut [u32]) -> &mut [u8] {
    ffi::as_bytes(words)
}

/// The number, errno and words of `struct nlmsgerr` and what follows it.
fn outcome(message: &[u8]) -> Option<(u32, i32, String)> {
    if u16::from_ne_bytes([message[4], message[5]]) != NLMSG_ERROR {
        return None;
    }
    let seq = u32::from_ne_bytes(*message.get(8..)?.first_chunk()?);
    let code = i32::from_ne_bytes(*message.get(16..)?.first_chunk()?);
    // With NETLINK_CAP_ACK only the header of what was sent comes back.
    let mut said = message.get(36..).unwrap_or_default();
    let mut words = String::new();
    while let [l0, l1, k0, k1, ..] = *said {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(value) = said.get(4..length) else {
            break;
        };
        if u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK == NLMSGERR_ATTR_MSG {
            words = String::from_utf8_lossy(value)
                .trim_end_matches('\0')
                .to_owned();
        }
        said = said.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((seq, code.checked_neg()?, words))
}
