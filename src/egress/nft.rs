//! The driver for nf_tables.

use std::time::Instant;

use nix::errno::Errno;

use super::{
    Admitted, Audit, Audited, Bridges, CgroupId, ClassName, Damage, Difference, DifferenceKind,
    Error, Firewall, Mode, People, Policy, Sent, Traffic, bridges,
    encode::{self, Change},
    installed::{Delta, Installed},
    limits,
    message::Message,
    names::{self, DeniedBy, Dictionary, Queueing},
    phrases, readback,
    ruleset::{Element, Ruleset},
    sets,
    socket::Netlink,
    table,
    uapi::{NFPROTO_BRIDGE, NFPROTO_INET, NFT_TABLE_F_OWNER, NFT_TABLE_F_PERSIST},
};

/// One writer of `table inet hubwarden` in the network namespace it was opened in.
#[derive(Debug)]
pub struct Nft {
    netlink: Netlink,
    installed: Option<Installed>,
    /// `NFT_TABLE_F_*` that the table is made with.
    flags: u32,
    /// How packets are queued, once it was tried.
    queueing: Option<Queueing>,
    /// The names of deny lists.
    dictionary: Dictionary,
    /// How often addresses of names were written. Each time raises the generation.
    learned: u32,
    /// The containers of the moment.
    bridges: Bridges,
    /// Whether the kernel has rules for bridges, once it was asked.
    bridging: Option<Result<(), Errno>>,
}

impl Nft {
    /// Open the kernel's rules, of the calling thread's network namespace. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            netlink: Netlink::open()?,
            installed: None,
            flags: 0,
            queueing: None,
            dictionary: Dictionary::default(),
            learned: 0,
            bridges: Bridges::default(),
            bridging: None,
        })
    }

    /// Have the kernel keep everybody else from changing the table while this writer lives, where
    /// it can do so and leave the table standing when the writer ends (`NFT_TABLE_F_OWNER` with
    /// `NFT_TABLE_F_PERSIST`, 6.9). Elsewhere nothing changes: without the second flag the rules
    /// would go with the daemon.
    pub fn owning(mut self) -> Self {
        let held = Ruleset {
            family: NFPROTO_INET,
            table: format!("{}-probe", table::TABLE),
            flags: NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST,
            ..Ruleset::default()
        };
        let taken = encode::create(&held)
            .and_then(|mut messages| {
                messages.extend(encode::remove(held.family, &held.table)?);
                Ok(messages)
            })
            .and_then(|messages| self.netlink.transact("try to own a table", &messages));
        if taken.is_ok() {
            self.flags = held.flags;
        }
        self
    }

    /// Whether nobody else can change the table while this writer lives.
    pub fn owns(&self) -> bool {
        self.flags & NFT_TABLE_F_OWNER != 0
    }

    /// What [`Monitor`](super::Monitor) knows this writer by.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn port(&self) -> Result<u32, Error> {
        self.netlink.port()
    }

    fn installed(&self, attempt: &'static str) -> Result<&Installed, Error> {
        self.installed.as_ref().ok_or(Error::NotLoaded { attempt })
    }

    /// Make a change in the kernel, then in memory. Where the kernel's table is not as
    /// remembered, the whole of it is installed anew with the change in it.
    fn change(&mut self, attempt: &'static str, delta: Delta) -> Result<(), Error> {
        let Some(installed) = &mut self.installed else {
            return Err(Error::NotLoaded { attempt });
        };
        if delta.is_empty() {
            return Ok(());
        }
        match self
            .netlink
            .transact(attempt, &messages(&delta, installed.policy())?)
        {
            Ok(()) => {
                installed.apply(delta);
                Ok(())
            }
            Err(error) if is_drift(&error) => {
                let mut next = installed.clone();
                next.apply(delta);
                self.install(attempt, next)
            }
            Err(error) => Err(error),
        }
    }

    fn install(&mut self, attempt: &'static str, mut installed: Installed) -> Result<(), Error> {
        installed.make_room();
        let (mut inet, bridge) = self.rulesets(&installed);
        self.carry_flows(&mut inet)?;
        let mut messages = encode::replace(&inet)?;
        if self.bridging().is_ok() {
            messages.extend(encode::remove(NFPROTO_BRIDGE, table::TABLE)?);
            if let Some(bridge) = bridge {
                messages.extend(encode::create(&bridge)?);
            }
        }
        self.netlink.transact(attempt, &messages).map_err(owned)?;
        self.installed = Some(installed);
        Ok(())
    }

    /// The tables as this kernel can have them.
    fn rulesets(&self, installed: &Installed) -> (Ruleset, Option<Ruleset>) {
        rulesets(installed, self.flags, self.queueing)
    }

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

    /// Have a class's servers reach the addresses of a name that a resolver told of, or say that
    /// whoever asked may not have them. `asker` is the number of the server that asked, where one
    /// did.
    ///
    /// # Errors
    /// [`Error::NotLoaded`], or the kernel's refusal: nothing is reached then.
    pub fn hear(&mut self, answer: &names::Answer, asker: Option<u32>) -> Result<Heard, Error> {
        let attempt = "learn a name's addresses";
        let now = Instant::now();
        let Some(installed) = &mut self.installed else {
            return Err(Error::NotLoaded { attempt });
        };
        let Some(asked) = &answer.asked else {
            return Ok(Heard::default());
        };
        let class = asker.and_then(|number| installed.class_of(number));
        let ruling = self.dictionary.rule(installed.policy(), class, asked);
        let mut heard = Heard {
            denied: ruling.denied,
            enforced: installed.policy().mode == Mode::Enforce,
            learned: 0,
        };
        let news = installed
            .learned
            .news(&ruling.classes, asked, &answer.addresses, now);
        if news.is_empty() {
            return Ok(heard);
        }
        self.netlink.transact(attempt, &names::messages(&news)?)?;
        self.learned = self.learned.wrapping_add(1);
        heard.learned = news.len();
        installed.learned.apply(news, asked, now);
        Ok(heard)
    }

    /// What an earlier daemon, or this one, learned, as far as a policy still allows it.
    fn carry_learned(&mut self, next: &mut Installed) -> Result<(), Error> {
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

    /// Puts into a ruleset the flows that the kernel knows, so that they outlast its change.
    fn carry_flows(&mut self, ruleset: &mut Ruleset) -> Result<(), Error> {
        for set in &mut ruleset.sets {
            if names::is_flows_set(&set.name) {
                set.elements = elements_if_there(&mut self.netlink, &set.name)?;
                // One that ends just now has no time left to be written with.
                set.elements.retain(|element| element.timeout_ms > 0);
            }
        }
        Ok(())
    }

    /// Adds what came in by containers' ports to what their cgroups sent.
    fn sent_by_containers(&mut self, sent: &mut Vec<Sent>) -> Result<(), Error> {
        let Some(installed) = &self.installed else {
            return Ok(());
        };
        if installed.bridges().servers.is_empty() {
            return Ok(());
        }
        let counts = readback::counts(&mut self.netlink, table::TABLE, bridges::CONTAINED)?;
        for (key, packets, bytes) in counts {
            let Ok(mark) = key.try_into().map(u32::from_ne_bytes) else {
                continue;
            };
            let number = mark & Admitted::NUMBER_MAX;
            let mut ports = installed.bridges().servers.values();
            let Some(port) = ports.find(|port| port.number == number) else {
                continue;
            };
            match sent.iter_mut().find(|sent| sent.cgroup == port.cgroup) {
                Some(known) => {
                    known.packets = known.packets.saturating_add(packets);
                    known.bytes = known.bytes.saturating_add(bytes);
                }
                None => sent.push(Sent {
                    cgroup: port.cgroup,
                    packets,
                    bytes,
                }),
            }
        }
        Ok(())
    }

    /// Asks the kernel once whether it has rules for bridges, as `probe` does for the rest.
    fn bridging(&mut self) -> Result<(), Errno> {
        if let Some(known) = self.bridging {
            return known;
        }
        let mut ruleset = bridges::build(&Policy::standard(Mode::Enforce));
        ruleset.table = format!("{}-probe", table::TABLE);
        let tried = encode::create(&ruleset).and_then(|mut messages| {
            messages.extend(encode::remove(ruleset.family, &ruleset.table)?);
            self.netlink.transact("try rules for bridges", &messages)
        });
        let known = tried.map_err(|error| error.errno().unwrap_or(Errno::EOPNOTSUPP));
        self.bridging = Some(known);
        known
    }
}

/// What became of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What denies the name to who asked for it.
    pub denied: Option<DeniedBy>,
    /// Whether the policy refuses what is denied.
    pub enforced: bool,
    /// How many addresses were written.
    pub learned: usize,
}

fn elements_if_there(netlink: &mut Netlink, set: &str) -> Result<Vec<Element>, Error> {
    match readback::elements(netlink, NFPROTO_INET, table::TABLE, set) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
        found => found,
    }
}

/// What should stand, of both families.
fn rulesets(
    installed: &Installed,
    flags: u32,
    queueing: Option<Queueing>,
) -> (Ruleset, Option<Ruleset>) {
    let owned = |ruleset| Ruleset { flags, ..ruleset };
    let mut inet = installed.ruleset();
    names::queued_by(&mut inet, queueing.unwrap_or(Queueing::Missing));
    (owned(inet), installed.bridge_ruleset().map(owned))
}

fn verify(
    netlink: &mut Netlink,
    (inet, bridge): &(Ruleset, Option<Ruleset>),
    bridging: bool,
) -> Result<Audited, Error> {
    const TRIES: u32 = 5;
    for _ in 0..TRIES {
        let (generation, found) = readback::read(netlink, NFPROTO_INET, table::TABLE)?;
        let mut differences = readback::compare(inet, found.as_ref());
        if bridging {
            let (again, found) = readback::read(netlink, NFPROTO_BRIDGE, table::TABLE)?;
            if again != generation {
                continue;
            }
            let on_bridges = match (bridge, found) {
                (Some(bridge), found) => readback::compare(bridge, found.as_ref()),
                (None, None) => Vec::new(),
                (None, Some(_)) => vec![Difference {
                    object: format!("table {}", table::TABLE),
                    kind: DifferenceKind::Foreign,
                }],
            };
            differences.extend(on_bridges.into_iter().map(|difference| Difference {
                object: format!("{} (bridge)", difference.object),
                ..difference
            }));
        }
        return Ok(Audited {
            generation,
            differences,
        });
    }
    Err(Error::Unsettled {
        attempt: "read the egress tables",
        tries: TRIES,
    })
}

/// Who may not write at all is told so when the socket is opened; a refusal later is the owner's.
fn owned(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EPERM) => Error::Owned,
        _ => error,
    }
}

/// Whether an error says that the kernel's table is another than remembered, or that a set of it
/// is full.
fn is_drift(error: &Error) -> bool {
    matches!(error, Error::NoAnswer { .. })
        || matches!(
            error.errno(),
            Some(Errno::ENOENT | Errno::EEXIST | Errno::EBUSY | Errno::ENFILE)
        )
}

fn messages(delta: &Delta, policy: &Policy) -> Result<Vec<Message>, Error> {
    let of_servers = |servers: &[Admitted]| {
        servers
            .iter()
            .flat_map(|server| sets::elements_of(policy, server))
            .collect::<Vec<_>>()
    };
    let of_slices = |slices: &[CgroupId]| {
        slices
            .iter()
            .map(|slice| (sets::GUARDED.to_owned(), sets::guard(*slice)))
            .collect()
    };
    let mut messages = Vec::new();
    for (change, elements) in [
        (Change::Delete, of_servers(&delta.gone)),
        (Change::Add, of_servers(&delta.come)),
        (Change::Delete, of_slices(&delta.unguarded)),
        (Change::Add, of_slices(&delta.guarded)),
    ] {
        messages.extend(by_set(change, elements)?);
    }
    Ok(messages)
}

fn by_set(change: Change, elements: Vec<(String, Element)>) -> Result<Vec<Message>, Error> {
    let inet = |(set, element)| (NFPROTO_INET, set, element);
    grouped(change, elements.into_iter().map(inet).collect())
}

fn by_family<'a>(
    change: Change,
    elements: impl Iterator<Item = &'a (u8, String, Element)>,
) -> Result<Vec<Message>, Error> {
    grouped(change, elements.cloned().collect())
}

fn grouped(
    change: Change,
    mut elements: Vec<(u8, String, Element)>,
) -> Result<Vec<Message>, Error> {
    elements.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let mut messages = Vec::new();
    for group in elements.chunk_by(|a, b| (a.0, &a.1) == (b.0, &b.1)) {
        let list: Vec<_> = group.iter().map(|(.., element)| element.clone()).collect();
        let (family, set, _) = &group[0];
        messages.extend(encode::elements(*family, table::TABLE, set, change, &list)?);
    }
    Ok(messages)
}

impl Firewall for Nft {
    fn probe(&mut self) -> Result<(), Error> {
        let mut policy = Policy::standard(Mode::Enforce);
        policy.resolvers.push(std::net::Ipv4Addr::LOCALHOST.into());
        let mut ruleset = table::build(&policy);
        ruleset.table = format!("{}-probe", table::TABLE);
        let mut messages = encode::create(&ruleset)?;
        messages.extend(encode::remove(ruleset.family, &ruleset.table)?);
        self.netlink.transact("try the egress table", &messages)
    }

    fn load_with_people(
        &mut self,
        policy: &Policy,
        guarded: &[CgroupId],
        servers: &[Admitted],
        people: &People,
    ) -> Result<(), Error> {
        let mut next = Installed::new(policy)?;
        if names::uses(policy) {
            self.queueing()?;
        }
        self.dictionary.follow(policy);
        self.carry_learned(&mut next)?;
        next.apply(next.admit(servers)?);
        next.apply(next.guard(guarded));
        next.set_people(people)?;
        next.set_bridges(self.bridges.clone());
        self.install("load the egress table", next)
    }

    fn admit(&mut self, servers: &[Admitted]) -> Result<(), Error> {
        let attempt = "admit servers";
        let delta = self.installed(attempt)?.admit(servers)?;
        self.change(attempt, delta)
    }

    fn forget(&mut self, cgroups: &[CgroupId]) -> Result<(), Error> {
        let attempt = "forget servers";
        let delta = self.installed(attempt)?.forget(cgroups);
        self.change(attempt, delta)
    }

    fn reclass(&mut self, changes: &[(CgroupId, ClassName)]) -> Result<(), Error> {
        let attempt = "change servers' classes";
        let delta = self.installed(attempt)?.reclass(changes)?;
        self.change(attempt, delta)
    }

    fn set_guarded(&mut self, slices: &[CgroupId]) -> Result<(), Error> {
        let attempt = "guard slices";
        let delta = self.installed(attempt)?.guard(slices);
        self.change(attempt, delta)
    }

    fn set_people(&mut self, people: &People) -> Result<(), Error> {
        let attempt = "judge users outside their servers";
        let installed = self.installed(attempt)?;
        if installed.people() == people {
            return Ok(());
        }
        let [gone, come] = people.change(installed.people(), installed.policy());
        let mut next = installed.clone();
        next.set_people(people)?;
        let mut messages = by_set(Change::Delete, gone)?;
        messages.extend(by_set(Change::Add, come)?);
        if messages.is_empty() {
            self.installed = Some(next);
            return Ok(());
        }
        match self.netlink.transact(attempt, &messages) {
            Ok(()) => {
                self.installed = Some(next);
                Ok(())
            }
            Err(error) if is_drift(&error) => self.install(attempt, next),
            Err(error) => Err(error),
        }
    }

    fn set_bridges(&mut self, bridges: &Bridges) -> Result<(), Error> {
        if let (false, Err(errno)) = (bridges.is_empty(), self.bridging()) {
            return Err(Error::NoBridges { errno });
        }
        self.bridges = bridges.clone();
        let attempt = "judge other containers";
        let Some(installed) = &mut self.installed else {
            return Ok(());
        };
        let before = installed.bridges();
        if before == bridges {
            return Ok(());
        }
        let mut next = installed.clone();
        next.set_bridges(bridges.clone());
        if before.is_empty() == bridges.is_empty() {
            let (old, new) = (before.elements(), bridges.elements());
            let mut messages = by_family(Change::Delete, old.difference(&new))?;
            messages.extend(by_family(Change::Add, new.difference(&old))?);
            match self.netlink.transact(attempt, &messages) {
                Ok(()) => {
                    *installed = next;
                    return Ok(());
                }
                Err(error) if is_drift(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.install(attempt, next)
    }

    fn remove(&mut self) -> Result<(), Error> {
        let mut messages = encode::remove(NFPROTO_INET, table::TABLE)?;
        if self.bridging().is_ok() {
            messages.extend(encode::remove(NFPROTO_BRIDGE, table::TABLE)?);
        }
        self.netlink
            .transact("remove the egress table", &messages)
            .map_err(owned)?;
        self.installed = None;
        Ok(())
    }

    fn verify(&mut self) -> Result<Vec<Difference>, Error> {
        let installed = self.installed("verify the egress table")?.clone();
        let bridging = self.bridging().is_ok();
        let expected = self.rulesets(&installed);
        let audited = verify(&mut self.netlink, &expected, bridging)?;
        Ok(audited.differences)
    }

    fn repair(&mut self, damage: &Damage) -> Result<bool, Error> {
        let attempt = "repair the egress table";
        let installed = self.installed(attempt)?;
        if let Some(patch) = damage.patch(installed) {
            if patch.is_empty() {
                return Ok(false);
            }
            let mut messages = Vec::new();
            for wanted in [Change::Delete, Change::Add] {
                let elements = patch
                    .changes
                    .iter()
                    .filter(|(change, ..)| *change == wanted);
                let elements = elements.map(|(_, set, element)| (set.clone(), element.clone()));
                messages.extend(by_set(wanted, elements.collect())?);
            }
            match self.netlink.transact(attempt, &messages) {
                Ok(()) => return Ok(true),
                // More has happened than the notice knew.
                Err(error) if is_drift(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let installed = self.installed(attempt)?.clone();
        self.install(attempt, installed)?;
        Ok(true)
    }

    fn audit(&mut self) -> Result<Audit, Error> {
        let installed = self.installed("audit the egress table")?.clone();
        let (learned, bridging) = (self.learned, self.bridging().is_ok());
        let expected = self.rulesets(&installed);
        // Opened here: the thread it is used on may be in another network namespace.
        let mut netlink = Netlink::open()?;
        Ok(Box::new(move || {
            let audited = verify(&mut netlink, &expected, bridging)?;
            Ok(Audited {
                generation: audited.generation.wrapping_sub(learned),
                ..audited
            })
        }))
    }

    fn sent(&mut self) -> Result<Vec<Sent>, Error> {
        self.installed("read the servers' counters")?;
        let mut sent = Vec::new();
        for level in sets::LEVELS {
            let counts = readback::counts(&mut self.netlink, table::TABLE, &sets::servers(level))?;
            sent.extend(counts.into_iter().filter_map(|(key, packets, bytes)| {
                let cgroup = CgroupId(u64::from_ne_bytes(key.try_into().ok()?));
                Some(Sent {
                    cgroup,
                    packets,
                    bytes,
                })
            }));
        }
        self.sent_by_containers(&mut sent)?;
        Ok(sent)
    }

    fn traffic(&mut self) -> Result<Vec<Traffic>, Error> {
        let policy = self.installed("read the servers' traffic")?.policy();
        let sets: Vec<String> = limits::traffic_sets(policy).collect();
        let mut traffic = Vec::new();
        for set in sets {
            let counts = readback::counts(&mut self.netlink, table::TABLE, &set)?;
            traffic.extend(counts.into_iter().filter_map(|(key, _, bytes)| {
                let mark = u32::from_ne_bytes(key.try_into().ok()?);
                let number = mark & !phrases::MARK_MASK;
                Some(Traffic { number, bytes })
            }));
        }
        Ok(traffic)
    }

    fn lacks(&mut self) -> Option<String> {
        let policy = self.installed.as_ref()?.policy();
        if self.queueing != Some(Queueing::Missing) || names::places(policy).is_empty() {
            return None;
        }
        Some(
            "Classes with names reach nothing by name: this kernel queues no packets to be read \
             (it needs CONFIG_NFT_QUEUE, or CONFIG_NFT_COMPAT with \
             CONFIG_NETFILTER_XT_TARGET_NFQUEUE). Use networks in these classes."
                .to_owned(),
        )
    }

    /// What is learned raises the kernel's number too, and changes nothing that anybody should look
    /// at: it is not counted.
    fn generation(&mut self) -> Result<u32, Error> {
        let generation = self.netlink.generation()?;
        Ok(generation.wrapping_sub(self.learned))
    }
}
