//! What is in network namespaces other than the node's.

use egress::{Link, Links};
use hubwarden_core::coverage::Namespace;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How much of `net/dev` is read: about 100 interfaces.
const MOST_BYTES: u64 = 16 * 1024;
/// Interfaces that are kept.
const MOST_DEVICES: usize = 8;

/// Asks the kernel which bridge has a port that leads into a process's namespace (rtnetlink(7)).
#[derive(Debug, Default)]
pub(super) struct Bridges {
    asked: Option<(Links, Vec<Link>)>,
    /// No interface leads anywhere, as in tests.
    #[cfg(test)]
    pub made_up: Option<std::collections::BTreeMap<u32, String>>,
}

impl Bridges {
    /// Forgets the interfaces of an earlier survey.
    pub fn begin(&mut self) {
        self.asked = None;
    }

    /// The bridge's name; none where no port of one leads there, or the kernel cannot be asked.
    fn of(&mut self, pid: u32) -> Option<String> {
        #[cfg(test)]
        if let Some(made_up) = &self.made_up {
            return made_up.get(&pid).cloned();
        }
        if self.asked.is_none() {
            let mut links = Links::open().ok()?;
            let all = links.all().ok()?;
            self.asked = Some((links, all));
        }
        let (links, all) = self.asked.as_mut()?;
        let namespace = links.netns_of(pid).ok()??;
        let leads = |link: &&Link| link.peer == Some(namespace) && link.master.is_some();
        let port = all.iter().find(leads)?;
        let bridge = all.iter().find(|link| Some(link.index) == port.master)?;
        bridge.bridge.then(|| bridge.name.clone())
    }
}

/// The namespace that a process is in.
pub(super) fn namespace(proc: &Path, pid: u32, bridges: &mut Bridges) -> Namespace {
    Namespace {
        devices: devices(&proc.join(pid.to_string())),
        bridge: bridges.of(pid),
    }
}

/// Interfaces but `lo` (proc(5), `net/dev`: a name and a colon in each line after two of headings). The
/// kernel shows those of the process's namespace and asks nothing of the process (fs/proc/proc_net.c).
fn devices(process: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    let file = File::open(process.join("net/dev"));
    let read = file.and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    let names = names
        .map(|(name, _)| name.trim())
        .filter(|name| *name != "lo");
    names.take(MOST_DEVICES).map(str::to_owned).collect()
}
