//! What servers speak with right now, for whoever may see it.

use super::cgroups::Cgroup;
use super::{Daemon, Shell};
use crate::control::{FlowList, FlowOrder, FlowStatus};
use egress::Flows;
use quantities::CgroupId;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tokio::sync::oneshot;

/// Flows of one server that are told; the largest.
const MOST_FLOWS: usize = 200;
/// Servers whose flows are told at a time.
const MOST_SERVERS: usize = 1_000;
/// Cgroups of one server: its unit's and those below it.
const MOST_CGROUPS: usize = 64;

/// A server and where its packets come from.
struct Place {
    user: String,
    server: String,
    cgroups: BTreeSet<CgroupId>,
    sources: BTreeSet<IpAddr>,
}

impl<C: 'static, U: 'static> Daemon<C, U> {
    /// Lists the flows that were asked for beside the loop: it takes as long as the node has
    /// sockets.
    pub(super) fn flows(
        &self,
        order: &FlowOrder,
        reply: oneshot::Sender<Result<FlowList, String>>,
    ) {
        let places = self.shell.places(order);
        self.tasks.begin(async move |_| {
            let listed = tokio::task::spawn_blocking(move || list(&places)).await;
            let _ = reply.send(listed.unwrap_or_else(|_| Err("hubwarden is about to stop".into())));
        });
    }
}

impl Shell {
    fn places(&self, order: &FlowOrder) -> Vec<Place> {
        let wanted = |user: &str, uid: Option<u32>| {
            (order.user.is_empty() || order.user == user)
                && (order.everybody || uid == Some(order.uid))
        };
        let mut places = Vec::new();
        for entry in self.registry.entries.values() {
            let Cgroup::Server(guarded) = entry else {
                continue;
            };
            let user = guarded.server.user.as_str();
            if !wanted(user, guarded.server.uid) || places.len() >= MOST_SERVERS {
                continue;
            }
            let mut cgroups = BTreeSet::from([guarded.id]);
            let directory = guarded.cgroup.as_str().trim_start_matches('/');
            below(&self.root.join(directory), &mut cgroups);
            places.push(Place {
                user: user.to_owned(),
                server: guarded.server.name.clone(),
                cgroups,
                sources: self.network.containers.addresses(&guarded.cgroup),
            });
        }
        places
    }
}

/// Adds the cgroups below a directory: a socket is of the one it was made in.
fn below(directory: &Path, cgroups: &mut BTreeSet<CgroupId>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if cgroups.len() >= MOST_CGROUPS {
            return;
        }
        if let Ok(metadata) = entry.metadata()
            && metadata.is_dir()
        {
            cgroups.insert(CgroupId(metadata.ino()));
            below(&entry.path(), cgroups);
        }
    }
}

fn list(places: &[Place]) -> Result<FlowList, String> {
    let mut all = FlowList::default();
    for place in places {
        let flows = Flows::of(&place.cgroups, &place.sources, MOST_FLOWS);
        let Flows { flows, more } = flows.map_err(|error| error.to_string())?;
        all.more += more;
        all.flows.extend(flows.into_iter().map(|flow| FlowStatus {
            user: place.user.clone(),
            server: place.server.clone(),
            protocol: match flow.protocol {
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                other => other.to_string(),
            },
            local: flow.local.to_string(),
            remote: flow.remote.to_string(),
            counted: flow.sent.is_some() && flow.received.is_some(),
            sent: flow.sent.unwrap_or(0),
            received: flow.received.unwrap_or(0),
        }));
    }
    Ok(all)
}
