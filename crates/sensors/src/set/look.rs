//! A round: which processes of hot servers are looked into, and what is found in them.

use super::scan_schedule::share;
use super::{Behind, Busy, FINDING_TIME, Found, MOST_THREADS, MOST_TIME, Sensors, Suspect};
use policy::finding::Sensor;
use quantities::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

impl Sensors {
    /// Looks at these suspects once, to be called about once a second; with none, everything
    /// rests.
    pub fn look(&mut self, suspects: &[Suspect], now: Time) -> Vec<Found> {
        let mut found = Vec::new();
        let ids: BTreeSet<u64> = suspects.iter().map(|suspect| suspect.id).collect();
        self.turns.begin(&ids);
        self.windows.retain(&ids);
        let users = self.in_turn(suspects);
        let mut left_out = None;
        let (cpus, busy) = self.find(&users, &mut left_out);
        self.look_into(busy, now);
        if let Some(user) = left_out {
            self.first = user;
        }
        found.extend(self.read(Instant::now() + MOST_TIME, now));
        found.extend(self.into.late(&ids, now));
        self.count(&ids, cpus, now, &mut found);
        found
    }

    /// Suspects by user, in the order of this round.
    fn in_turn<'a>(&self, suspects: &'a [Suspect]) -> Vec<(&'a str, Vec<&'a Suspect>)> {
        let mut users: BTreeMap<&str, Vec<&Suspect>> = BTreeMap::new();
        for suspect in suspects {
            users.entry(&suspect.user).or_default().push(suspect);
        }
        let sooner = users.split_off(self.first.as_str());
        sooner.into_iter().chain(users).collect()
    }

    /// The CPUs that busy processes are on, and the processes, with what each used since it was looked
    /// into: by user, in the same order.
    fn find(
        &mut self,
        users: &[(&str, Vec<&Suspect>)],
        left_out: &mut Option<String>,
    ) -> (Vec<usize>, Vec<Busy>) {
        let mut cpus = Vec::new();
        let mut all = Vec::new();
        let end = Instant::now() + FINDING_TIME;
        for (at, (user, suspects)) in users.iter().enumerate() {
            if at > 0 && Instant::now() >= end {
                left_out.get_or_insert_with(|| (*user).to_owned());
            }
            let until = share(Instant::now(), end, users.len() - at);
            let mut busy = Vec::new();
            // Another server of the same user is first in each round.
            let first = self.turns.round() as usize % suspects.len().max(1);
            let (later, sooner) = suspects.split_at(first);
            for (at, suspect) in sooner.iter().chain(later).enumerate() {
                let until = share(Instant::now(), until, suspects.len() - at);
                let met = self.turns.meet(suspect.id, &suspect.directory, until);
                busy.extend(
                    met.into_iter()
                        .map(|(used, process)| (used, suspect.id, process)),
                );
            }
            busy.sort_unstable_by(|a, b| b.cmp(a));
            for (asked, (_, _, process)) in busy.iter().enumerate() {
                if asked > 0 && Instant::now() >= until {
                    break;
                }
                for cpu in process.running_on(MOST_THREADS) {
                    if !cpus.contains(&cpu) {
                        cpus.push(cpu);
                    }
                }
            }
            all.push(busy);
        }
        (cpus, all)
    }

    /// Has busy processes read, of each user those first that used most since the last time. Each user
    /// has a worker of their own, and the same turn as the others.
    fn look_into(&mut self, users: Vec<Busy>, now: Time) {
        for busy in users {
            for (used, id, process) in busy {
                let owner = self.owner(id);
                if !self.into.is_held(&owner) && self.turns.is_due(id, process, used, now) {
                    let sensors = &self.settings.sensors;
                    self.into.add(&owner, id, process, sensors);
                }
            }
        }
    }

    /// What was read of processes until then.
    pub(super) fn read(&mut self, until: Instant, now: Time) -> Vec<Found> {
        let turns = &mut self.turns;
        self.into
            .turn(until, now, |id, process| turns.unfinished(id, process))
    }

    /// Users of whom not all processes are found as soon as usual, with the server of theirs of which
    /// that is so; of these suspects.
    pub fn behind(&self, suspects: &[Suspect]) -> BTreeMap<String, Behind> {
        let behind = suspects.iter().filter_map(|suspect| {
            let behind = self.turns.behind().get(&suspect.id)?;
            Some((suspect.user.clone(), *behind))
        });
        behind.collect()
    }

    /// What was counted of rounding modes, raw: for the corpus.
    pub fn counted(&mut self) -> Vec<crate::rounding::Counted> {
        match &mut self.rounding {
            Some((rounding, _)) => rounding.counted(),
            None => Vec::new(),
        }
    }

    fn count(&mut self, ids: &BTreeSet<u64>, cpus: Vec<usize>, now: Time, found: &mut Vec<Found>) {
        let Some((rounding, nudge)) = &mut self.rounding else {
            return;
        };
        let nobody = BTreeSet::new();
        let (ids, cpus) = match self.settings.sensors.contains(&Sensor::Rounding) {
            true => (ids, cpus),
            false => (&nobody, Vec::new()),
        };
        nudge.visit(cpus);
        // Refused now is tried again in a second; loading proved that it can be.
        let _ = rounding.watch(ids);
        if ids.is_empty() {
            return;
        }
        let counted = rounding.counted();
        let length = self.settings.window;
        found.extend(self.windows.read(counted, length, now));
    }
}
