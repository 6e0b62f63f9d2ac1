//! The bytes of rtnetlink's messages about devices, queues and routes (`linux/rtnetlink.h`,
//! `linux/if_link.h`, `linux/pkt_sched.h`).

use crate::{
    devices::{FqCodel, HtbClass},
    nla::{Attributes, Writer},
};

pub const RTM_NEWLINK: u16 = 16;
pub const RTM_DELLINK: u16 = 17;
pub const RTM_NEWROUTE: u16 = 24;
pub const RTM_GETROUTE: u16 = 26;
pub const RTM_NEWQDISC: u16 = 36;
pub const RTM_NEWTCLASS: u16 = 40;
pub const RTM_DELTCLASS: u16 = 41;
pub const RTM_GETTCLASS: u16 = 42;
/// The parent of an interface's own queue, `TC_H_ROOT`.
pub const ROOT: u32 = u32::MAX;

const AF_INET6: u16 = 10;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
const TCA_FQ_CODEL_TARGET: u16 = 1;
const TCA_FQ_CODEL_INTERVAL: u16 = 3;
const TCA_FQ_CODEL_FLOWS: u16 = 5;
const TC_LINKLAYER_ETHERNET: u8 = 1;
const RTN_UNICAST: u8 = 1;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
/// `struct rtmsg`.
const RTMSG: usize = 12;
/// `struct rtnexthop`.
const RTNEXTHOP: usize = 8;

fn ifinfomsg(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for field in [index, flags, change] {
        body.extend(field.to_ne_bytes());
    }
    body
}

fn with(mut body: Vec<u8>, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    fill(&mut w);
    // Nothing here is longer than a name.
    body.extend(w.finish().unwrap_or_default());
    body
}

fn number(w: &mut Writer, kind: u16, value: u32) {
    w.bytes(kind, &value.to_ne_bytes());
}

/// A pair of devices, each with this MTU and this many packets that may wait in it.
pub fn pair(name: &str, peer: &str, mtu: u32, queue: u32) -> Vec<u8> {
    let own = |w: &mut Writer, name: &str| {
        w.text(IFLA_IFNAME, name);
        number(w, IFLA_MTU, mtu);
        number(w, IFLA_TXQLEN, queue);
        number(w, IFLA_NUM_TX_QUEUES, 1);
    };
    with(ifinfomsg(0, 0, 0), |w| {
        own(w, name);
        w.nest(IFLA_LINKINFO, |w| {
            w.text(IFLA_INFO_KIND, "veth");
            w.nest(IFLA_INFO_DATA, |w| {
                let other = with(ifinfomsg(0, 0, 0), |w| own(w, peer));
                w.bytes(VETH_INFO_PEER, &other);
            });
        });
    })
}

/// A line for who lists it.
pub fn alias(index: u32, text: &str) -> Vec<u8> {
    with(ifinfomsg(index, 0, 0), |w| {
        w.text(IFLA_IFALIAS, text);
    })
}

/// No address of its own, so that it says nothing by itself.
pub fn no_addresses(index: u32) -> Vec<u8> {
    with(ifinfomsg(index, 0, 0), |w| {
        w.nest(IFLA_AF_SPEC, |w| {
            w.nest(AF_INET6, |w| {
                w.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
            });
        });
    })
}

/// Switch it on.
pub fn up(index: u32) -> Vec<u8> {
    ifinfomsg(index, IFF_UP, IFF_UP)
}

/// That device.
pub fn device(index: u32) -> Vec<u8> {
    ifinfomsg(index, 0, 0)
}

fn tcmsg(index: u32, handle: u32, parent: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for field in [index, handle, parent, 0] {
        body.extend(field.to_ne_bytes());
    }
    body
}

/// A device's queue: HTB, where what belongs to no class goes straight through (`struct
/// tc_htb_glob`).
pub fn htb(index: u32, handle: u32) -> Vec<u8> {
    const VERSION: u32 = 3;
    const RATE_TO_QUANTUM: u32 = 10;
    with(tcmsg(index, handle, ROOT), |w| {
        w.text(TCA_KIND, "htb");
        w.nest(TCA_OPTIONS, |w| {
            let glob = [VERSION, RATE_TO_QUANTUM, 0, 0, 0];
            w.bytes(TCA_HTB_INIT, &glob.map(u32::to_ne_bytes).concat());
        });
    })
}

/// A class of that queue, or its new rate (`struct tc_htb_opt`).
pub fn class(index: u32, queue: u32, class: u32, settings: HtbClass) -> Vec<u8> {
    /// Nanoseconds of a tick (`PSCHED_SHIFT`).
    const TICK: u64 = 64;
    let bytes = settings.bytes_per_second.max(1);
    let burst = u64::from(settings.burst);
    let ticks = burst.saturating_mul(1_000_000_000) / bytes / TICK;
    let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
    let spec = {
        let rate = u32::try_from(bytes).unwrap_or(u32::MAX);
        [
            &[0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0][..],
            &rate.to_ne_bytes(),
        ]
        .concat()
    };
    let mut options = [spec.clone(), spec].concat();
    for field in [ticks, ticks, settings.quantum, 0, 0] {
        options.extend(field.to_ne_bytes());
    }
    with(tcmsg(index, class, queue), |w| {
        w.text(TCA_KIND, "htb");
        w.nest(TCA_OPTIONS, |w| {
            w.bytes(TCA_HTB_PARMS, &options);
            if u32::try_from(bytes).is_err() {
                w.bytes(TCA_HTB_RATE64, &bytes.to_ne_bytes());
                w.bytes(TCA_HTB_CEIL64, &bytes.to_ne_bytes());
            }
        });
    })
}

/// A queue within a class, in which flows take turns, and what waits too long is dropped or marked.
pub fn fq_codel(index: u32, class: u32, settings: FqCodel) -> Vec<u8> {
    with(tcmsg(index, 0, class), |w| {
        w.text(TCA_KIND, "fq_codel");
        w.nest(TCA_OPTIONS, |w| {
            number(w, TCA_FQ_CODEL_TARGET, settings.target_us);
            number(w, TCA_FQ_CODEL_INTERVAL, settings.interval_us);
            number(w, TCA_FQ_CODEL_FLOWS, settings.flows);
        });
    })
}

/// That class, or with 0 all of them.
pub fn classes(index: u32, class: u32) -> Vec<u8> {
    tcmsg(index, class, 0)
}

/// The class of an answer.
pub fn class_of(payload: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(payload.get(8..12)?.try_into().ok()?))
}

/// All routes of a family, `AF_*`.
pub fn routes(family: u8) -> Vec<u8> {
    let mut body = vec![0; RTMSG];
    if let Some(first) = body.first_mut() {
        *first = family;
    }
    body
}

/// The interfaces that a default route leads to; none for other routes.
pub fn default_route(payload: &[u8]) -> Vec<u32> {
    let Some(&[_, destination, _, _, _, _, _, kind, ..]) = payload.get(..RTMSG) else {
        return Vec::new();
    };
    if destination != 0 || kind != RTN_UNICAST {
        return Vec::new();
    }
    let attributes = Attributes(payload.get(RTMSG..).unwrap_or_default());
    let index = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?));
    let mut found: Vec<u32> = index(attributes.bytes(RTA_OIF)).into_iter().collect();
    let mut hops = attributes.bytes(RTA_MULTIPATH);
    while let Some(hop) = hops.get(..RTNEXTHOP) {
        found.extend(hop.get(4..).and_then(index));
        let length = hop.get(..2).and_then(|length| length.try_into().ok());
        let length = usize::from(u16::from_ne_bytes(length.unwrap_or_default()));
        hops = hops.get(length.max(RTNEXTHOP)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_default_route_names_its_interfaces_and_another_none() {
        let route = |length: u8, kind: u8, fill: &dyn Fn(&mut Writer)| {
            let mut body = routes(2);
            (body[1], body[7]) = (length, kind);
            default_route(&with(body, |w| fill(w)))
        };
        let one = |w: &mut Writer| number(w, RTA_OIF, 7);
        assert_eq!(route(0, RTN_UNICAST, &one), [7]);
        assert_eq!(route(24, RTN_UNICAST, &one), [0; 0]);
        assert_eq!(route(0, 7, &one), [0; 0], "unreachable");
        let several = |w: &mut Writer| {
            let hop = |index: u8| [&[16, 0, 0, 0, index, 0, 0, 0][..], &[0; 8]].concat();
            w.bytes(RTA_MULTIPATH, &[hop(3), hop(4)].concat());
        };
        assert_eq!(route(0, RTN_UNICAST, &several), [3, 4]);
    }

    #[test]
    fn a_class_beyond_32_bits_says_its_rate_in_64() {
        let options = |bits: u64| {
            let settings = HtbClass {
                bytes_per_second: bits / 8,
                burst: 16 << 10,
                quantum: 60_000,
            };
            let body = class(3, 0x4857_0000, 0x4857_0001, settings);
            let attributes = Attributes(&body[20..]);
            let options = attributes.get(TCA_OPTIONS).unwrap().nested();
            let rate = options.bytes(TCA_HTB_PARMS)[8..12].to_vec();
            (rate, options.bytes(TCA_HTB_RATE64).to_vec())
        };
        let bytes = 2_500_000u32.to_ne_bytes().to_vec();
        assert_eq!(options(20_000_000), (bytes, Vec::new()));
        let wide = 12_500_000_000u64.to_ne_bytes().to_vec();
        assert_eq!(options(100_000_000_000), (vec![0xff; 4], wide));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..100), plain in any::<bool>(),
        ) {
            let mut bytes = bytes;
            if plain && bytes.len() > 8 {
                (bytes[1], bytes[7]) = (0, RTN_UNICAST);
            }
            let _ = (default_route(&bytes), class_of(&bytes));
        }
    }
}
