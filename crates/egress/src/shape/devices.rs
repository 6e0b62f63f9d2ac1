//! The devices of detours and their queues, as the kernel has them.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::{Detour, Device, MAJOR, Queue, Sender};
use crate::{BitsPerSecond, Error, Link, Links};
use nft::devices::{FqCodel, HtbClass};

/// The end with the queue is called so, with its interface's index behind.
const QUEUE: &str = "hwshape";
/// The other end.
const BACK: &str = "hwback";
/// `IFNAMSIZ` without its NUL.
const NAME_MAX: usize = 15;
/// Packets that wait at most where the kernel has no `fq_codel`; a packet may be 64 KiB.
const TXQLEN: u32 = 256;
/// The largest that the kernel gives such a device: packets are cut up behind it, not before.
const MTU: u32 = 65_535;

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
        let indexes: BTreeSet<u32> = self.links.default_routes()?.into_iter().collect();
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
            self.links.set_alias(device.index, &text)?;
            // Where IPv6 is switched off there is nothing to say no to.
            let silent = self.links.set_without_addresses(device.index);
            pass(silent, Errno::EAFNOSUPPORT)?;
            self.links.set_up(device.index)?;
        }
        pass(self.links.add_htb(queue.index, MAJOR), Errno::EEXIST)?;
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
        let made = self.links.add_htb(queue.index, MAJOR);
        self.delete(queue.index)?;
        Ok(made?)
    }

    fn pair(&mut self, name: &str, peer: &str) -> Result<(Device, Device), Error> {
        const ATTEMPT: &str = "make a pair of devices for shaping";
        if name.len().max(peer.len()) > NAME_MAX {
            let errno = Errno::ENAMETOOLONG;
            let attempt = ATTEMPT;
            return Err(nft::Error::Socket { attempt, errno }.into());
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
                self.links.add_veth(name, peer, MTU, TXQLEN)?;
            }
        }
        let (attempt, tries) = (ATTEMPT, 1);
        Err(nft::Error::Unsettled { attempt, tries }.into())
    }

    fn class(&mut self, device: u32, queue: Queue, new: bool) -> Result<(), Error> {
        let class = queue.class();
        let settings = class_of(queue.rate);
        self.links.set_class(device, MAJOR, class, settings)?;
        if new && !self.plain {
            let made = self.links.add_fq_codel(device, class, fair(queue.rate));
            self.plain = made.is_err();
        }
        Ok(())
    }

    fn end_class(&mut self, device: u32, class: u32) -> Result<(), Error> {
        pass(self.links.delete_class(device, class), Errno::ENOENT)
    }

    fn classes(&mut self, device: u32) -> Result<BTreeSet<u32>, Error> {
        let all = self.links.classes(device)?.into_iter();
        // Those of queues further in are not ours to count.
        Ok(all.filter(|class| class & !0xffff == MAJOR).collect())
    }

    fn delete(&mut self, index: u32) -> Result<(), Error> {
        // The other end may have gone first.
        pass(self.links.delete(index), Errno::ENODEV)
    }
}

fn class_of(rate: BitsPerSecond) -> HtbClass {
    /// No more than the kernel finds usual, bytes.
    const QUANTUM: u32 = 60_000;
    const BURST_MIN: u64 = 16 << 10;
    let bytes_per_second = (rate.0 / 8).max(1);
    // 20 ms of it.
    let burst = (bytes_per_second / 50).max(BURST_MIN);
    HtbClass {
        bytes_per_second,
        burst: u32::try_from(burst).unwrap_or(u32::MAX),
        quantum: QUANTUM,
    }
}

/// Within a class flows take turns, and what waits too long is dropped or marked.
fn fair(rate: BitsPerSecond) -> FqCodel {
    /// The usual 1,024 would be much memory for thousands of servers.
    const FLOWS: u32 = 64;
    /// A packet of the kernel's before it is cut up for the wire, bytes.
    const PACKET_MAX: u64 = 65_536;
    let bytes = (rate.0 / 8).max(1);
    // A single packet before it is cut up must be no reason to drop: twice its time at this rate.
    let target = (2 * PACKET_MAX * 1_000_000 / bytes).clamp(5_000, 1_000_000);
    let target_us = u32::try_from(target).unwrap_or(u32::MAX);
    FqCodel {
        target_us,
        interval_us: (target_us * 2).max(100_000),
        flows: FLOWS,
    }
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
fn pass(result: Result<(), nft::Error>, already: Errno) -> Result<(), Error> {
    match result {
        Err(error) if error.errno() == Some(already) => Ok(()),
        other => Ok(other?),
    }
}
