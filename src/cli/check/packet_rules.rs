//! What this kernel makes of the packet rules.

use super::{Report, Weight};
use crate::config::Config;
use egress::names::Queueing;
use egress::{HOLDER, Kernel};
use std::path::Path;

/// Whether other programs can take the packet rules away. What holds them, where something must, is
/// the daemon's to tell.
pub(super) fn flushes(report: &mut Report) {
    let kernel = Kernel::open().map(|rules| rules.owning().held(Path::new(HOLDER)));
    let (weight, line) = match kernel {
        Ok(rules) if rules.owns() => (
            Weight::Good,
            "packet rules: the kernel keeps other programs from changing or flushing them",
        ),
        Ok(rules) if rules.needs_holder() => (
            Weight::Good,
            "packet rules: the kernel keeps other programs from changing or flushing them while \
             hubwarden-table.service runs, which starts by itself",
        ),
        Ok(_) => (
            Weight::Note,
            "packet rules: this kernel lets any program flush them; they are put back, and \
             everything is open for some tens of milliseconds; 5.12 or later keeps them",
        ),
        Err(_) => return,
    };
    report.add(weight, line);
}

/// Whether classes can reach names.
pub(super) fn names(report: &mut Report, config: &Config, queueing: Queueing) {
    let mut classes = config.egress.classes.values();
    let used = classes.any(|class| !class.names.is_empty());
    let yes = match queueing {
        Queueing::Native => "names: resolvers' answers can be read",
        _ => "names: resolvers' answers can be read, by the iptables target NFQUEUE",
    };
    report.when(
        queueing != Queueing::Missing,
        if used { Weight::Bad } else { Weight::Note },
        yes,
        "names: this kernel queues no packets, so classes with names reach nothing by name; it needs \
         CONFIG_NFT_QUEUE, or CONFIG_NFT_COMPAT with CONFIG_NETFILTER_XT_TARGET_NFQUEUE",
    );
}
