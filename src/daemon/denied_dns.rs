//! Names that servers asked for and may not have.

use super::Daemon;
use super::refusal_log::{MOST_TOLD, TELL_AGAIN};
use crate::act::CpuControl;
use crate::hub::Units;
use egress::names::{Asked, DeniedBy};
use quantities::Time;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Tells of a denied name, once an hour for the same server and name. What a list has is a
    /// fact for the judge too.
    pub(super) fn asked(&mut self, asked: &Asked, now: Time) {
        let shell = &mut self.shell;
        let mode = shell.config.mode;
        let journal = shell.report.journal.clone();
        let id = shell.node.numbers().holder(asked.number);
        let Some((id, guarded)) = id.and_then(|id| Some((id, shell.guarded(id)?))) else {
            return;
        };
        let told = &mut guarded.asked;
        told.retain(|_, at| now.since(*at) < TELL_AGAIN);
        if !told.contains_key(&asked.name) && told.len() < MOST_TOLD {
            told.insert(asked.name.clone(), now);
            journal.log(guarded.story(mode).asked(asked));
        }
        if matches!(asked.by, DeniedBy::List(_) | DeniedBy::ListPort(..)) {
            self.asked_for_listed(id, now);
        }
    }
}
