//! `off` and `on`, of a daemon that runs.

use super::cgroups::Cgroup;
use super::{Daemon, Inner};
use crate::act::CpuControl;
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry};
use quantities::CgroupId;
use std::rc::Rc;
use std::time::Duration;

/// Servers that are put back at once: systemd takes one call after the other anyhow.
const AT_ONCE: usize = 32;
/// How often, and how many times, it is looked whether actions that were under way have ended.
const LOOKED_EVERY: Duration = Duration::from_millis(100);
const LOOKS: usize = 300;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Lifts every verdict and rule, puts back what stood there, reads it back, and notes it last.
    /// What could not be lifted is said, and tried again every tick.
    pub(super) async fn switch_off(self: &Rc<Self>, who: &str) -> Result<String, String> {
        let mut left = Vec::new();
        let (ids, until_reboot) = {
            let mut inner = self.inner.borrow_mut();
            inner.off = true;
            inner.feed_settings();
            // First: a daemon that systemd starts in this one's place finds it.
            let until_reboot = inner.switch.off_until_reboot();
            // The packet rules are what locks people out.
            left.extend(inner.lift_rules());
            (inner.guarded_ids(), until_reboot)
        };
        self.enforce_together(ids).await;
        self.cap_slice_now().await;
        left.extend(self.put_back_every_orphan().await);
        self.wait_for_others().await;
        let noted = {
            let inner = self.inner.borrow();
            left.extend(inner.still_changed());
            inner.switch.off()
        };
        self.save_wanted.notify_one();
        if let Err(error) = noted {
            let when = match until_reboot {
                Ok(()) => "after a reboot",
                Err(_) => "after a restart",
            };
            left.push(format!("{when} hubwarden supervises again, since {error}"));
        }
        let count = self.inner.borrow().guarded_ids().len();
        let result = match left.as_slice() {
            [] => Ok(format!(
                "hubwarden was switched off by {who}: the packet rules are removed, and the limits of \
                 {count} servers are as their owners set them (read back). It goes on watching; \
                 `hubwarden on` resumes."
            )),
            left => Err(format!(
                "hubwarden was switched off by {who}, but not everything is lifted, and it is tried \
                 again every tick: {}",
                left.join("; ")
            )),
        };
        let message = result.clone().unwrap_or_else(|error| format!("{error}."));
        let told = LogEntry::new(Kind::Off, Level::Warning, message).with("ADMIN", who);
        self.inner.borrow().log(told);
        result
    }

    /// Brings servers to where they should be, several at a time, and returns when they are.
    async fn enforce_together(self: &Rc<Self>, ids: Vec<CgroupId>) {
        for some in ids.chunks(AT_ONCE) {
            self.enforce(some.to_vec());
            // One whose answer is lost is left as it is, which is found below.
            self.until_at_rest(some).await;
        }
    }

    /// Waits for actions that were under way, for half a minute at most.
    async fn wait_for_others(&self) {
        for _ in 0..LOOKS {
            if !self.inner.borrow().busy() {
                return;
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
    }

    pub(super) async fn switch_on(self: &Rc<Self>, who: &str) -> Result<String, String> {
        if !self.inner.borrow().off {
            return Ok("hubwarden is on already.".to_owned());
        }
        // A state file of version 0.1.0 says "off" itself.
        if let Err(error) = self.persist().await {
            return Err(format!("hubwarden stays off, since {error}"));
        }
        let ids = {
            let mut inner = self.inner.borrow_mut();
            let switched = inner.switch.on();
            switched.map_err(|error| format!("hubwarden stays off, since {error}"))?;
            inner.off = false;
            inner.feed_settings();
            inner.load_egress();
            inner.guarded_ids()
        };
        self.enforce_together(ids).await;
        self.cap_slice();
        let inner = self.inner.borrow();
        let (mode, loaded) = (inner.config.mode, inner.rules.stand());
        let message = format!("hubwarden was switched on by {who}, in {mode} mode.");
        inner.log(LogEntry::new(Kind::On, Level::Notice, message.clone()).with("ADMIN", who));
        match loaded {
            true => Ok(message),
            false => Err(format!(
                "hubwarden is on, but the packet rules could not be loaded, and it is tried again \
                 every tick: {}",
                inner
                    .rules_trouble
                    .first()
                    .map_or("no reason is known", String::as_str)
            )),
        }
    }
}

impl Inner {
    /// Takes the packet rules away; what of them stands then, in words.
    pub(super) fn lift_rules(&mut self) -> Vec<String> {
        self.rules.lift()
    }

    /// Units on which something of ours stands or may stand, with the reason where one is known.
    fn still_changed(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in self.entries.values() {
            if let Cgroup::Server(guarded) = entry
                && let Some(actuator) = self.node.actuator(guarded.id)
                && (actuator.ours().is_some() || actuator.is_busy())
            {
                let why = actuator.trouble().unwrap_or("it is under way");
                left.push(format!("{}: {why}", guarded.server.unit));
            }
        }
        left.extend(self.slice_cap.iter().map(|cap| cap.owner().to_string()));
        left
    }

    fn busy(&self) -> bool {
        self.node.is_busy(&self.guarded_ids())
    }
}
