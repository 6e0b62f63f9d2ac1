//! The questions that were asked and not answered yet.
//!
//! An answer counts if its question is known: asked from the address and port that it goes to, with
//! its number and for its name, type and class, and not answered before. So what another sends under a
//! resolver's address opens nothing, even with the ports of a question that was answered.
//!
//! That the address it comes from was asked by that socket is connection tracking's to say
//! (`ct direction reply` in `rules`): by the time that questions are read, an admin's rules may have
//! given them another destination.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::wire::{DNS_HEADER, Segment, question_end};
use crate::Transport;

/// How long an answer may take. The C library and systemd-resolved ask again after five seconds,
/// and each time counts anew.
const LIFE: Duration = Duration::from_secs(15);
/// Questions of one sender that are kept: unanswered ones, each for a few seconds at most.
const SHARE: usize = 1_024;
/// Questions that are kept in all: some 10 MB with names as long as they can be.
const ALL: usize = 32_768;

/// Whoever asks, as far as a held question tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// A server, or a user outside, by the number that its mark has.
    Number(u32),
    /// The owner of the socket.
    Uid(u32),
    /// Neither is known.
    Unknown,
    /// One that is no more.
    Gone,
}

/// How many senders one stands for: a service asks for others, who all lose by its share.
pub fn weight(sender: Sender) -> usize {
    match sender {
        Sender::Number(_) | Sender::Gone => 1,
        Sender::Uid(_) | Sender::Unknown => 8,
    }
}

fn share(sender: Sender) -> usize {
    SHARE * weight(sender)
}

/// A question as its answer has it too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    asker: IpAddr,
    port: u16,
    transport: Transport,
    id: u16,
    /// Name in lower case, type and class, as they are on the wire.
    asks: Vec<u8>,
}

impl Question {
    /// That of a message in a segment, be it the question itself or its answer (`answer`). `None` if it
    /// is neither a single question nor the answer to one.
    pub fn of(segment: &Segment, message: &[u8], answer: bool) -> Option<Self> {
        const ANSWERS: u8 = 0x80;
        const OPCODE: u8 = 0x78;
        let head: &[u8; DNS_HEADER] = message.first_chunk()?;
        let [id_high, id_low, flags, _, many, one, ..] = *head;
        let is_answer = flags & ANSWERS != 0;
        if is_answer != answer || flags & OPCODE != 0 || (many, one) != (0, 1) {
            return None;
        }
        let end = question_end(message)?;
        let (name, kind) = message.get(DNS_HEADER..end)?.split_last_chunk::<4>()?;
        // A label's length is below every capital letter.
        let mut asks = name.to_ascii_lowercase();
        asks.extend(kind);
        Some(Self {
            asker: segment.flow.to,
            port: segment.flow.port,
            transport: segment.transport,
            id: u16::from_be_bytes([id_high, id_low]),
            asks,
        })
    }
}

/// The questions of all senders.
#[derive(Debug, Default)]
pub struct Questions {
    all: BTreeMap<Question, Place>,
    /// By sender, in the order in which they were asked.
    of: BTreeMap<Sender, BTreeMap<u64, Question>>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    sender: Sender,
    order: u64,
    at: Instant,
}

impl Questions {
    /// Remembers a question; whose and how many that may still be answered had to go for it. They are the
    /// sender's own oldest, unless all senders together have too many: then the oldest of whoever has
    /// the most.
    pub fn remember(
        &mut self,
        question: Question,
        sender: Sender,
        now: Instant,
    ) -> BTreeMap<Sender, usize> {
        self.forget(&question);
        while let Some(oldest) = self.oldest(sender)
            && self.all.get(&oldest).is_some_and(|place| !place.lives(now))
        {
            self.forget(&oldest);
        }
        let mut gone = BTreeMap::new();
        loop {
            let own = self.of.get(&sender).map_or(0, BTreeMap::len);
            let from = if own >= share(sender) {
                sender
            } else if self.all.len() >= ALL {
                let load = |sender: &Sender, questions: &BTreeMap<u64, Question>| {
                    questions.len() * ALL / share(*sender)
                };
                let most = self.of.iter().max_by_key(|(sender, of)| load(sender, of));
                most.map_or(sender, |(sender, _)| *sender)
            } else {
                break;
            };
            let Some(oldest) = self.oldest(from) else {
                break;
            };
            let place = self.forget(&oldest);
            if place.is_some_and(|place| place.lives(now)) {
                *gone.entry(from).or_default() += 1;
            }
        }
        let order = self.next;
        self.next += 1;
        let place = Place {
            sender,
            order,
            at: now,
        };
        self.of
            .entry(sender)
            .or_default()
            .insert(order, question.clone());
        self.all.insert(question, place);
        gone
    }

    /// Whether a question was asked and not answered before. It is answered from now on.
    pub fn answer(&mut self, question: &Question, now: Instant) -> bool {
        self.forget(question).is_some_and(|place| place.lives(now))
    }

    fn oldest(&self, sender: Sender) -> Option<Question> {
        let (_, question) = self.of.get(&sender)?.first_key_value()?;
        Some(question.clone())
    }

    fn forget(&mut self, question: &Question) -> Option<Place> {
        let place = self.all.remove(question)?;
        if let Some(of) = self.of.get_mut(&place.sender) {
            of.remove(&place.order);
            if of.is_empty() {
                self.of.remove(&place.sender);
            }
        }
        Some(place)
    }
}

impl Place {
    fn lives(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < LIFE
    }
}

#[cfg(test)]
mod tests;
