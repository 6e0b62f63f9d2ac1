//! Makes a table, reads it back and prints it, in a network namespace of its own.

use nft::{Error, Netlink, OwnWrites, encode, readback, ruleset::*, uapi::*};
use nix::sched::{CloneFlags, unshare};

const TABLE: &str = "example";

fn main() -> Result<(), Error> {
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
        eprintln!("cannot make a network namespace: {errno}; run as root");
        std::process::exit(1);
    }
    let verdict = Expr::Verdict(Verdict::Accept);
    let ruleset = Ruleset {
        family: NFPROTO_INET,
        table: TABLE.to_owned(),
        comment: "made by an example".to_owned(),
        chains: vec![Chain {
            name: "input".to_owned(),
            hook: Some(Hook {
                number: NF_INET_LOCAL_IN,
                priority: 0,
            }),
            device: None,
            rules: vec![Rule {
                exprs: vec![Expr::Counter, verdict],
                comment: "all there is".to_owned(),
            }],
        }],
        ..Ruleset::default()
    };
    let mut netlink = Netlink::open()?;
    netlink.transact("make a table", &encode::create(&ruleset)?)?;

    let since = OwnWrites::default().since_now();
    let attempt = "read a table";
    let (generation, found) = readback::read(&mut netlink, attempt, NFPROTO_INET, TABLE, &since)?;
    println!("generation {generation}");
    for chain in found.iter().flat_map(|table| &table.chains) {
        println!("chain {} {:?}", chain.name, chain.hook);
        for rule in &chain.rules {
            println!("    {:?} # {}", rule.exprs, rule.comment);
        }
    }
    Ok(())
}
