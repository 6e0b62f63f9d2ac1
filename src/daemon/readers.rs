//! Reading users' processes when somebody asks: by a worker for each user, with a bound for all.

use sensors::workers::{Holders, OURSELVES, Owner, Workers, command};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long all users' workers are waited for together.
const PATIENCE: Duration = Duration::from_secs(3);

/// Workers that read processes by number.
pub(crate) struct Readers<A>(Workers<Vec<u32>, A>);

impl<A: Serialize + DeserializeOwned> Readers<A> {
    /// Workers that are this program, for this work.
    pub fn new(holders: &Holders, work: &'static str) -> Readers<A> {
        let program = move || command(OURSELVES.as_ref(), work);
        Readers(Workers::new(holders.clone(), program))
    }

    /// What is read of these users' processes. A user is missing who holds whoever reads them, and
    /// whoever was not served in time.
    pub fn read(&mut self, processes: BTreeMap<Owner, Vec<u32>>) -> BTreeMap<Owner, A> {
        // What came late since the last time answers an earlier question.
        drop(self.0.turn(Instant::now()));
        let until = Instant::now() + PATIENCE;
        let wanted = processes
            .into_iter()
            .filter(|(owner, pids)| self.0.add(owner, pids.clone()))
            .count();
        let mut answers = BTreeMap::new();
        while answers.len() < wanted && Instant::now() < until {
            answers.extend(self.0.turn(until));
            if !self.0.waits() {
                let late = self.0.fds().count();
                if answers.len() + late >= wanted && self.0.held().count() == late {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            } else if self.0.trouble().is_some() {
                break;
            }
        }
        self.0.clear();
        answers
    }

    /// Ends the workers until there is another question.
    pub fn rest(&mut self) {
        self.0.rest();
    }
}
