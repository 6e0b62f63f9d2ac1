//! `hubwarden off` and `on`, with a daemon and without one.

use super::answer::{complain, connect, say};
use super::{Failure, runtime};
use crate::act::{ByOwner, CgroupCpu, SystemdCpu};
use crate::control::{Client, ClientError};
use crate::daemon::{Store, lift};
use crate::egress::Nft;
use crate::sd_bus::{SdBus, UnitName};
use std::path::Path;

pub(super) fn off(state: &Path) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let asked = match Client::open().await {
            Ok(client) => client.off().await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(words) => return say(&words),
            Err(ClientError::Refused(words)) => return Err(Failure::new(words)),
            Err(ClientError::NotRunning | ClientError::NoBus(_)) => {}
            // A daemon that hangs is as good as none: lift everything beside it.
            Err(error) => {
                complain(format_args!(
                    "hubwarden: {error}; lifting everything without it"
                ));
                end_hung_daemon(state).await?;
            }
        }
        off_without_daemon(state).await
    })
}

/// While it lives the kernel keeps its table for it alone (6.9). What systemd starts in its place
/// finds supervision switched off.
async fn end_hung_daemon(state: &Path) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(
            "the daemon hangs, and without it only root can switch off; use sudo",
        ));
    }
    let store = Store::new(state).map_err(Failure::new)?;
    let mut book = store.load_any_boot().map_err(Failure::new)?;
    book.off = true;
    store.save(&book).map_err(Failure::new)?;
    let unit = UnitName("hubwarden.service".to_owned());
    let ended = match SdBus::open().await {
        Ok(systemd) => systemd.kill_main(&unit).await,
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        complain(format_args!(
            "hubwarden: the hanging daemon could not be ended: {error}"
        ));
    }
    // The kernel lets go of the table a moment after the process is gone.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    Ok(())
}

async fn off_without_daemon(state: &Path) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(
            "the daemon is not running, and without it only root can switch off; use sudo",
        ));
    }
    let store = Store::new(state).map_err(Failure::new)?;
    let root = crate::cgroup::find_root().map_err(Failure::new)?;
    let systemd = SdBus::open().await.ok();
    let cpu = systemd.map(|systemd| ByOwner::new(SystemdCpu::new(systemd), CgroupCpu::new(&root)));
    let mut firewall = Nft::open().map_err(Failure::new)?;
    let complaints = lift(&store, cpu.as_ref(), &mut firewall).await;
    if complaints.is_empty() {
        return say(
            "hubwarden was switched off (its daemon is not running): no packet rule and no limit \
             of ours is left. `hubwarden on` resumes.",
        );
    }
    Err(Failure::new(complaints.join("\nhubwarden: ")))
}

pub(super) fn on(state: &Path) -> Result<(), Failure> {
    runtime()?.block_on(async {
        match connect().await?.on().await {
            Ok(words) => say(&words),
            Err(ClientError::NotRunning) => {
                let store = Store::new(state).map_err(Failure::new)?;
                let mut book = store.load_any_boot().map_err(Failure::new)?;
                book.off = false;
                store.save(&book).map_err(Failure::new)?;
                say("hubwarden will supervise as soon as it runs: systemctl start hubwarden")
            }
            Err(error) => Err(Failure::new(error)),
        }
    })
}
