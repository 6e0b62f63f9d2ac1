//! What waits: tasks beside the loop, and how they reach what it knows.

use super::Daemon;
use super::process_list::Observer;
use crate::act::Stopper;
use crate::coverage::Surveyor;
use std::future::pending;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};

/// What a task has the loop do.
pub(super) type Turn<C, U> = Box<dyn FnOnce(&mut Daemon<C, U>)>;

/// What tasks have the loop do, in order.
pub(super) type Turns<C, U> = mpsc::UnboundedReceiver<Turn<C, U>>;

/// What a task needs: the powers that wait, and turns in the loop.
pub(super) struct Tasks<C, U> {
    /// The power over CPU.
    pub cpu: Rc<C>,
    /// Who knows units.
    pub units: Rc<U>,
    pub stopper: Rc<Stopper>,
    /// Who looks at processes when people ask.
    pub observer: Rc<Observer>,
    /// What looks at every process of the node; one look at a time.
    pub surveyor: Arc<Mutex<Surveyor>>,
    pub turns: mpsc::UnboundedSender<Turn<C, U>>,
}

impl<C, U> Clone for Tasks<C, U> {
    fn clone(&self) -> Self {
        Tasks {
            cpu: Rc::clone(&self.cpu),
            units: Rc::clone(&self.units),
            stopper: Rc::clone(&self.stopper),
            observer: Rc::clone(&self.observer),
            surveyor: Arc::clone(&self.surveyor),
            turns: self.turns.clone(),
        }
    }
}

impl<C: 'static, U: 'static> Tasks<C, U> {
    /// Begins a task.
    pub fn begin<F: Future<Output = ()> + 'static>(&self, task: impl FnOnce(Self) -> F) {
        tokio::task::spawn_local(task(self.clone()));
    }

    /// Has the loop do something, after what it has to do before.
    pub fn post(&self, turn: impl FnOnce(&mut Daemon<C, U>) + 'static) {
        // Once the loop has ended, nothing is to be done any more.
        let _ = self.turns.send(Box::new(turn));
    }

    /// The same; what came of it. Never returns where the loop has ended.
    pub async fn turn<T: 'static>(&self, turn: impl FnOnce(&mut Daemon<C, U>) -> T + 'static) -> T {
        let (answer, answered) = oneshot::channel();
        self.post(move |daemon| drop(answer.send(turn(daemon))));
        match answered.await {
            Ok(answer) => answer,
            Err(_) => pending().await,
        }
    }
}
