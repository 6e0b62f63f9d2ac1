//! Messages of libnftnl's objects, and the few calls on a socket that the crate mnl has no words for.

use std::{
    ffi::c_void,
    marker::PhantomData,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
};

use nftnl::MsgType;
use nftnl_sys as sys;

use crate::objects::{Chain, Rule, Set, Table};

/// A kind of message with its object, and which it is to be.
pub enum Body<'a> {
    Table(&'a Table),
    Chain(&'a Chain),
    Rule(&'a Rule),
    Set(&'a Set),
    /// As many of its elements as fit; the rest stays in the iterator.
    Elements(&'a Elements<'a>),
}

/// The elements of a set, some messages' worth.
pub struct Elements<'a> {
    iter: NonNull<sys::nftnl_set_elems_iter>,
    more: std::cell::Cell<bool>,
    _set: PhantomData<&'a Set>,
}

impl<'a> Elements<'a> {
    pub fn of(set: &'a Set) -> Self {
        // SAFETY: the set is alive for as long as this is.
        let iter = unsafe { sys::nftnl_set_elems_iter_create(set.0.as_ptr()) };
        Self {
            iter: NonNull::new(iter).unwrap_or_else(|| std::process::abort()),
            more: std::cell::Cell::new(true),
            _set: PhantomData,
        }
    }

    pub fn more(&self) -> bool {
        self.more.get()
    }
}

impl Drop for Elements<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `of`, and nobody else's.
        unsafe { sys::nftnl_set_elems_iter_destroy(self.iter.as_ptr()) }
    }
}

/// A message's header, and the object in it.
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub family: u8,
    pub body: Body<'a>,
}

// SAFETY: an object is no more than its attributes, each bounded above, or a rule: whoever makes one
// bounds its expressions (`write::EXPRS_MAX`). libnftnl itself bounds lists of elements.
unsafe impl nftnl::NlMsg for Message<'_> {
    unsafe fn write(&self, buf: *mut c_void, seq: u32, _: MsgType) {
        // SAFETY: the caller promises room for the longest message (`nft_nlmsg_maxsize`), and the
        // objects are alive.
        unsafe {
            let header = sys::nftnl_nlmsg_build_hdr(
                buf.cast(),
                self.kind,
                self.family.into(),
                self.flags,
                seq,
            );
            match self.body {
                Body::Table(it) => sys::nftnl_table_nlmsg_build_payload(header, it.0.as_ptr()),
                Body::Chain(it) => sys::nftnl_chain_nlmsg_build_payload(header, it.0.as_ptr()),
                Body::Rule(it) => sys::nftnl_rule_nlmsg_build_payload(header, it.0.as_ptr()),
                Body::Set(it) => sys::nftnl_set_nlmsg_build_payload(header, it.0.as_ptr()),
                Body::Elements(it) => {
                    let left =
                        sys::nftnl_set_elems_nlmsg_build_payload_iter(header, it.iter.as_ptr());
                    it.more.set(left > 0);
                }
            }
        }
    }
}

/// A request of its own, outside a transaction.
pub fn request(message: &Message<'_>, seq: u32) -> Vec<u8> {
    let mut room = vec![0u32; nftnl::nft_nlmsg_maxsize() as usize / 4 + 1];
    // SAFETY: that is room for the longest message, aligned as its header must be; the length that is
    // read is the header's first field.
    unsafe {
        nftnl::NlMsg::write(message, room.as_mut_ptr().cast(), seq, MsgType::Add);
        let length = room[0] as usize;
        std::slice::from_raw_parts(room.as_ptr().cast(), length).to_vec()
    }
}

macro_rules! parsed {
    ($name:ident, $parse:ident) => {
        impl $name {
            /// Read from a message of the kernel's, if libnftnl understands it.
            ///
            /// A message in which an attribute has another length than libnftnl expects ENDS THE
            /// PROCESS ("nf_tables kernel ABI is broken, contact your vendor").
            pub fn parse(message: &[u8]) -> Option<Self> {
                let object = Self::new();
                let header = checked(message)?;
                // SAFETY: the header is aligned, and the message is as long as it says.
                let done = unsafe { sys::$parse(header, object.0.as_ptr()) };
                (done >= 0).then_some(object)
            }
        }
    };
}

parsed!(Table, nftnl_table_nlmsg_parse);
parsed!(Chain, nftnl_chain_nlmsg_parse);
parsed!(Rule, nftnl_rule_nlmsg_parse);
parsed!(Set, nftnl_set_nlmsg_parse);

impl Set {
    /// As [`Set::parse`], for a list of elements.
    pub fn parse_elements(message: &[u8]) -> Option<Self> {
        let set = Self::new();
        let header = checked(message)?;
        // SAFETY: as for `parse`.
        let done = unsafe { sys::nftnl_set_elems_nlmsg_parse(header, set.0.as_ptr()) };
        (done >= 0).then_some(set)
    }
}

/// A message's header if the message is whole and lies as the C library reads it.
fn checked(message: &[u8]) -> Option<*const nix::libc::nlmsghdr> {
    /// `struct nlmsghdr` and `struct nfgenmsg`.
    const LEAST: usize = 16 + 4;
    let length = u32::from_ne_bytes(*message.first_chunk()?) as usize;
    let header = message.as_ptr().cast::<nix::libc::nlmsghdr>();
    (length == message.len() && length >= LEAST && header.is_aligned()).then_some(header)
}

/// A netlink socket's options, which the crate mnl has no words for.
pub fn option(
    socket: &mnl::Socket,
    option: nix::libc::c_int,
    value: nix::libc::c_int,
) -> std::io::Result<()> {
    // SAFETY: the socket is open; the kernel reads the bytes of `value`, which outlives the call.
    let done = unsafe {
        mnl::mnl_sys::mnl_socket_setsockopt(
            socket.as_raw_socket(),
            option,
            (&raw const value).cast_mut().cast(),
            size_of_val(&value) as nix::libc::socklen_t,
        )
    };
    if done < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A socket's descriptor with a lifetime, which mnl gives as a number.
pub fn fd(socket: &mnl::Socket) -> BorrowedFd<'_> {
    // SAFETY: it stays open for as long as the socket is borrowed.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

/// Words as bytes.
pub fn as_bytes(words: &mut [u32]) -> &mut [u8] {
    // SAFETY: any bytes are words and the other way round; the length is the same in bytes.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}
