//! Ending servers, and processes that mine: what the daemon does for an actuator that wants it.

use super::cgroups::Cgroup;
use super::{Shell, Tasks};
use crate::act::{ActError, CpuControl, Stopper};
use crate::hub::api::Api;
use crate::hub::{Listed, Units};
use crate::report::{Kind, Level, LogEntry};
use hubwarden_core::actuator::Failure;
use policy::Stop;
use quantities::{CgroupId, CgroupPath};

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// Kills all of a server's processes.
    pub(super) async fn kill(&self, id: CgroupId) -> Result<(), ActError> {
        let cgroup = self.turn(move |daemon| {
            let guarded = daemon.shell.acting(id);
            guarded.map(|guarded| guarded.cgroup.clone())
        });
        match cgroup.await {
            Some(cgroup) => self.stopper.end_all(&cgroup, id).await,
            None => Ok(()),
        }
    }

    /// Ends the processes of a frozen server that mine, where nothing else of it is to be ended; how many.
    pub(super) async fn end_miners(&self, id: CgroupId) -> Result<usize, ActError> {
        let known = self.turn(move |daemon| {
            let shell = &daemon.shell;
            (shell.places_of(id), shell.mining_processes(id))
        });
        let (places, processes) = known.await;
        let mut count = 0;
        for (cgroup, place) in places {
            match self.stopper.end(&cgroup, place, &processes).await {
                Ok(ended) => count += ended,
                // It ended by itself.
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Has the hub stop a server.
    pub(super) async fn ask_hub_to_stop(&self, id: CgroupId) -> Result<(), Failure> {
        let known = self.turn(move |daemon| {
            let shell = &daemon.shell;
            let server = &shell.acting(id)?.server;
            let listed = Listed {
                user: server.user.clone(),
                server: server.name.clone(),
            };
            Some((listed, shell.config.hub.clone(), shell.root.clone()))
        });
        let Some((listed, hub, root)) = known.await else {
            return Ok(());
        };
        let Some(url) = &hub.api_url else {
            // A reload took it away just now.
            return Err(Failure::Other("hub.api_url is not set any more".to_owned()));
        };
        let api = Api {
            url,
            hub: &hub,
            root: &root,
            units: &*self.units,
        };
        let stopped = api.stop(&listed).await;
        stopped
            .map(drop)
            .map_err(|error| Failure::Other(error.to_string()))
    }
}

impl Shell {
    /// A server's cgroup, and those of what its user runs outside it.
    fn places_of(&self, id: CgroupId) -> Vec<(CgroupPath, CgroupId)> {
        let mut places = Vec::new();
        for (place, entry) in &self.registry.entries {
            if let Cgroup::Server(guarded) = entry
                && self.node.accounts().account_of(*place) == id
            {
                places.push((guarded.cgroup.clone(), *place));
            }
        }
        places
    }

    /// Proves beforehand that what the configuration asks for could be done, and tells if not.
    pub(super) fn try_out(&mut self, stopper: &Stopper) {
        let tried = match self.config.evidence.consequences.stop {
            Stop::Server => stopper.try_out_all(),
            Stop::Processes => stopper.try_out_one(),
        };
        let before = self.limits.cannot_stop.take();
        self.limits.cannot_stop = tried.err();
        if let Some(why) = self
            .limits
            .cannot_stop
            .clone()
            .filter(|_| self.limits.cannot_stop != before)
        {
            let message = format!("What mines could not be ended here: {why}.");
            self.log(LogEntry::new(Kind::Trouble, Level::Warning, message));
        }
    }
}
