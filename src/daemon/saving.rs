//! Writes the state: soon after something changed, once for all who wait, and now and then.

use super::state::StateError;
use super::{Daemon, Tasks};
use std::rc::Rc;
use tokio::sync::oneshot;

/// Waits to hear that the state is on disk.
pub(super) type Saver = oneshot::Sender<Result<(), Rc<StateError>>>;

impl<C: 'static, U: 'static> Tasks<C, U> {
    /// Returns when all that is known now is on disk.
    pub(super) async fn persist(&self) -> Result<(), Rc<StateError>> {
        let wanted = self.turn(|daemon| {
            let (saver, saved) = oneshot::channel();
            daemon.shell.storage.savers.push(saver);
            daemon.due.save = true;
            saved
        });
        // A hang-up means that the daemon ends, and it saves before that.
        wanted.await.await.unwrap_or(Ok(()))
    }
}

impl<C, U> Daemon<C, U> {
    /// Writes the state now and answers those who wait.
    pub(super) fn save(&mut self) {
        self.due.save = false;
        let waiting = std::mem::take(&mut self.shell.storage.savers);
        self.shell.storage.dirty = false;
        let state = self.shell.state();
        let result = self.shell.storage.store.save(&state).map_err(Rc::new);
        if let Err(error) = &result {
            self.shell.state_trouble(error);
        }
        for saver in waiting {
            // Whoever hung up is gone.
            let _ = saver.send(result.clone());
        }
    }
}
