//! Counts what is sent to some ports by the counters of a set, in a network namespace of its own.

use std::{error::Error, net::UdpSocket};

use nft::{Netlink, encode, links::Links, readback, ruleset::*, uapi::*};
use nix::sched::{CloneFlags, unshare};

const TABLE: &str = "example";
const SET: &str = "ports";

fn main() -> Result<(), Box<dyn Error>> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let mut links = Links::open()?;
    for link in links.all()? {
        links.set_up(link.index)?;
    }
    let ports = Set {
        name: SET.to_owned(),
        key_type: TYPE_INET_SERVICE,
        key_len: 2,
        counted: true,
        elements: [53u16, 123]
            .map(|port| Element::key(port.to_be_bytes().into()))
            .into(),
        ..Set::default()
    };
    let port = Reg(0);
    let exprs = vec![
        Expr::Payload {
            base: NFT_PAYLOAD_TRANSPORT_HEADER,
            offset: 2,
            len: 2,
            to: port,
        },
        Expr::Lookup {
            set: SET.to_owned(),
            from: port,
            to: LookupTo::Nothing,
            invert: false,
        },
    ];
    let ruleset = Ruleset {
        family: NFPROTO_INET,
        table: TABLE.to_owned(),
        chains: vec![Chain {
            name: "output".to_owned(),
            hook: Some(Hook {
                number: NF_INET_LOCAL_OUT,
                priority: 0,
            }),
            device: None,
            rules: vec![Rule {
                exprs,
                comment: String::new(),
            }],
        }],
        sets: vec![ports],
        ..Ruleset::default()
    };
    let mut netlink = Netlink::open()?;
    netlink.transact("make a table", &encode::create(&ruleset)?)?;

    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for _ in 0..3 {
        socket.send_to(b"hello", "127.0.0.1:123")?;
    }
    for count in readback::counts(&mut netlink, NFPROTO_INET, TABLE, SET)? {
        let port = u16::from_be_bytes(count.key.as_slice().try_into()?);
        println!(
            "port {port}: {} packets, {} bytes",
            count.packets, count.bytes
        );
    }
    Ok(())
}
