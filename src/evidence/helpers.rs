//! Threads for what a process can hold up: reading its memory and its files.
//!
//! A page of its memory may be a file's, on a file system that answers late or never: a FUSE mount of
//! the user's own, served by nobody. Whoever reads it through `/proc/PID/mem` waits in the kernel,
//! where not even SIGKILL wakes it (seen on 6.18, in `filemap_fault`), until the mount's server is
//! gone. So such work is given to a helper, which is waited for with patience. One that is late is
//! left at it, and another helps the others; a server that holds one is not helped with again until it
//! lets go, so that nobody holds more than one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

/// Helpers that may be held at once; with these all held nobody is helped with.
const MOST_HELD: usize = 16;

/// What became of a piece of work.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<A> {
    /// It is done.
    Done(A),
    /// It is late, from now on; [`Helpers::released`] has its answer, if there ever is one.
    Late,
    /// It was not begun: earlier work on the same server is still late, or helpers are too few.
    Held,
}

/// Helpers for one kind of work, from a job to an answer.
pub struct Helpers<J, A> {
    work: Arc<dyn Fn(J) -> A + Send + Sync>,
    free: Option<Helper<J, A>>,
    held: BTreeMap<u64, Helper<J, A>>,
}

/// A thread; it ends once nobody gives it work any more.
struct Helper<J, A> {
    give: SyncSender<J>,
    answers: Receiver<A>,
}

impl<J: Send + 'static, A: Send + 'static> Helpers<J, A> {
    /// Helpers that do this work; there is no thread before there is any.
    pub fn new(work: impl Fn(J) -> A + Send + Sync + 'static) -> Self {
        Helpers {
            work: Arc::new(work),
            free: None,
            held: BTreeMap::new(),
        }
    }

    /// Has a job of this server's done, and waits for it so long.
    pub fn give(&mut self, server: u64, job: J, patience: Duration) -> Outcome<A> {
        if self.held.contains_key(&server) || self.held.len() >= MOST_HELD {
            return Outcome::Held;
        }
        let Some(helper) = self.free.take().or_else(|| self.hire()) else {
            return Outcome::Held;
        };
        if helper.give.send(job).is_err() {
            return Outcome::Held;
        }
        match helper.answers.recv_timeout(patience) {
            Ok(answer) => {
                self.free = Some(helper);
                Outcome::Done(answer)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.held.insert(server, helper);
                Outcome::Late
            }
            // It panicked: there is nothing to be had of this job.
            Err(RecvTimeoutError::Disconnected) => Outcome::Held,
        }
    }

    /// Answers that came late, by server.
    pub fn released(&mut self) -> Vec<(u64, A)> {
        let mut answers = Vec::new();
        let mut still = BTreeMap::new();
        for (server, helper) in std::mem::take(&mut self.held) {
            match helper.answers.try_recv() {
                Ok(answer) => {
                    answers.push((server, answer));
                    self.free.get_or_insert(helper);
                }
                Err(TryRecvError::Empty) => drop(still.insert(server, helper)),
                Err(TryRecvError::Disconnected) => {}
            }
        }
        self.held = still;
        answers
    }

    /// Servers that hold one.
    pub fn held(&self) -> impl Iterator<Item = u64> {
        self.held.keys().copied()
    }

    /// Whether so many are held that nobody is helped with.
    pub fn are_all_held(&self) -> bool {
        self.held.len() >= MOST_HELD
    }

    fn hire(&self) -> Option<Helper<J, A>> {
        // Room for one, so that neither side ever waits for the other to be there.
        let (give, jobs) = sync_channel::<J>(1);
        let (answer, answers) = sync_channel(1);
        let work = Arc::clone(&self.work);
        let spawned = std::thread::Builder::new()
            .name("looks-into".into())
            .spawn(move || {
                for job in jobs {
                    if answer.send(work(job)).is_err() {
                        return;
                    }
                }
            });
        spawned.ok().map(|_| Helper { give, answers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(20);

    /// A door that whoever works on an odd number waits at.
    #[derive(Default)]
    struct Door(Mutex<bool>, Condvar);

    impl Door {
        fn pass(&self) {
            let opened = self.0.lock().unwrap();
            drop(self.1.wait_while(opened, |opened| !*opened).unwrap());
        }

        fn open(&self) {
            *self.0.lock().unwrap() = true;
            self.1.notify_all();
        }
    }

    fn helpers() -> (Arc<Door>, Helpers<u64, u64>) {
        let door = Arc::new(Door::default());
        let waits = Arc::clone(&door);
        let helpers = Helpers::new(move |job: u64| {
            if job % 2 == 1 {
                waits.pass();
            }
            10 * job
        });
        (door, helpers)
    }

    #[test]
    fn who_holds_a_helper_is_left_alone_with_it_and_the_others_are_helped() {
        let (door, mut helpers) = helpers();
        assert_eq!(helpers.give(1, 2, LONG), Outcome::Done(20));
        assert_eq!(helpers.give(1, 3, SHORT), Outcome::Late);
        assert_eq!(helpers.give(1, 4, LONG), Outcome::Held);
        assert_eq!(helpers.give(2, 4, LONG), Outcome::Done(40));
        assert_eq!(helpers.held().collect::<Vec<_>>(), [1]);
        assert_eq!(helpers.released(), []);
        door.open();
        let mut released = Vec::new();
        for _ in 0..2000 {
            released = helpers.released();
            if !released.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(released, [(1, 30)]);
        assert_eq!(helpers.give(1, 4, LONG), Outcome::Done(40));
    }

    #[test]
    fn no_more_are_held_than_there_may_be() {
        let (door, mut helpers) = helpers();
        for server in 0..MOST_HELD as u64 {
            assert_eq!(helpers.give(server, 1, SHORT), Outcome::Late);
        }
        assert!(helpers.are_all_held());
        assert_eq!(helpers.give(1000, 2, LONG), Outcome::Held);
        assert_eq!(helpers.held().count(), MOST_HELD);
        door.open();
    }

    #[test]
    fn work_that_panics_is_no_answer_and_the_next_is_done() {
        let mut helpers = Helpers::new(|job: u64| 100_u64.checked_div(job).unwrap());
        assert_eq!(helpers.give(1, 0, LONG), Outcome::Held);
        assert_eq!(helpers.give(1, 5, LONG), Outcome::Done(20));
    }
}
