//! The devices of detours and their queues, as the kernel has them.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::{Detour, Device, MAJOR, Queue, Sender, wire};
use crate::egress::{
    Error, Link, Links,
    message::Message,
    nla::Writer,
    uapi::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP},
};

/// The end with the queue is called so, with its interface's index behind.
const QUEUE: &str = "hwshape";
/// The other end.
const BACK: &str = "hwback";
const NLM_F_EXCL: u16 = 0x200;
/// `IFNAMSIZ` without its NUL.
const NAME_MAX: usize = 15;

/// The interfaces that packets leave by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplinks {
    /// Those that can have a detour.
    pub possible: Vec<Device>,
    /// The names of others: they carry no Ethernet.
    pub impossible: Vec<String>,
}

/// Makes and unmakes them, in the network namespace it was opened in.
#[derive(Debug)]
pub struct Devices {
    links: Links,
    /// The kernel has no `fq_codel`: a class's packets wait in one line.
    plain: bool,
}

impl Devices {
    /// Open a socket to the kernel. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        let links = Links::open()?;
        Ok(Self {
            links,
            plain: false,
        })
    }

    /// The interfaces that a default route leads to now, and whether all these detours stand.
    ///
    /// # Errors
    /// [`Error::Socket`], [`Error::Unsettled`].
    pub fn look(&mut self, detours: &[Detour]) -> Result<(Uplinks, bool), Error> {
        let mut indexes: BTreeSet<u32> = BTreeSet::new();
        for family in [nix::libc::AF_INET, nix::libc::AF_INET6] {
            let family = u8::try_from(family).unwrap_or_default();
            let attempt = "list the routes";
            let request = message(
                attempt,
                wire::RTM_GETROUTE,
                NLM_F_DUMP,
                &wire::routes(family),
            )?;
            let netlink = self.links.netlink();
            indexes.extend(netlink.dump(attempt, &request, |found, reply| {
                if reply.kind == wire::RTM_NEWROUTE {
                    found.extend(wire::default_route(reply.payload));
                }
            })?);
        }
        let all = self.links.all()?;
        let mut uplinks = Uplinks::default();
        for link in all.iter().filter(|link| indexes.contains(&link.index)) {
            let name = link.name.clone();
            match link.ethernet && !is_ours(link) {
                true => uplinks.possible.push(device(link.index, name)),
                false => uplinks.impossible.push(name),
            }
        }
        let up = |device: &Device| {
            let mut all = all.iter();
            all.any(|link| (link.index, &link.name, link.up) == (device.index, &device.name, true))
        };
        let stand = detours.iter().all(|detour| {
            let named = |link: &Link| link.name == detour.uplink.name;
            up(&detour.queue) && up(&detour.back) && all.iter().any(named)
        });
        Ok((uplinks, stand))
    }

    /// Makes the detour of an interface, or takes over the one that an earlier daemon left, with
    /// exactly these queues. A queue that is there already keeps what waits in it.
    ///
    /// # Errors
    /// What the kernel refused: [`Error::Refused`]. Half a detour may stand then; see
    /// [`clear`](Self::clear).
    pub fn stand(
        &mut self,
        uplink: &Device,
        queues: &BTreeMap<Sender, Queue>,
    ) -> Result<Detour, Error> {
        let index = uplink.index;
        let (queue, back) = self.pair(&format!("{QUEUE}{index}"), &format!("{BACK}{index}"))?;
        for (device, what) in [(&queue, "queue for"), (&back, "way back to")] {
            let text = format!("hubwarden: {what} {}", uplink.name);
            self.change("describe a device", &wire::alias(device.index, &text))?;
            // Where IPv6 is switched off there is nothing to say no to.
            let silent = wire::no_addresses(device.index);
            pass(
                self.change("keep a device silent", &silent),
                Errno::EAFNOSUPPORT,
            )?;
            self.change("switch a device on", &wire::up(device.index))?;
        }
        let htb = wire::htb(queue.index, MAJOR);
        let made = self.make("make a queue (HTB)", wire::RTM_NEWQDISC, &htb);
        pass(made, Errno::EEXIST)?;
        let detour = Detour {
            uplink: uplink.clone(),
            queue,
            back,
        };
        let there = self.classes(detour.queue.index)?;
        let wanted: BTreeSet<u32> = queues.values().map(|queue| queue.class()).collect();
        for class in there.difference(&wanted) {
            self.end_class(detour.queue.index, *class)?;
        }
        for queue in queues.values() {
            let new = !there.contains(&queue.class());
            self.class(detour.queue.index, *queue, new)?;
        }
        Ok(detour)
    }

    /// Has these detours the queues that are new or changed; those that are gone stay.
    ///
    /// # Errors
    /// What the kernel refused: [`Error::Refused`].
    pub fn add_queues(
        &mut self,
        detours: &[Detour],
        before: &BTreeMap<Sender, Queue>,
        after: &BTreeMap<Sender, Queue>,
    ) -> Result<(), Error> {
        for (number, queue) in after {
            let known = before.get(number);
            if known == Some(queue) {
                continue;
            }
            // Another's may be there under the number that it lost.
            let new = !before.values().any(|known| known.minor == queue.minor);
            for detour in detours {
                self.class(detour.queue.index, *queue, new)?;
            }
        }
        Ok(())
    }

    /// Ends the queues that nobody has any more; what waits in them is lost.
    ///
    /// # Errors
    /// What the kernel refused: [`Error::Refused`].
    pub fn end_queues(
        &mut self,
        detours: &[Detour],
        before: &BTreeMap<Sender, Queue>,
        after: &BTreeMap<Sender, Queue>,
    ) -> Result<(), Error> {
        let kept: BTreeSet<u32> = after.values().map(|queue| queue.class()).collect();
        for class in before.values().map(|queue| queue.class()) {
            if kept.contains(&class) {
                continue;
            }
            for detour in detours {
                self.end_class(detour.queue.index, class)?;
            }
        }
        Ok(())
    }

    /// Takes away all our devices but those of these detours; with them go their queues.
    ///
    /// # Errors
    /// What the kernel refused: [`Error::Refused`].
    pub fn clear(&mut self, keep: &[Detour]) -> Result<(), Error> {
        for link in self.links.all()?.iter().filter(|link| is_ours(link)) {
            let ends = |detour: &Detour| [detour.queue.index, detour.back.index];
            if !keep.iter().any(|detour| ends(detour).contains(&link.index)) {
                self.delete(link.index)?;
            }
        }
        Ok(())
    }

    /// Our devices that are there.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn standing(&mut self) -> Result<Vec<String>, Error> {
        let links = self.links.all()?;
        let ours = links.iter().filter(|link| is_ours(link));
        Ok(ours.map(|link| format!("device {}", link.name)).collect())
    }

    /// Whether the kernel makes such devices and queues: one of each is made and taken away.
    ///
    /// # Errors
    /// What the kernel refused: [`Error::Refused`].
    pub fn probe(&mut self) -> Result<(), Error> {
        let (queue, _) = self.pair(&format!("{QUEUE}0"), &format!("{BACK}0"))?;
        let htb = wire::htb(queue.index, MAJOR);
        let made = self.make("make a queue (HTB)", wire::RTM_NEWQDISC, &htb);
        self.delete(queue.index)?;
        made
    }

    fn pair(&mut self, name: &str, peer: &str) -> Result<(Device, Device), Error> {
        const ATTEMPT: &str = "make a pair of devices for shaping";
        if name.len().max(peer.len()) > NAME_MAX {
            return Err(Error::Socket {
                attempt: ATTEMPT,
                errno: Errno::ENAMETOOLONG,
            });
        }
        for last in [false, true] {
            let all = self.links.all()?;
            let find = |name: &str| all.iter().find(|link| link.name == name);
            match (find(name), find(peer)) {
                (Some(one), Some(other)) => {
                    let one = device(one.index, name.to_owned());
                    return Ok((one, device(other.index, peer.to_owned())));
                }
                // One without the other leads nowhere.
                (Some(single), None) | (None, Some(single)) => self.delete(single.index)?,
                (None, None) => {}
            }
            if !last {
                self.make(ATTEMPT, wire::RTM_NEWLINK, &wire::pair(name, peer))?;
            }
        }
        Err(Error::Unsettled {
            attempt: ATTEMPT,
            tries: 1,
        })
    }

    fn class(&mut self, device: u32, queue: Queue, new: bool) -> Result<(), Error> {
        let body = wire::class(device, MAJOR, queue.class(), queue.rate);
        let attempt = "make a server's queue (HTB)";
        self.order(attempt, wire::RTM_NEWTCLASS, NLM_F_CREATE, &body)?;
        if new && !self.plain {
            let body = wire::fair(device, queue.class(), queue.rate);
            let made = self.make("have flows take turns", wire::RTM_NEWQDISC, &body);
            self.plain = made.is_err();
        }
        Ok(())
    }

    fn end_class(&mut self, device: u32, class: u32) -> Result<(), Error> {
        let body = wire::classes(device, class);
        let ended = self.order("end a server's queue", wire::RTM_DELTCLASS, 0, &body);
        pass(ended, Errno::ENOENT)
    }

    fn classes(&mut self, device: u32) -> Result<BTreeSet<u32>, Error> {
        let attempt = "list the servers' queues";
        let body = wire::classes(device, 0);
        let request = message(attempt, wire::RTM_GETTCLASS, NLM_F_DUMP, &body)?;
        let netlink = self.links.netlink();
        let found = netlink.dump(attempt, &request, |found, reply| {
            if reply.kind == wire::RTM_NEWTCLASS {
                // Those of queues further in are not ours to count.
                let class = wire::class_of(reply.payload);
                found.extend(class.filter(|class| class & !0xffff == MAJOR));
            }
        })?;
        Ok(found.into_iter().collect())
    }

    fn make(&mut self, attempt: &'static str, kind: u16, body: &[u8]) -> Result<(), Error> {
        self.order(attempt, kind, NLM_F_CREATE | NLM_F_EXCL, body)
    }

    fn change(&mut self, attempt: &'static str, body: &[u8]) -> Result<(), Error> {
        self.order(attempt, wire::RTM_NEWLINK, 0, body)
    }

    fn delete(&mut self, index: u32) -> Result<(), Error> {
        let body = wire::device(index);
        // The other end may have gone first.
        let gone = self.order("take a device away", wire::RTM_DELLINK, 0, &body);
        pass(gone, Errno::ENODEV)
    }

    fn order(
        &mut self,
        attempt: &'static str,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<(), Error> {
        let message = message(attempt, kind, flags | NLM_F_ACK, body)?;
        self.links.netlink().order(attempt, &message)
    }
}

fn message(says: &str, kind: u16, flags: u16, body: &[u8]) -> Result<Message, Error> {
    Message::new(kind, flags, says.to_owned(), body, Writer::default())
}

fn device(index: u32, name: String) -> Device {
    Device { index, name }
}

fn is_ours(link: &Link) -> bool {
    let numbered = |prefix| {
        let rest = link.name.strip_prefix(prefix);
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    numbered(QUEUE) || numbered(BACK)
}

/// An error that says it is so already is none.
fn pass(result: Result<(), Error>, already: Errno) -> Result<(), Error> {
    match result {
        Err(error) if error.errno() == Some(already) => Ok(()),
        other => other,
    }
}
