//! Prints what another socket does to a table, in a network namespace of its own.

use nft::{
    Error, Netlink, encode,
    monitor::{ForeignWrite, Monitor, Watch},
    ruleset::Ruleset,
    uapi::NFPROTO_INET,
};
use nix::sched::{CloneFlags, unshare};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let runtime = tokio::runtime::Builder::new_current_thread();
    Ok({ runtime }.enable_io().build()?.block_on(listen())?)
}

async fn listen() -> Result<(), Error> {
    let (own, mut other) = (Netlink::open()?, Netlink::open()?);
    let mut monitor = Monitor::listen(Watch {
        table: "example",
        families: &[NFPROTO_INET],
        own: own.port()?,
    })?;
    let ruleset = Ruleset {
        family: NFPROTO_INET,
        table: "example".to_owned(),
        ..Ruleset::default()
    };
    other.transact("make a table", &encode::create(&ruleset)?)?;
    match monitor.next().await? {
        ForeignWrite::By(writer, change) => println!("{writer}: {change}"),
        ForeignWrite::Unknown => println!("changes came faster than they were read"),
    }
    Ok(())
}
