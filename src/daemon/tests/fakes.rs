//! A systemd that is a map, and packet rules that are a list.

use crate::act::{ActError, CpuControl, KernelControls, Owner, Undo};
use crate::config::Hub;
use crate::http::{Connection, Stranger};
use crate::hub::{Account, UnitFacts, UnitName, Units};
use crate::sd_bus::SdBusError;
use egress::{
    Admitted, Audit, Audited, Bridges, Difference, Error, Firewall, ForeignChange, Policy,
    Tracking, UidRules,
};
use policy::Controls;
use quantities::CgroupId;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// systemd as far as the daemon sees it; survives the daemon.
#[derive(Clone, Default)]
pub struct FakeSystemd(pub Rc<RefCell<Systemd>>);

#[derive(Default)]
pub struct Systemd {
    pub facts: BTreeMap<String, UnitFacts>,
    pub accounts: BTreeMap<u32, Account>,
    /// The user database does not answer.
    pub database_is_away: bool,
    pub settings: BTreeMap<String, Controls>,
    pub broken: BTreeSet<String>,
    pub stopped: Vec<String>,
    /// Slices that are kept while nobody is in them.
    pub started: BTreeSet<String>,
    /// Units that are thawed by and by, whatever becomes of the daemon.
    pub timers: BTreeMap<String, Duration>,
    pub applied: usize,
    /// Where the next changes are cut off; those after them are not.
    pub cuts: VecDeque<Cut>,
    /// Who listens at the hub's address instead of the hub.
    pub stranger: Option<Stranger>,
}

/// Where a change is cut off: by a re-execution of systemd's, say, which loses the reply at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cut {
    No,
    Before,
    Between,
    After,
}

impl Units for FakeSystemd {
    async fn facts(&self, unit: &UnitName) -> Result<UnitFacts, SdBusError> {
        let facts = self.0.borrow().facts.get(unit.as_str()).cloned();
        facts.ok_or_else(|| SdBusError::Gone(unit.clone()))
    }

    async fn account(&self, uid: u32) -> Result<Account, crate::hub::NotNow> {
        if self.0.borrow().database_is_away {
            return Err(crate::hub::NotNow);
        }
        let known = self.0.borrow().accounts.get(&uid).cloned();
        Ok(known.unwrap_or_default())
    }

    async fn start_slice(&self, slice: &UnitName) -> Result<(), SdBusError> {
        self.0.borrow_mut().started.insert(slice.to_string());
        Ok(())
    }

    /// A made-up hub is this process, in whatever cgroup the test runs.
    async fn admit(&self, _: &Connection, _: &Hub, _: &Path) -> Result<(), Stranger> {
        match &self.0.borrow().stranger {
            None => Ok(()),
            Some(stranger) => Err(stranger.clone()),
        }
    }
}

impl CpuControl for FakeSystemd {
    async fn read(&self, owner: &Owner) -> Result<Controls, ActError> {
        let settings = self.0.borrow().settings.get(&owner.to_string()).copied();
        settings.ok_or_else(|| ActError::Gone(owner.clone()))
    }

    async fn apply(
        &self,
        owner: &Owner,
        _from: Option<&Controls>,
        to: &Controls,
    ) -> Result<(), ActError> {
        // As over a real bus, others get their turn meanwhile.
        tokio::task::yield_now().await;
        let mut systemd = self.0.borrow_mut();
        let unit = owner.to_string();
        let cut = systemd.cuts.pop_front().unwrap_or(Cut::No);
        if systemd.broken.contains(&unit) || cut == Cut::Before {
            return Err(ActError::Bus(SdBusError::NoBus(zbus::Error::InvalidReply)));
        }
        systemd.applied += 1;
        let standing = systemd.settings.entry(unit).or_default();
        standing.period = to.period;
        if cut != Cut::Between {
            *standing = *to;
        }
        match cut {
            Cut::No => Ok(()),
            _ => Err(ActError::Bus(SdBusError::NoBus(zbus::Error::InvalidReply))),
        }
    }

    async fn stop(&self, owner: &Owner) -> Result<(), ActError> {
        self.0.borrow_mut().stopped.push(owner.to_string());
        Ok(())
    }

    fn kernel(&self, _: &Owner) -> Result<KernelControls, ActError> {
        Ok(KernelControls::default())
    }

    fn lift(&self, _: &Undo) -> Result<(), ActError> {
        Ok(())
    }

    async fn thaw_after(&self, owner: &Owner, delay: Duration) -> Result<(), ActError> {
        let mut systemd = self.0.borrow_mut();
        systemd.timers.insert(owner.to_string(), delay);
        Ok(())
    }

    async fn thaw_no_more(&self, owner: &Owner) -> Result<(), ActError> {
        self.0.borrow_mut().timers.remove(&owner.to_string());
        Ok(())
    }
}

#[derive(Clone, Default)]
pub struct FakeFirewall(Arc<Mutex<Rules>>);

#[derive(Default)]
pub struct Rules {
    pub loaded: bool,
    pub guarded: Vec<CgroupId>,
    pub admitted: BTreeMap<CgroupId, Admitted>,
    pub generation: u32,
    pub altered: Vec<Difference>,
    pub traffic: Vec<egress::Traffic>,
    pub refused: Vec<egress::Refused>,
    pub attempts: Vec<egress::Attempts>,
    pub sent: Vec<egress::Sent>,
    pub bridges: Bridges,
    pub uid_rules: UidRules,
    pub policy: Option<Policy>,
    pub watched: Option<std::time::Duration>,
    /// Whether connections are tracked.
    pub tracking: Tracking,
    /// What the kernel does not take.
    pub refuses: Refuses,
    /// What the kernel does not take belongs to a holder, which answers from now on.
    pub holder_answers: bool,
    /// What the table lacks while no holder has it.
    pub lack: Option<String>,
}

/// What a kernel does not take.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Refuses {
    #[default]
    Nothing,
    Containers,
    All,
}

impl FakeFirewall {
    pub fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.0.lock().unwrap()
    }
}

impl Firewall for FakeFirewall {
    fn probe(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn load_with_uid_rules(
        &mut self,
        policy: &Policy,
        guarded: &[CgroupId],
        servers: &[Admitted],
        uid_rules: &UidRules,
    ) -> Result<(), Error> {
        let servers_by_cgroup = servers.iter().map(|s| (s.cgroup, s.clone())).collect();
        uid_rules.check(policy, &servers_by_cgroup)?;
        let mut rules = self.rules();
        let refused = match rules.refuses {
            Refuses::Nothing => false,
            Refuses::Containers => !rules.bridges.servers.is_empty(),
            Refuses::All => true,
        };
        if refused {
            return Err(Error::Kernel(nft::Error::Refused {
                message: "add an element".to_owned(),
                errno: nix::errno::Errno::EEXIST,
                said: String::new(),
            }));
        }
        rules.guarded = guarded.to_vec();
        rules.policy = Some(policy.clone());
        rules.uid_rules = uid_rules.clone();
        rules.loaded = true;
        rules.altered.clear();
        rules.admitted = servers.iter().map(|s| (s.cgroup, s.clone())).collect();
        Ok(())
    }

    fn set_uid_rules(&mut self, uid_rules: &UidRules) -> Result<(), Error> {
        let mut rules = self.rules();
        if let Some(policy) = &rules.policy {
            uid_rules.check(policy, &rules.admitted)?;
        }
        rules.uid_rules = uid_rules.clone();
        Ok(())
    }

    fn admit(&mut self, servers: &[Admitted]) -> Result<(), Error> {
        let mut rules = self.rules();
        let new = servers.iter().map(|s| (s.cgroup, s.clone()));
        rules.admitted.extend(new);
        Ok(())
    }

    fn forget(&mut self, cgroups: &[CgroupId]) -> Result<(), Error> {
        let mut rules = self.rules();
        rules.admitted.retain(|id, _| !cgroups.contains(id));
        Ok(())
    }

    fn reclass(&mut self, changes: &[(CgroupId, egress::ClassName)]) -> Result<(), Error> {
        let mut rules = self.rules();
        for (id, class) in changes {
            if let Some(admitted) = rules.admitted.get_mut(id) {
                admitted.class = class.clone();
            }
        }
        Ok(())
    }

    fn traffic(&mut self) -> Result<Vec<egress::Traffic>, Error> {
        Ok(self.rules().traffic.clone())
    }

    fn left_traffic(&mut self, _: &Policy) -> Result<Vec<(egress::Sender, u64)>, Error> {
        let traffic = self.rules().traffic.clone();
        Ok(traffic
            .into_iter()
            .map(|one| (one.sender, one.bytes))
            .collect())
    }

    fn set_guarded(&mut self, guarded: &[CgroupId]) -> Result<(), Error> {
        self.rules().guarded = guarded.to_vec();
        Ok(())
    }

    fn set_bridges(&mut self, bridges: &Bridges) -> Result<(), Error> {
        self.rules().bridges = bridges.clone();
        Ok(())
    }

    fn keep_watch(&mut self, time: std::time::Duration) -> Result<(), Error> {
        self.rules().watched = Some(time);
        Ok(())
    }

    fn remove(&mut self) -> Result<(), Error> {
        let refuses = self.rules().refuses;
        *self.rules() = Rules {
            refuses,
            ..Rules::default()
        };
        Ok(())
    }

    fn standing(&mut self) -> Result<Vec<String>, Error> {
        let loaded = self.rules().loaded;
        Ok(loaded
            .then(|| "table inet hubwarden".to_owned())
            .into_iter()
            .collect())
    }

    fn verify(&mut self) -> Result<Vec<Difference>, Error> {
        Ok(self.rules().altered.clone())
    }

    fn repair(&mut self, _: &ForeignChange) -> Result<bool, Error> {
        let mut rules = self.rules();
        rules.loaded = true;
        Ok(!std::mem::take(&mut rules.altered).is_empty())
    }

    fn audit(&mut self) -> Result<Audit, Error> {
        let rules = self.rules();
        let audited = Audited {
            generation: rules.generation,
            differences: rules.altered.clone(),
        };
        Ok(Box::new(|| Ok(audited)))
    }

    fn sent(&mut self) -> Result<Vec<egress::Sent>, Error> {
        Ok(self.rules().sent.clone())
    }

    fn refused(&mut self) -> Result<Vec<egress::Refused>, Error> {
        Ok(std::mem::take(&mut self.rules().refused))
    }

    fn attempts(
        &mut self,
        _least: usize,
        _since: Duration,
    ) -> Result<Vec<egress::Attempts>, Error> {
        Ok(self.rules().attempts.clone())
    }

    fn lacks(&mut self) -> Option<String> {
        self.rules().lack.clone()
    }

    fn keep_held(&mut self) -> Result<bool, Error> {
        let mut rules = self.rules();
        if !std::mem::take(&mut rules.holder_answers) {
            return Ok(false);
        }
        rules.refuses = Refuses::Nothing;
        rules.lack = None;
        Ok(true)
    }

    fn tracking(&mut self) -> Tracking {
        self.rules().tracking
    }

    fn generation(&mut self) -> Result<u32, Error> {
        Ok(self.rules().generation)
    }
}
