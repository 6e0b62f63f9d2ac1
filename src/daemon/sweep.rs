//! Looks at servers: reads their counters, lets the judge look, and has done what is due.

use super::entries::{Entry, Guarded};
use super::{Daemon, Inner};
use crate::act::CpuControl;
use crate::hub::Units;
use cgroup::stat::CpuMax;
use policy::{Event, Verdict, Warning, step};
use quantities::CgroupId;
use quantities::{Cores, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

/// No server is looked at again sooner than this, however fast it spends.
const SOONEST: Duration = Duration::from_millis(200);

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Samples every server, or only those whose credits were about to end, and carries out what
    /// the judge says.
    pub(super) fn sweep(self: &Rc<Self>, now: Time, only: Option<&BTreeSet<CgroupId>>) {
        let mut due = Vec::new();
        let mut looks = BTreeMap::new();
        let mut parts = Vec::new();
        {
            let mut inner = self.inner.borrow_mut();
            let contention = inner.contention();
            let used_elsewhere = inner.used_elsewhere();
            let mut verdicts = BTreeMap::new();
            let Inner {
                entries,
                journal,
                config,
                off,
                dirty,
                meter,
                cpu_controller,
                ..
            } = &mut *inner;
            for (id, entry) in entries {
                let Entry::Guarded(guarded) = entry else {
                    continue;
                };
                // Read is read, whoever is looked at this time.
                guarded.used_outside += used_elsewhere.get(id).copied().unwrap_or_default();
                if only.is_some_and(|only| !only.contains(id)) {
                    continue;
                }
                if guarded.unsettled
                    || guarded.must_renew(now)
                    || guarded.stopping.is_overdue(now)
                    || (*cpu_controller && !guarded.acting && overwritten(guarded))
                    || guarded.case.waits_for_end_of_processes(&guarded.policy)
                {
                    due.push(*id);
                }
                // It stands where its server stands; see `follow`.
                if guarded.lead.is_some() {
                    continue;
                }
                if *off {
                    // What is used while supervision is off is charged to nobody.
                    guarded.case.credits.restart();
                    continue;
                }
                match sample(guarded, now, contention.for_server(guarded)) {
                    Ok(None) => {}
                    Ok(Some(verdict)) => {
                        meter.ledger.verdict(*id, verdict.to);
                        verdicts.insert(*id, verdict.clone());
                        guarded.verdicts.push_back(verdict);
                        *dirty = true;
                        due.push(*id);
                    }
                    Err(error) if error.is_gone() => {}
                    Err(error) => {
                        let text = error.to_string();
                        if guarded.trouble.as_ref() != Some(&text) {
                            let story = guarded.story(config.mode);
                            journal.tell(story.trouble("Reading the counters", &error));
                            guarded.trouble = Some(text);
                        }
                    }
                }
                let used = guarded.stat.map_or(Duration::ZERO, |stat| stat.usage);
                let usage = used + guarded.used_outside;
                let policy = &guarded.policy;
                if let Some(warning) = Warning::due(&mut guarded.case, usage, now, policy) {
                    journal.tell(guarded.story(config.mode).warned(&warning));
                }
                if let Some(left) = guarded.case.lasts(&guarded.policy)
                    && left < config.tick
                {
                    looks.insert(*id, Time(now.0 + left.max(SOONEST)));
                } else if let Some(at) = Inner::measured_again(guarded, config, now) {
                    looks.insert(*id, at);
                }
            }
            if only.is_none() {
                // The others end later than the next tick by now.
                inner.looks.clear();
            }
            inner.looks.extend(looks);
            due.extend(inner.follow(&verdicts));
            if only.is_none() {
                parts = inner.share_baselines(now);
            }
        }
        for id in due {
            self.enforce(id);
        }
        self.enforce_in_turn(parts);
    }
}

/// Takes one reading and lets the judge look at it.
fn sample(
    guarded: &mut Guarded,
    now: Time,
    contended: bool,
) -> Result<Option<Verdict>, cgroup::CgroupError> {
    let Some(reader) = &guarded.reader else {
        return Ok(None);
    };
    let sample = reader.sample()?;
    guarded.read(sample.cpu);
    let usage = sample.cpu.usage + guarded.used_outside;
    let event = Event::Sampled { usage, contended };
    Ok(step(&mut guarded.case, &event, now, &guarded.policy))
}

/// Whether the kernel holds another quota than the one we set, or than the one we found and left
/// as it was. Without data the answer is no.
pub(super) fn overwritten(guarded: &mut Guarded) -> bool {
    let known = guarded.ours().map_or(guarded.limit, |ours| ours.quota);
    let max = guarded.reader.as_mut().map(|reader| reader.cpu_max());
    match (max, known) {
        (Some(Ok(Some(max))), Some(known)) => !same_rate(known, &max),
        (Some(Ok(Some(max))), None) => max.quota_usec.is_some(),
        _ => false,
    }
}

/// systemd rounds to whole microseconds a period and lengthens a period in which a low quota
/// would be under 1 ms; the rate stays.
fn same_rate(ours: Cores, max: &CpuMax) -> bool {
    let Some(quota) = max.quota_usec else {
        return false;
    };
    let rate = quota as f64 / max.period_usec.max(1) as f64;
    (rate - ours.0).abs() <= 0.02 * ours.0 + 0.001
}
