//! Remembers held questions; reads held answers, has the table learn from them, and lets them go.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nft::nfqueue::{Held, Queue};
use tokio::sync::mpsc;

use super::{
    answer::{Answer, Unusable},
    counts::{Counts, Overruns, Scarce, add},
    dictionary::DeniedBy,
    questions::{Question, Questions, Sender},
    streams::{Brings, Streams},
    wire::{SYN, Segment},
};
use crate::{Error, Kernel, Transport, phrases, shared::lock};

/// How often, and how long apart, a busy driver is asked for.
const PATIENCE: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);
/// How often the kernel is asked what it could not keep.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A server asked for a name that is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The server's number.
    pub number: u32,
    /// The name, in lower case: letters, digits, `-`, `_` and dots.
    pub name: String,
    /// What denies it.
    pub by: DeniedBy,
    /// Whether the answer was kept from it.
    pub refused: bool,
}

/// The reader of one network namespace.
#[derive(Debug)]
pub struct Reader {
    queue: Queue,
    /// The queue in which answers wait that must not go on unread.
    strict: u16,
    /// The queue in which questions wait to be remembered.
    asked: u16,
    rules: Arc<Mutex<Kernel>>,
    questions: Questions,
    /// Of questions, and of answers.
    streams: [Streams; 2],
    counts: Arc<Counts>,
    overruns: Overruns,
    tell: mpsc::Sender<Asked>,
}

/// What becomes of a packet.
enum Verdict {
    Release,
    Replace(Vec<u8>),
    Discard,
}

/// What becomes of an answer.
enum Ruled {
    Good,
    Refuse,
    /// It must not be read by whoever asked.
    Bad,
}

impl Reader {
    /// Hold the policy's queue and the next two, in the calling thread's network namespace.
    ///
    /// # Errors
    /// As [`Queue::hold`].
    pub fn open(
        strict: u16,
        rules: Arc<Mutex<Kernel>>,
        counts: Arc<Counts>,
        tell: mpsc::Sender<Asked>,
    ) -> Result<Self, Error> {
        let loose = super::rules::loose(strict);
        let asked = super::rules::asked(strict);
        let queue = Queue::hold(&[(strict, false), (loose, true), (asked, true)])?;
        Ok(Self {
            queue,
            strict,
            asked,
            overruns: Overruns::of([strict, loose, asked]),
            rules,
            questions: Questions::default(),
            streams: <[Streams; 2]>::default(),
            counts,
            tell,
        })
    }

    /// Reads until told to stop, which it looks for once a second.
    ///
    /// # Errors
    /// [`Error::Socket`]: nothing more can be read.
    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), Error> {
        let mut looked: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            if let Some(held) = self.queue.receive()? {
                self.judge(&held)?;
            }
            if looked.is_none_or(|at| at.elapsed() >= LOOK_AGAIN) {
                looked = Some(Instant::now());
                let new = self.overruns.new_ones();
                self.counts.overrun.fetch_add(new, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn judge(&mut self, held: &Held) -> Result<(), Error> {
        if held.queue == self.asked {
            let judged = match self.remember(held) {
                true => self.queue.release(held.queue, held.id, None, None),
                false => self.queue.discard(held.queue, held.id),
            };
            return Ok(judged?);
        }
        let ours = held.mark & phrases::MARK_MASK == phrases::MARK;
        // Nobody else is to see our mark.
        let mark = ours.then_some(0);
        let judged = match self.verdict(held) {
            Verdict::Release => self.queue.release(held.queue, held.id, mark, None),
            Verdict::Replace(packet) => {
                add(&self.counts.refused, 1);
                self.queue.release(held.queue, held.id, mark, Some(&packet))
            }
            Verdict::Discard => {
                add(&self.counts.dropped, 1);
                self.queue.discard(held.queue, held.id)
            }
        };
        Ok(judged?)
    }

    /// Remembers what is asked; whether it may go on. What is not understood may: its answer is not
    /// understood either, or one to nothing that was asked.
    fn remember(&mut self, held: &Held) -> bool {
        let Some(segment) = Segment::read_question(&held.packet).filter(|_| held.whole) else {
            return true;
        };
        let Some(content) = held.packet.get(segment.content.clone()) else {
            return true;
        };
        let sender = sender(held);
        let now = Instant::now();
        let [streams, _] = &mut self.streams;
        let messages = match segment.transport {
            Transport::Udp => vec![content.to_vec()],
            Transport::Tcp => match streams.take(&segment, content, sender, now) {
                Brings::Messages(messages) => messages.into_iter().map(|one| one.bytes).collect(),
                // What comes with the first segment (TCP Fast Open) comes again if it does not go on.
                Brings::Gap => return segment.flags & SYN == 0,
                Brings::Nothing | Brings::Shut => return true,
            },
        };
        for message in messages {
            if let Some(question) = Question::of(&segment, &message, false) {
                let forgotten = self.questions.remember(question, sender, now);
                for (loser, count) in &forgotten {
                    add(&self.counts.forgotten, *count);
                    self.counts.over(*loser, Scarce::Questions, *count);
                }
            }
        }
        true
    }

    fn verdict(&mut self, held: &Held) -> Verdict {
        let asker = sender(held);
        let strict = held.queue == self.strict;
        let segment = match Segment::read(&held.packet) {
            Some(segment) if held.whole => segment,
            _ => {
                add(&self.counts.malformed, 1);
                return unread(strict);
            }
        };
        let Some(content) = held.packet.get(segment.content.clone()) else {
            return unread(strict);
        };
        match segment.transport {
            Transport::Udp => match self.answer(&segment, content, asker, strict) {
                Ruled::Good => Verdict::Release,
                Ruled::Bad => Verdict::Discard,
                Ruled::Refuse => segment
                    .refused(&held.packet, segment.content.clone())
                    .map_or(Verdict::Discard, Verdict::Replace),
            },
            Transport::Tcp => match self.take(&segment, content, asker) {
                Brings::Nothing => Verdict::Release,
                Brings::Gap => unread(strict),
                Brings::Shut => Verdict::Discard,
                Brings::Messages(messages) => {
                    let mut packet: Option<Vec<u8>> = None;
                    for message in messages {
                        match self.answer(&segment, &message.bytes, asker, strict) {
                            Ruled::Good => {}
                            Ruled::Bad => {
                                self.shut(&segment);
                                return Verdict::Discard;
                            }
                            Ruled::Refuse => {
                                // What was sent again would not pass here a second time.
                                self.shut(&segment);
                                let at = message.at.map(|at| {
                                    let start = segment.content.start;
                                    start + at.start..start + at.end
                                });
                                let before = packet.as_deref().unwrap_or(&held.packet);
                                match at.and_then(|at| segment.refused(before, at)) {
                                    Some(changed) => packet = Some(changed),
                                    // Its beginning has gone on already.
                                    None => return Verdict::Discard,
                                }
                            }
                        }
                    }
                    packet.map_or(Verdict::Release, Verdict::Replace)
                }
            },
        }
    }

    fn take(&mut self, segment: &Segment, content: &[u8], sender: Sender) -> Brings {
        let [_, streams] = &mut self.streams;
        streams.take(segment, content, sender, Instant::now())
    }

    fn shut(&mut self, segment: &Segment) {
        let [_, streams] = &mut self.streams;
        streams.shut(segment);
    }

    /// The driver, once the daemon's loop lets go of it. To load a list of 100,000 entries takes
    /// seconds: an answer that may go on unread does not wait for so long.
    fn rules(&self, strict: bool) -> Option<MutexGuard<'_, Kernel>> {
        if strict {
            return Some(lock(&self.rules));
        }
        for _ in 0..PATIENCE {
            match self.rules.try_lock() {
                Ok(rules) => return Some(rules),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
        None
    }

    fn answer(&mut self, segment: &Segment, message: &[u8], asker: Sender, strict: bool) -> Ruled {
        let failed = || if strict { Ruled::Bad } else { Ruled::Good };
        let read = Answer::read(message);
        let question = Question::of(segment, message, true);
        let asked = question.is_some_and(|one| self.questions.answer(&one, Instant::now()));
        if strict && !asked && read != Err(Unusable::Malformed) {
            add(&self.counts.unasked, 1);
            return Ruled::Bad;
        }
        let mut answer = match read {
            Ok(answer) => answer,
            Err(Unusable::Truncated) => {
                // It goes on, since it says to ask again over TCP; nothing in it is learned.
                add(&self.counts.truncated, 1);
                return Ruled::Good;
            }
            Err(Unusable::Malformed) => {
                add(&self.counts.malformed, 1);
                return failed();
            }
        };
        add(&self.counts.read, 1);
        if !asked {
            // Its name may be denied, and that is all that it counts for.
            answer.addresses.clear();
        }
        // Where somebody just took the table away, the repair is under way and whoever asked asks
        // again.
        let heard = self
            .rules(strict)
            .map(|mut rules| rules.hear(&answer, asker));
        let Some(Ok(heard)) = heard else {
            add(&self.counts.failed, 1);
            return failed();
        };
        add(&self.counts.learned, heard.learned);
        add(&self.counts.closed, heard.closed);
        for (sender, count) in &heard.evicted {
            self.counts.over(*sender, Scarce::Addresses, *count);
        }
        let (Sender::Number(number), Some(by), Some(name)) = (asker, heard.denied, answer.asked)
        else {
            return Ruled::Good;
        };
        let refused = heard.enforced && by.refuses();
        // Full: the daemon has enough to tell of.
        let _ = self.tell.try_send(Asked {
            number,
            name,
            by,
            refused,
        });
        if refused { Ruled::Refuse } else { Ruled::Good }
    }
}

/// The number of the server, or user outside, that asked.
fn number(held: &Held) -> Option<u32> {
    let number = held.mark & !phrases::MARK_MASK;
    let ours = held.mark & phrases::MARK_MASK == phrases::MARK && number != 0;
    ours.then_some(number)
}

fn sender(held: &Held) -> Sender {
    let number = number(held).map(Sender::Number);
    number
        .or(held.uid.map(Sender::Uid))
        .unwrap_or(Sender::Unknown)
}

/// What was not understood: whoever must be read must not get it.
fn unread(strict: bool) -> Verdict {
    if strict {
        Verdict::Discard
    } else {
        Verdict::Release
    }
}
