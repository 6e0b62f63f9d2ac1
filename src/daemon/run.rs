//! The loop: what comes in is taken in, what is due is looked at, and systemd hears that all is well.

use super::{Daemon, DaemonError, Parts, Tasks};
use crate::act::CpuControl;
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry};
use hubwarden_core::node::Input;
use nix::time::{ClockId, clock_gettime};
use quantities::{Mode, Time};
use std::future::Future;
use std::time::{Duration, Instant};

/// Credits are written at least this often, so that a crash loses no more.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Another daemon is there by then, if one is started anew.
const LEFT_WATCHED: Duration = Duration::from_secs(3);

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
    crate::memory::bound();
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
    let (mut daemon, mut turns, mut inlets) = Daemon::new(parts)?;
    daemon.start()?;
    daemon.tasks.begin(Tasks::follow_links);
    let mut found = daemon.shell.sensors.start(&daemon.shell.report.journal);

    let events =
        crate::readiness::readable(daemon.shell.registry.tree.as_fd().try_clone_to_owned()?)?;
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
        if std::mem::take(&mut daemon.due.tick) {
            tick = ticker(daemon.tick());
        }
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
            _ = tick.tick() => daemon.tick_once(),
            () = until(daemon.shell.node.accounts().next_look()) => daemon.look(),
            _ = save.tick() => {
                daemon.save();
                crate::memory::trim();
            }
            Some(turn) = turns.recv() => {
                turn(&mut daemon);
                // What came together is saved once.
                for _ in 0..turns.len() {
                    if let Ok(turn) = turns.try_recv() {
                        turn(&mut daemon);
                    }
                }
            }
            () = until(daemon.due.next()) => daemon.do_what_is_due(now()),
            () = std::future::ready(()), if daemon.due.save => daemon.save(),
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
    daemon.shell.keep_watch(LEFT_WATCHED);
    daemon.shell.log_all_unlogged(now());
    daemon.shell.log(LogEntry::new(
        Kind::Stopped,
        Level::Notice,
        "hubwarden stops; limits and packet rules stay as they are (hubwarden off lifts them).",
    ));
    Ok(())
}

/// Waits until a moment, if there is one.
async fn until(at: Option<Time>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(now())).await,
        None => std::future::pending().await,
    }
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
    pub(super) fn start(&mut self) -> Result<(), DaemonError> {
        let changes = self.shell.registry.tree.rescan()?;
        let shell = &mut self.shell;
        let (changes_known, was_off) = shell.storage.store.changes();
        let state = match shell.storage.store.load() {
            Ok(state) => state,
            Err(error) => {
                shell.state_trouble(&error);
                shell.storage.store.empty()
            }
        };
        for error in shell.limits.undo.load() {
            let message = format!(
                "A record of changed limits cannot be read, and what it tells of may stand: {error}."
            );
            shell.log(LogEntry::new(Kind::Trouble, Level::Error, message));
        }
        for change in changes_known {
            shell.limits.undo.add(change);
        }
        if was_off && let Err(error) = shell.storage.switch.off() {
            shell.log(LogEntry::new(Kind::Trouble, Level::Error, error));
        }
        shell.off = was_off || shell.storage.switch.is_off();
        shell.limits.grants = state.grants;
        shell.feed_settings();
        shell.feed(Input::Resume(state.rested));
        shell.network.containers.other_containers = state.other_containers;
        shell.network.containers.bridges = state.bridges;
        shell.registry.spawner_slices = state.spawner_slices;
        shell.registry.shared_slices = state.shared_slices;
        shell.hub.fronts = state.fronts;
        shell.look_for_servers();
        shell.network.traffic = state.traffic;
        shell.network.uid_egress.accounts = state.accounts;
        let mode = shell.config.mode;
        let how = if shell.off {
            ", switched off (hubwarden on resumes)".to_owned()
        } else {
            format!(" in {mode} mode")
        };
        let message = format!("hubwarden {} started{how}.", env!("CARGO_PKG_VERSION"));
        shell.log(LogEntry::new(Kind::Started, Level::Notice, message).with("VERDICT_MODE", mode));
        if !shell.registry.cpu_controller {
            shell.log(LogEntry::new(
                Kind::Trouble,
                Level::Warning,
                "The cpu controller is not on cgroup v2 here, so CPU limits are set but have no \
                 effect; boot with systemd.unified_cgroup_hierarchy=1 to change that.",
            ));
        }
        shell.try_out(&self.tasks.stopper);
        let mut servers = state.servers;
        if state.mode == Some(Mode::Observe) && mode == Mode::Enforce {
            for record in &mut servers {
                record.standing.reopen(now());
            }
        }
        shell.count_left_traffic(&servers);
        shell.resume(servers);
        let mut exempt = shell.resume_exempt(state.exempt);
        exempt.extend(shell.admit_admins_units());
        shell.reconcile_classes(now());
        shell.read_lists();
        if shell.off {
            // Whoever switched off may have been cut off in the middle of it.
            for left in shell.lift_rules() {
                shell.log_once(LogEntry::new(Kind::Trouble, Level::Error, left));
            }
        } else {
            shell.load_egress();
        }
        self.take_in(changes);
        for (cgroup, id) in exempt {
            self.ask(cgroup, id);
        }
        self.place_new_servers();
        self.ask_accounts();
        let ids = self.shell.guarded_ids();
        self.enforce(ids);
        self.cap_slice();
        Ok(())
    }

    pub(super) fn tick(&self) -> Duration {
        self.shell.config.tick
    }

    pub(super) fn poll_tree(&mut self) {
        let result = self.shell.registry.tree.poll();
        match result {
            Ok(changes) => self.take_in(changes),
            // The next tick's rescan tells what is wrong.
            Err(_) => self.shell.registry.tree_reads = true,
        }
    }

    /// Does what was put off for a moment.
    pub(super) fn do_what_is_due(&mut self, now: Time) {
        let due = self.due.take(now);
        if due.network {
            self.shell.reconcile_network();
        }
        if due.sensors {
            self.attend();
        }
        if due.hub {
            self.tasks.begin(Tasks::hear_the_hub);
        } else if due.survey {
            self.tasks.begin(async |tasks| tasks.survey().await);
        }
    }

    fn look(&mut self) {
        let now = now();
        let due = self.shell.node.accounts().looks_due(now);
        self.look_at(Some(&due));
        self.attend();
    }

    pub(super) fn tick_once(&mut self) {
        let (begun, now) = (Instant::now(), now());
        self.rescan();
        self.ask_again();
        self.follow_accounts();
        self.expire_grants();
        self.shell.forget_rested();
        self.look_at(None);
        self.attend();
        self.drive(Input::Weigh);
        {
            let shell = &mut self.shell;
            shell.read_counters(now);
            shell.reconcile_traffic(now);
            shell.count_refused(now);
            shell.watch_connections();
            shell.watch_shares(now);
        }
        self.watch_abuse(now);
        self.check_egress();
        self.look_after_network();
        self.put_back_orphans();
        // Asking systemd is not free, and nobody else sets limits on our slice every tick.
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks % CAP_CHECKED_EVERY == 1 {
            self.cap_slice();
            self.place_new_servers();
            self.due.network(now);
        }
        if self.shell.storage.dirty {
            self.due.save = true;
        }
        let status = self.shell.status_line();
        notify(&[sd_notify::NotifyState::Status(&status)]);
        let shell = &mut self.shell;
        shell.watch_on();
        shell.write_trace(now);
        shell.show_metrics(begun.elapsed());
    }
}
