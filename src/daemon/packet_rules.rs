//! The packet rules: what they should be is handed in whole, and brought about here.
//!
//! What stands is remembered, so only what differs is changed. After a failure nothing is taken for
//! granted: the next call loads the whole table. The kernel's generation tells whether another
//! program wrote to any table since; then what stands is compared with what was installed.

mod reads;

use super::desired_network::{DesiredNetwork, Part, is_refused};
use egress::{Admitted, Audit, Audited, Bridges, Error, Firewall, Tracking};
use quantities::{CgroupId, ClassName};
use std::time::Duration;

/// What could not be done, for the journal.
#[derive(Debug)]
pub(super) struct RuleTrouble {
    pub what: &'static str,
    pub error: Error,
}

/// The rules that stand, and who writes them.
pub(super) struct PacketRules {
    firewall: Box<dyn Firewall>,
    /// What was installed; `None` while nothing is known to stand.
    installed: Option<DesiredNetwork>,
    /// Something of ours may stand though it is to be gone.
    to_lift: bool,
    /// The kernel's generation when what stands was known to be as installed.
    generation: Option<u32>,
    /// A comparison runs; whether another is wanted after it.
    auditing: Option<bool>,
    lack: Option<String>,
}

impl PacketRules {
    pub fn new(firewall: Box<dyn Firewall>) -> Self {
        PacketRules {
            firewall,
            installed: None,
            to_lift: false,
            generation: None,
            auditing: None,
            lack: None,
        }
    }

    /// Whether the rules are in force.
    pub fn stand(&self) -> bool {
        self.installed.is_some()
    }

    /// What the configuration asks for and this kernel or node cannot do.
    pub fn lack(&self) -> Option<&str> {
        self.lack.as_deref()
    }

    /// Replaces the whole table. Where the kernel refuses it, parts drop out until it takes the rest.
    pub fn load(&mut self, mut desired: DesiredNetwork) -> Vec<RuleTrouble> {
        let mut troubles = desired.sort_out();
        let mut loaded = false;
        for part in Part::ALL {
            desired.drop_out(part);
            match self.install(&mut desired) {
                Ok(trouble) => {
                    troubles.extend(trouble);
                    loaded = true;
                    break;
                }
                Err(error) => {
                    let refused = is_refused(&error);
                    let what = part.loading();
                    troubles.push(RuleTrouble { what, error });
                    if !refused {
                        break;
                    }
                }
            }
        }
        self.installed = loaded.then_some(desired);
        if loaded {
            self.lack = self.firewall.lacks();
        }
        self.generation = self.firewall.generation().ok();
        troubles
    }

    /// Has the firewall load all of this, and look whether it stands.
    fn install(&mut self, desired: &mut DesiredNetwork) -> Result<Option<RuleTrouble>, Error> {
        let bridged = self.firewall.set_bridges(&desired.bridges);
        let servers: Vec<Admitted> = desired.admitted.values().cloned().collect();
        self.firewall.load_with_uid_rules(
            &desired.policy,
            &desired.slices,
            &servers,
            &desired.uid_rules,
        )?;
        if self.firewall.standing()?.is_empty() {
            let attempt = "find the packet rules that were just loaded";
            return Err(Error::NotLoaded { attempt });
        }
        let trouble = bridged.err().map(|error| RuleTrouble {
            what: "Judging containers by their ports",
            error,
        });
        if trouble.is_some() {
            // So that it is tried again.
            desired.bridges = Bridges::default();
        }
        Ok(trouble)
    }

    /// Changes what differs from what is installed, or loads all where that is not enough.
    pub fn reconcile(&mut self, mut desired: DesiredNetwork) -> Vec<RuleTrouble> {
        match &self.installed {
            Some(installed) if installed.policy == desired.policy => {
                let mut troubles = desired.sort_out();
                troubles.extend(self.change(&desired).err());
                troubles
            }
            _ => self.load(desired),
        }
    }

    /// Admits one sender, changes its class or number, or forgets it.
    pub fn set(&mut self, id: CgroupId, wanted: Option<&Admitted>) -> Result<(), RuleTrouble> {
        let Some(installed) = &self.installed else {
            return Ok(());
        };
        let (what, done) = match (installed.admitted.get(&id), wanted) {
            (before, Some(wanted)) if before == Some(wanted) => return Ok(()),
            (None, None) => return Ok(()),
            (Some(_), None) => ("Forgetting a server", self.firewall.forget(&[id])),
            (before, Some(wanted)) => match before {
                Some(before) if is_reclassed(before, wanted) => (
                    "Changing a server's class",
                    self.firewall.reclass(&[(id, wanted.class.clone())]),
                ),
                _ => (
                    "Admitting a server",
                    self.firewall.admit(std::slice::from_ref(wanted)),
                ),
            },
        };
        self.done(what, done)?;
        if let Some(installed) = &mut self.installed {
            match wanted {
                Some(wanted) => drop(installed.admitted.insert(id, wanted.clone())),
                None => drop(installed.admitted.remove(&id)),
            }
        }
        Ok(())
    }

    fn change(&mut self, desired: &DesiredNetwork) -> Result<(), RuleTrouble> {
        let Some(installed) = &self.installed else {
            return Ok(());
        };
        let gone: Vec<CgroupId> = installed
            .admitted
            .keys()
            .filter(|id| !desired.admitted.contains_key(id))
            .copied()
            .collect();
        let (mut new, mut reclassed) = (Vec::new(), Vec::new());
        for (id, wanted) in &desired.admitted {
            match installed.admitted.get(id) {
                Some(before) if before == wanted => {}
                Some(before) if is_reclassed(before, wanted) => {
                    reclassed.push((*id, wanted.class.clone()));
                }
                _ => new.push(wanted.clone()),
            }
        }
        let slices = installed.slices != desired.slices;
        let bridges = installed.bridges != desired.bridges;
        let uid_rules = installed.uid_rules != desired.uid_rules;
        self.change_servers(&gone, &new, &reclassed)?;
        if let Some(installed) = &mut self.installed {
            installed.admitted.clone_from(&desired.admitted);
        }
        if slices {
            let done = self.firewall.set_guarded(&desired.slices);
            self.done("Guarding the slice", done)?;
        }
        if uid_rules {
            let done = self.firewall.set_uid_rules(&desired.uid_rules);
            self.done("Judging users outside their servers", done)?;
        }
        if bridges {
            let done = self.firewall.set_bridges(&desired.bridges);
            self.note_generation();
            done.map_err(|error| RuleTrouble {
                what: "Judging containers by their ports",
                error,
            })?;
        }
        if let Some(installed) = &mut self.installed {
            installed.slices.clone_from(&desired.slices);
            installed.uid_rules.clone_from(&desired.uid_rules);
            installed.bridges.clone_from(&desired.bridges);
        }
        Ok(())
    }

    fn change_servers(
        &mut self,
        gone: &[CgroupId],
        new: &[Admitted],
        reclassed: &[(CgroupId, ClassName)],
    ) -> Result<(), RuleTrouble> {
        if !gone.is_empty() {
            let done = self.firewall.forget(gone);
            self.done("Forgetting servers", done)?;
        }
        if !new.is_empty() {
            let done = self.firewall.admit(new);
            self.done("Admitting servers", done)?;
        }
        if !reclassed.is_empty() {
            let done = self.firewall.reclass(reclassed);
            self.done("Changing servers' classes", done)?;
        }
        Ok(())
    }

    fn done(&mut self, what: &'static str, done: Result<(), Error>) -> Result<(), RuleTrouble> {
        self.note_generation();
        done.map_err(|error| {
            // What stands is not known any more: the next time all is loaded anew.
            self.installed = None;
            RuleTrouble { what, error }
        })
    }

    /// Takes the rules away; what of them stands then, in words.
    pub fn lift(&mut self) -> Vec<String> {
        self.installed = None;
        self.to_lift = false;
        if let Err(error) = self.firewall.remove() {
            self.to_lift = true;
            return vec![format!("the packet rules could not be removed: {error}")];
        }
        match self.firewall.standing() {
            Ok(standing) => standing,
            Err(error) => vec![format!("the packet rules could not be read: {error}")],
        }
    }

    /// Whether lifting them failed and is to be tried again.
    pub fn are_to_be_lifted(&self) -> bool {
        self.to_lift
    }

    /// Says for how long somebody is there to find out who new containers are.
    pub fn keep_watch(&mut self, time: Duration) -> Result<(), RuleTrouble> {
        if self.installed.is_none() {
            return Ok(());
        }
        let kept = self.firewall.keep_watch(time);
        kept.map_err(|error| RuleTrouble {
            what: "Keeping new containers closed until they are known",
            error,
        })
    }

    /// Has what delays packets follow interfaces and routes.
    pub fn follow_uplinks(&mut self) -> Result<(), RuleTrouble> {
        if self.installed.is_none() {
            return Ok(());
        }
        let followed = self.firewall.follow_uplinks();
        let anew = followed.map_err(|error| RuleTrouble {
            what: "Following the network interfaces",
            error,
        })?;
        if anew {
            self.generation = self.firewall.generation().ok();
            self.lack = self.firewall.lacks();
        }
        Ok(())
    }

    /// Has other programs unable to take the rules away; true if what is lacked changed.
    pub fn keep_held(&mut self) -> Result<bool, RuleTrouble> {
        match self.firewall.keep_held() {
            Ok(false) => return Ok(false),
            Ok(true) => self.generation = self.firewall.generation().ok(),
            Err(error) => {
                self.installed = None;
                return Err(RuleTrouble {
                    what: "Keeping other programs from the packet rules",
                    error,
                });
            }
        }
        let before = std::mem::replace(&mut self.lack, self.firewall.lacks());
        Ok(before != self.lack)
    }

    /// What is known of the kernel's table of connections.
    pub fn tracking(&mut self) -> Tracking {
        self.firewall.tracking()
    }

    /// Whether another program changed any rule since what stands was compared.
    pub fn were_changed(&mut self) -> Result<bool, RuleTrouble> {
        match self.firewall.generation() {
            Ok(generation) => Ok(Some(generation) != self.generation),
            Err(error) => Err(RuleTrouble {
                what: "Asking for the rules' generation",
                error,
            }),
        }
    }

    /// Whether a comparison is under way.
    #[cfg(test)]
    pub fn is_auditing(&self) -> bool {
        self.auditing.is_some()
    }

    /// Begins to compare what stands with what was installed, unless that is under way.
    pub fn begin_audit(&mut self) -> Result<Option<Audit>, RuleTrouble> {
        if self.installed.is_none() {
            return Ok(None);
        }
        if self.auditing.is_some() {
            self.auditing = Some(true);
            return Ok(None);
        }
        let audit = self.firewall.audit().map_err(reading_back)?;
        self.auditing = Some(false);
        Ok(Some(audit))
    }

    /// A comparison ended. Returns the differences that call for the table to be loaded anew, and
    /// whether another comparison is wanted. Of rules that were changed meanwhile it says nothing.
    pub fn end_audit(&mut self, audited: Result<Audited, Error>) -> (Vec<String>, bool) {
        let again = self.auditing.take().unwrap_or(false);
        let now = self.firewall.generation().ok();
        let Ok(audited) = audited else {
            return (Vec::new(), again);
        };
        if self.installed.is_none() || now != Some(audited.generation) {
            return (Vec::new(), again);
        }
        if audited.differences.is_empty() {
            self.generation = now;
        }
        let differences = audited.differences.iter().map(ToString::to_string);
        (differences.collect(), again)
    }

    /// A change of our own raised the generation. By more than that one, another program changed
    /// something at the same time: then it stays to be compared.
    fn note_generation(&mut self) {
        let now = self.firewall.generation().ok();
        let next = |before: u32| before.checked_add(1);
        let ours = [self.generation, self.generation.and_then(next)];
        self.generation = now.filter(|_| ours.contains(&now));
    }
}

pub(super) fn reading_back(error: Error) -> RuleTrouble {
    RuleTrouble {
        what: "Reading the packet rules back",
        error,
    }
}

/// Whether only the class differs.
fn is_reclassed(before: &Admitted, wanted: &Admitted) -> bool {
    (before.cgroup, before.level, before.number) == (wanted.cgroup, wanted.level, wanted.number)
}
