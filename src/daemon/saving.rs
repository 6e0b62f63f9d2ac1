//! Writes the state: soon after something changed, once for all who wait, and now and then.

use super::Daemon;
use super::state::StateError;
use std::rc::Rc;
use tokio::sync::oneshot;

impl<C, U> Daemon<C, U> {
    /// Returns when all that is known now is on disk.
    pub(super) async fn persist(&self) -> Result<(), Rc<StateError>> {
        let (sender, saved) = oneshot::channel();
        self.savers.borrow_mut().push(sender);
        self.save_wanted.notify_one();
        // The saver lives as long as the daemon; a hang-up means that both go down.
        saved.await.unwrap_or(Ok(()))
    }

    /// Writes the state whenever somebody waits for that, once for all who wait.
    pub(super) async fn save_forever(self: Rc<Self>) {
        loop {
            self.save_wanted.notified().await;
            // Whoever is about to ask may join.
            tokio::task::yield_now().await;
            self.save();
        }
    }

    /// Writes the state now and answers those who wait.
    pub(super) fn save(&self) {
        let waiting = std::mem::take(&mut *self.savers.borrow_mut());
        let mut inner = self.inner.borrow_mut();
        inner.dirty = false;
        let state = inner.state();
        drop(inner);
        let result = self.store.save(&state).map_err(Rc::new);
        if let Err(error) = &result {
            self.inner.borrow_mut().state_trouble(error);
        }
        for sender in waiting {
            // Whoever hung up is gone.
            let _ = sender.send(result.clone());
        }
    }
}
