//! What version 0.1.0 kept in the state file: an upgrade takes over what that one changed.

use crate::act::{Owner, Undo};
use crate::hub::{Server, UnitName};
use hubwarden_core::undo::Start;
use policy::Controls;
use quantities::{CgroupId, CgroupPath};
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(default)]
struct State {
    off: bool,
    slice: Option<Slice>,
    #[serde(rename = "cases")]
    servers: Vec<ServerState>,
}

#[derive(Deserialize)]
struct Slice {
    unit: UnitName,
    changed: Option<Changed>,
}

#[derive(Deserialize)]
struct ServerState {
    server: Server,
    cgroup: CgroupPath,
    id: CgroupId,
    changed: Option<Changed>,
}

#[derive(Deserialize)]
struct Changed {
    before: Controls,
    ours: Controls,
}

/// What was changed on units by then, and whether supervision was switched off.
pub(super) fn read(text: &[u8]) -> (Vec<Undo>, bool) {
    let state: State = serde_json::from_slice(text).unwrap_or_default();
    let mut changes = Vec::new();
    for record in state.servers {
        let owner = record.server.owner(&record.cgroup, record.id);
        changes.extend(record.changed.map(|changed| undo(owner, &changed)));
    }
    if let Some(slice) = state.slice {
        let owner = Owner::Systemd(slice.unit, None);
        changes.extend(slice.changed.map(|changed| undo(owner, &changed)));
    }
    (changes, state.off)
}

fn undo(owner: Owner, changed: &Changed) -> Undo {
    let mut undo = Undo::new(owner, Start::default(), changed.before);
    undo.intend(changed.ours);
    undo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_the_switch_of_the_version_before_are_taken_over() {
        let text = br#"{"version":1,"boot_id":"x","off":true,"cases":[{"server":{"user":"alice",
            "name":"","spawner":"systemd","unit":"jupyter-alice.service","uid":1001},
            "cgroup":"jupyter.slice/jupyter-alice.service","id":7,"class":"standard","case":{},
            "changed":{"before":{"quota":1.5},"ours":{"quota":0.25,"period":{"secs":0,"nanos":20000000}}}}],
            "slice":{"unit":"jupyter.slice","changed":{"before":{},"ours":{"quota":3.0}}}}"#;
        let (changes, off) = read(text);
        assert!(off);
        let told: Vec<_> = changes
            .iter()
            .map(|undo| {
                (
                    undo.owner.to_string(),
                    undo.before().quota.map(|cores| cores.0),
                )
            })
            .collect();
        let expected = [
            ("jupyter-alice.service", Some(1.5)),
            ("jupyter.slice", None),
        ];
        assert_eq!(told, expected.map(|(unit, quota)| (unit.to_owned(), quota)));
        assert!(changes.iter().all(Undo::stands));
    }
}
