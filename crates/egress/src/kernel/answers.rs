//! What resolvers answer, learned into the sets of the classes that allow it.

use std::{collections::BTreeMap, time::Instant};

use nix::errno::Errno;

use super::Kernel;
use crate::{
    ClassName, Error, Mode, Netlink,
    installed::Installed,
    names::{self, DeniedBy, Lesson, Queueing, Sender},
    readback,
    ruleset::Element,
    table,
    uapi::NFPROTO_INET,
};

/// What became of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What denies the name to who asked for it.
    pub denied: Option<DeniedBy>,
    /// Whether the policy refuses what is denied.
    pub enforced: bool,
    /// How many addresses were written.
    pub learned: usize,
    /// How many were not, for a class that allows the name, since they are private.
    pub closed: usize,
    /// By whom how many addresses had to go that were still good, since its share was used up.
    pub evicted: BTreeMap<Sender, usize>,
}

impl Kernel {
    /// How this kernel queues packets; tried when it is asked for the first time.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn queueing(&mut self) -> Result<Queueing, Error> {
        if let Some(known) = self.queueing {
            return Ok(known);
        }
        let found = names::try_queueing(&mut self.netlink)?;
        self.queueing = Some(found);
        Ok(found)
    }

    /// Whether connections of this kernel have labels; tried when it is asked for the first time.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub(super) fn labels(&mut self) -> Result<bool, Error> {
        if let Some(known) = self.labels {
            return Ok(known);
        }
        let found = names::try_labels(&mut self.netlink)?;
        self.labels = Some(found);
        Ok(found)
    }

    /// Have a class's servers reach the addresses of a name that a resolver told of, or say that
    /// whoever asked may not have them.
    ///
    /// # Errors
    /// [`Error::NotLoaded`], or the kernel's refusal: nothing is reached then.
    pub fn hear(&mut self, answer: &names::Answer, asker: Sender) -> Result<Heard, Error> {
        let attempt = "learn a name's addresses";
        let now = Instant::now();
        let Some(installed) = &mut self.installed else {
            return Err(Error::NotLoaded { attempt });
        };
        let Some(asked) = &answer.asked else {
            return Ok(Heard::default());
        };
        let class = match asker {
            Sender::Number(number) => installed.class_of(number),
            Sender::Uid(_) | Sender::Unknown | Sender::Gone => None,
        };
        let ruling = self.dictionary.rule(installed.policy(), class, asked);
        // What is learned is another part of what is installed.
        let classes: Vec<ClassName> = ruling.classes.into_iter().cloned().collect();
        let classes: Vec<&ClassName> = classes.iter().collect();
        let mut heard = Heard {
            denied: ruling.denied,
            enforced: installed.policy().mode == Mode::Enforce,
            ..Heard::default()
        };
        let closed = |class: &ClassName, address| self.dictionary.closes(class, address);
        let most = installed.policy().names_ttl_max.as_secs();
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let in_time = |(address, ttl): &(_, u32)| (*address, most.min(*ttl));
        let addresses: Vec<_> = answer.addresses.iter().map(in_time).collect();
        let kept_out = |address| classes.iter().any(|class| closed(class, address));
        heard.closed = addresses.iter().filter(|one| kept_out(one.0)).count();
        let lesson = Lesson {
            name: asked,
            addresses: &addresses,
            by: asker,
            now,
        };
        let news = installed.learned.news(&classes, closed, &lesson);
        let messages = names::messages(&news, &lesson)?;
        if !messages.is_empty() {
            self.netlink.transact(attempt, &messages)?;
            self.writings.aside();
        }
        for one in &news {
            heard.learned += one.written();
            for (sender, count) in one.evicted() {
                *heard.evicted.entry(*sender).or_default() += count;
            }
        }
        installed.learned.apply(news, &lesson);
        Ok(heard)
    }

    /// What an earlier daemon, or this one, learned, as far as a policy still allows it.
    pub(super) fn carry_learned(&mut self, next: &mut Installed) -> Result<(), Error> {
        let now = Instant::now();
        match &self.installed {
            Some(before) => next.learned = before.learned.clone(),
            None => {
                for (class, family) in names::places(next.policy()) {
                    let set = names::names_set(&class, family);
                    let found = elements_if_there(&mut self.netlink, &set)?;
                    next.learned.restore(&class, family, &found, now);
                }
            }
        }
        let policy = next.policy().clone();
        next.learned.settle(&policy, now);
        Ok(())
    }
}

fn elements_if_there(netlink: &mut Netlink, set: &str) -> Result<Vec<Element>, Error> {
    match readback::elements(netlink, NFPROTO_INET, table::TABLE, set) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
        found => Ok(found?),
    }
}
