//! What is new in a survey and what is over, so that the journal says each thing once.

use super::survey::Key;
use super::{Missing, Survey, Uncovered};
use quantities::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// A row that may pass by itself is new once it has lasted this long.
const LASTS: Duration = Duration::from_secs(45);
/// A row is over once it has not been seen for this long: a job of cron's that runs every five minutes is
/// one row and not twelve an hour.
const OVER_AFTER: Duration = Duration::from_secs(600);

/// Remembers the rows of earlier surveys.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    rows: BTreeMap<Key, Known>,
    trimmed: bool,
}

#[derive(Debug, Clone)]
struct Known {
    first: Time,
    last: Time,
    logged: bool,
    row: Uncovered,
}

/// What changed since the surveys before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Rows to log now.
    pub new: Vec<Uncovered>,
    /// Rows that were logged and are covered now, or gone.
    pub over: Vec<Uncovered>,
    /// For the first time, not all rows or processes had room; how many did not.
    pub beyond: Option<(usize, usize)>,
}

impl Changes {
    /// Takes in a survey. Each row is in `new` once until it is over.
    pub fn update(&mut self, survey: &Survey, now: Time) -> Difference {
        let mut difference = Difference::default();
        for row in &survey.rows {
            let known = self.rows.entry(row.key()).or_insert_with(|| Known {
                first: now,
                last: now,
                logged: false,
                row: row.clone(),
            });
            known.last = now;
            known.row.clone_from(row);
            // A spawner tells the hub where a server runs once it has started, and the hub is asked a little later.
            let hub_may_tell = survey.api && matches!(row.missing, Missing::Unmapped { .. });
            let may_pass = row.missing.may_pass() || hub_may_tell;
            let lasts = !may_pass || now.since(known.first) >= LASTS;
            if !known.logged && lasts {
                known.logged = true;
                difference.new.push(row.clone());
            }
        }
        self.rows.retain(|_, known| {
            let absent = now.since(known.last);
            // What was never logged passed by itself.
            let keep = absent == Duration::ZERO || known.logged && absent < OVER_AFTER;
            if !keep && known.logged {
                difference.over.push(known.row.clone());
            }
            keep
        });
        let trimmed = survey.more_rows > 0 || survey.unseen > 0;
        if trimmed && !self.trimmed {
            difference.beyond = Some((survey.more_rows, survey.unseen));
        }
        self.trimmed = trimmed;
        difference
    }
}
