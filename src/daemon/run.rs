//! The loop: what comes in is taken in, what is due is looked at, and systemd hears that all is well.

use super::{Daemon, DaemonError, Parts};
use crate::act::CpuControl;
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry};
use hubwarden_core::node::Input;
use nix::time::{ClockId, clock_gettime};
use quantities::{Mode, Time};
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Credits are written at least this often, so that a crash loses no more.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// The quota of all servers together is compared with what it should be every so many ticks.
const CAP_CHECKED_EVERY: u32 = 12;

/// Runs until `shutdown` comes; what is enforced then stays.
///
/// # Errors
/// Something the daemon cannot do without is missing.
pub async fn run<C, U>(
    parts: Parts<C, U>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DaemonError>
where
    C: CpuControl + 'static,
    U: Units + 'static,
{
    let local = tokio::task::LocalSet::new();
    local.run_until(run_local(parts, shutdown)).await
}

async fn run_local<C, U>(
    parts: Parts<C, U>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DaemonError>
where
    C: CpuControl + 'static,
    U: Units + 'static,
{
    let (daemon, mut inlets) = Daemon::new(parts)?;
    daemon.start()?;
    tokio::task::spawn_local(Rc::clone(&daemon).save_forever());
    tokio::task::spawn_local(Rc::clone(&daemon).hear_the_hub());
    tokio::task::spawn_local(Rc::clone(&daemon).follow_links());
    tokio::task::spawn_local(Rc::clone(&daemon).follow_outsiders());
    tokio::task::spawn_local(Rc::clone(&daemon).listen_to_who_comes());
    let mut found = {
        let inner = daemon.inner.borrow();
        inner.sensors.start(&inner.journal)
    };

    let events =
        crate::readiness::readable(daemon.inner.borrow().tree.as_fd().try_clone_to_owned()?)?;
    let mut tick = ticker(daemon.tick());
    let mut save = ticker(SAVE_EVERY);
    let mut alive = ticker(watchdog_interval());
    let mut refusals_open = true;
    let mut asked_open = true;
    let mut repairs_open = true;
    let mut questions_open = true;
    tokio::pin!(shutdown);
    notify(&[sd_notify::NotifyState::Ready]);
    loop {
        daemon.is_whole()?;
        tokio::select! {
            biased;
            // These come at their own pace, which no user sets: none of them can hold up another,
            // and nothing below can hold up these.
            () = &mut shutdown => break,
            _ = alive.tick() => {
                if daemon.threads_are_well() {
                    notify(&[sd_notify::NotifyState::Watchdog]);
                }
            }
            order = inlets.commands.orders.recv() => match order {
                Some(order) => daemon.command(order),
                None => return Err(DaemonError::ServiceLost),
            },
            () = daemon.reloaded.notified() => tick = ticker(daemon.tick()),
            _ = tick.tick() => daemon.tick_once(),
            () = daemon.until_look() => daemon.look(),
            _ = save.tick() => {
                daemon.save();
                crate::memory::trim();
            }
            // Users can fill each of these. They take turns, by chance, one event a turn.
            handled = async { tokio::select! {
                ready = events.readable() => {
                    ready?.clear_ready();
                    daemon.poll_tree();
                }
                repair = inlets.repairs.recv(), if repairs_open => match repair {
                    Some(repair) => daemon.on_foreign_write(repair, &mut inlets.repairs),
                    None => repairs_open = false,
                },
                question = inlets.commands.questions.recv(), if questions_open => match question {
                    Some(question) => daemon.command(question),
                    None => questions_open = false,
                },
                refusal = inlets.refusals.recv(), if refusals_open => match refusal {
                    Some(refusal) => daemon.refused(&refusal, now()),
                    None => refusals_open = false,
                },
                asked = inlets.asked.recv(), if asked_open => match asked {
                    Some(asked) => daemon.asked(&asked, now()),
                    None => asked_open = false,
                },
                Some(first) = found.recv() => {
                    // What was found in one look is one story.
                    let mut all = vec![first];
                    while let Ok(more) = found.try_recv() {
                        all.push(more);
                    }
                    daemon.found(&all);
                }
            } Ok::<(), DaemonError>(()) } => handled?,
        }
    }
    daemon.save();
    daemon.inner.borrow_mut().log_all_unlogged(now());
    daemon.inner.borrow().log(LogEntry::new(
        Kind::Stopped,
        Level::Notice,
        "hubwarden stops; limits and packet rules stay as they are (hubwarden off lifts them).",
    ));
    Ok(())
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticker = tokio::time::interval(every);
    // After a stall one tick is enough: the gap is booked as one span.
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticker
}

/// A third of what systemd waits for; an hour where nobody waits.
fn watchdog_interval() -> Duration {
    sd_notify::watchdog_enabled().map_or(Duration::from_secs(3600), |limit| limit / 3)
}

/// Without a service manager to tell, there is nobody to tell.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}

/// The kernel's monotonic clock; it cannot fail on Linux (clock_gettime(2)).
pub(super) fn now() -> Time {
    #[cfg(test)]
    if let Some(set) = super::tests::clock() {
        return set;
    }
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(|time| Time(Duration::from(time)))
        .unwrap_or(Time(Duration::ZERO))
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Brings back what an earlier daemon left, then the rules, then everybody else.
    pub(super) fn start(self: &Rc<Self>) -> Result<(), DaemonError> {
        let changes = self.inner.borrow_mut().tree.rescan()?;
        let mut inner = self.inner.borrow_mut();
        let (changes_known, was_off) = self.store.changes();
        let state = match self.store.load() {
            Ok(state) => state,
            Err(error) => {
                inner.state_trouble(&error);
                self.store.empty()
            }
        };
        for error in inner.undo.load() {
            let message = format!(
                "A record of changed limits cannot be read, and what it tells of may stand: {error}."
            );
            inner.log(LogEntry::new(Kind::Trouble, Level::Error, message));
        }
        for change in changes_known {
            inner.undo.add(change);
        }
        if was_off && let Err(error) = inner.switch.off() {
            inner.log(LogEntry::new(Kind::Trouble, Level::Error, error));
        }
        inner.off = was_off || inner.switch.is_off();
        inner.grants = state.grants;
        inner.feed_settings();
        inner.feed(Input::Resume(state.rested));
        inner.networks.other_containers = state.other_containers;
        inner.networks.bridges = state.bridges;
        inner.traffic = state.traffic;
        inner.uid_egress.accounts = state.accounts;
        let mode = inner.config.mode;
        let how = if inner.off {
            ", switched off (hubwarden on resumes)".to_owned()
        } else {
            format!(" in {mode} mode")
        };
        let message = format!("hubwarden {} started{how}.", env!("CARGO_PKG_VERSION"));
        inner.log(LogEntry::new(Kind::Started, Level::Notice, message).with("VERDICT_MODE", mode));
        if !inner.cpu_controller {
            inner.log(LogEntry::new(
                Kind::Trouble,
                Level::Warning,
                "The cpu controller is not on cgroup v2 here, so CPU limits are set but have no \
                 effect; boot with systemd.unified_cgroup_hierarchy=1 to change that.",
            ));
        }
        inner.try_out(&self.stopper);
        let mut servers = state.servers;
        if state.mode == Some(Mode::Observe) && mode == Mode::Enforce {
            for record in &mut servers {
                record.standing.reopen(now());
            }
        }
        inner.resume(servers);
        inner.reconcile_classes(now());
        inner.read_lists();
        if inner.off {
            // Whoever switched off may have been cut off in the middle of it.
            for left in inner.lift_rules() {
                inner.log_once(LogEntry::new(Kind::Trouble, Level::Error, left));
            }
        } else {
            inner.load_egress();
        }
        drop(inner);
        self.take_in(changes);
        self.ask_accounts();
        let ids = self.inner.borrow().guarded_ids();
        self.enforce(ids);
        self.cap_slice();
        Ok(())
    }

    fn tick(&self) -> Duration {
        self.inner.borrow().config.tick
    }

    pub(super) fn poll_tree(self: &Rc<Self>) {
        let result = self.inner.borrow_mut().tree.poll();
        match result {
            Ok(changes) => self.take_in(changes),
            // The next tick's rescan tells what is wrong.
            Err(_) => self.tree_reads.set(true),
        }
    }

    /// Waits until the first of those who are about to spend their last credits is due.
    async fn until_look(&self) {
        let at = self.inner.borrow().node.accounts().next_look();
        match at {
            Some(at) => tokio::time::sleep(at.since(now())).await,
            None => std::future::pending().await,
        }
    }

    fn look(self: &Rc<Self>) {
        let now = now();
        let due = self.inner.borrow().node.accounts().looks_due(now);
        self.look_at(Some(&due));
        self.attend();
    }

    pub(super) fn tick_once(self: &Rc<Self>) {
        let (begun, now) = (Instant::now(), now());
        self.rescan();
        self.ask_again();
        self.follow_accounts();
        self.expire_grants();
        self.inner.borrow_mut().forget_rested();
        self.look_at(None);
        self.attend();
        self.drive(Input::Weigh);
        {
            let mut inner = self.inner.borrow_mut();
            inner.read_counters(now);
            inner.reconcile_traffic(now);
            inner.count_refused(now);
        }
        self.watch_abuse(now);
        self.check_egress();
        self.follow_containers();
        self.put_back_orphans();
        // Asking systemd is not free, and nobody else sets limits on our slice every tick.
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks % CAP_CHECKED_EVERY == 1 {
            self.cap_slice();
        }
        if self.inner.borrow().dirty {
            self.save_wanted.notify_one();
        }
        let status = self.inner.borrow().status_line();
        notify(&[sd_notify::NotifyState::Status(&status)]);
        let mut inner = self.inner.borrow_mut();
        inner.watch_on();
        inner.write_trace(now);
        inner.show_metrics(begun.elapsed());
    }
}
