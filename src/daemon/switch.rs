//! `off` and `on`, of a daemon that runs.

use super::cgroups::Cgroup;
use super::{Shell, Tasks};
use crate::act::CpuControl;
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry};
use quantities::CgroupId;
use std::time::Duration;

/// Servers that are put back at once: systemd takes one call after the other anyhow.
const AT_ONCE: usize = 32;
/// How often, and how many times, it is looked whether actions that were under way have ended.
const LOOKED_EVERY: Duration = Duration::from_millis(100);
const LOOKS: usize = 300;

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// Lifts every verdict and rule, puts back what stood there, reads it back, and notes it last.
    /// What could not be lifted is said, and tried again every tick.
    pub(super) async fn switch_off(&self, who: String) -> Result<String, String> {
        let begun = self.turn(|daemon| daemon.shell.begin_to_switch_off());
        let (ids, until_reboot, mut left) = begun.await;
        self.enforce_together(ids).await;
        self.cap_slice().await;
        left.extend(self.put_back_every_orphan().await);
        self.wait_for_others().await;
        self.turn(move |daemon| {
            daemon.due.save = true;
            daemon.shell.switched_off(&who, until_reboot, left)
        })
        .await
    }

    /// Brings servers to where they should be, several at a time, and returns when they are.
    async fn enforce_together(&self, ids: Vec<CgroupId>) {
        for some in ids.chunks(AT_ONCE) {
            let woken = some.to_vec();
            self.turn(|daemon| daemon.enforce(woken)).await;
            // One whose answer is lost is left as it is, which is found below.
            self.until_at_rest(some.to_vec()).await;
        }
    }

    /// Waits for actions that were under way, for half a minute at most.
    async fn wait_for_others(&self) {
        for _ in 0..LOOKS {
            if !self.turn(|daemon| daemon.shell.busy()).await {
                return;
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
    }

    /// Has verdicts carried out again, and the packet rules loaded.
    pub(super) async fn switch_on(&self, who: String) -> Result<String, String> {
        if !self.turn(|daemon| daemon.shell.off).await {
            return Ok("hubwarden is on already.".to_owned());
        }
        // A state file of version 0.1.0 says "off" itself.
        if let Err(error) = self.persist().await {
            return Err(format!("hubwarden stays off, since {error}"));
        }
        let ids = self.turn(|daemon| daemon.shell.begin_to_switch_on()).await;
        self.enforce_together(ids?).await;
        self.turn(move |daemon| {
            daemon.cap_slice();
            daemon.shell.switched_on(&who)
        })
        .await
    }
}

impl Shell {
    /// Lifts the packet rules. Returns whose limits are to be lifted, whether it is noted that supervision
    /// is off, and what of the rules is left.
    fn begin_to_switch_off(&mut self) -> (Vec<CgroupId>, Result<(), String>, Vec<String>) {
        self.off = true;
        self.feed_settings();
        // First: a daemon that systemd starts in this one's place finds it.
        let until_reboot = self.storage.switch.off_until_reboot();
        // The packet rules are what locks people out.
        let mut left = self.lift_rules();
        left.extend(self.place_new_servers());
        (self.guarded_ids(), until_reboot, left)
    }

    /// Notes that supervision is off, and says what is `left` besides what is found now.
    fn switched_off(
        &mut self,
        who: &str,
        until_reboot: Result<(), String>,
        mut left: Vec<String>,
    ) -> Result<String, String> {
        left.extend(self.still_changed());
        if let Err(error) = self.storage.switch.off() {
            let when = match until_reboot {
                Ok(()) => "after a reboot",
                Err(_) => "after a restart",
            };
            left.push(format!("{when} hubwarden supervises again, since {error}"));
        }
        let count = self.guarded_ids().len();
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
        self.log(LogEntry::new(Kind::Off, Level::Warning, message).with("ADMIN", who));
        result
    }

    /// Loads the packet rules; whose limits are to be set.
    fn begin_to_switch_on(&mut self) -> Result<Vec<CgroupId>, String> {
        let switched = self.storage.switch.on();
        switched.map_err(|error| format!("hubwarden stays off, since {error}"))?;
        self.off = false;
        self.feed_settings();
        self.load_egress();
        // Why not is logged.
        let _ = self.place_new_servers();
        Ok(self.guarded_ids())
    }

    fn switched_on(&mut self, who: &str) -> Result<String, String> {
        let mode = self.config.mode;
        let message = format!("hubwarden was switched on by {who}, in {mode} mode.");
        self.log(LogEntry::new(Kind::On, Level::Notice, message.clone()).with("ADMIN", who));
        match self.rules_lack() {
            None => Ok(message),
            Some(why) => Err(format!(
                "hubwarden is on, and it is tried again every tick: {why}"
            )),
        }
    }

    /// Takes the packet rules away; what of them stands then, in words.
    pub(super) fn lift_rules(&mut self) -> Vec<String> {
        self.network.rules.lift()
    }

    /// Units on which something of ours stands or may stand, with the reason where one is known.
    fn still_changed(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in self.registry.entries.values() {
            if let Cgroup::Server(guarded) = entry
                && let Some(actuator) = self.node.actuator(guarded.id)
                && (actuator.ours().is_some() || actuator.is_busy())
            {
                let why = actuator.trouble().unwrap_or("it is under way");
                left.push(format!("{}: {why}", guarded.server.unit));
            }
        }
        left.extend(
            self.limits
                .slice_cap
                .iter()
                .map(|cap| cap.owner().to_string()),
        );
        left
    }

    fn busy(&self) -> bool {
        self.node.is_busy(&self.guarded_ids())
    }
}
