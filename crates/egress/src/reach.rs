//! What a class reaches: elsewhere, on this node, and where an admin's rules translate to.
//!
//! A packet is judged by where it really goes. The route that it was given says so, unless its
//! destination was translated since (DNAT, a redirect): then its destination's kind does, and what it
//! asked for counts where the other alone could be abused. `docs/egress-table.md` says for what.

use super::{
    Class, ClassName, Policy, Transport,
    abuse::{self, Sender},
    datagrams, limits, listed, names,
    phrases::{self as p, Family},
    private,
    ruleset::{Chain, Expr, Rule, Set},
    sets::{self, class_chain, refuse_chain},
    table::{chain, each_family, rule},
    tracking,
};

/// A class, and what there is besides it that its rules depend on.
#[derive(Clone, Copy)]
pub struct Judged<'a> {
    pub name: &'a ClassName,
    pub class: &'a Class,
    pub policy: &'a Policy,
    /// The maps of deny lists, where they have anything in them.
    pub listed: &'a [Set],
}

/// Which address of a packet is looked at.
#[derive(Clone, Copy)]
enum Address {
    /// Where it goes.
    Real,
    /// Where its flow's first packet was sent to.
    Asked,
}

impl Address {
    fn is_in(self, family: Family, set: &str) -> Vec<Expr> {
        match self {
            Self::Real => p::destination_in(family, set),
            Self::Asked => p::asked_in(family, set),
        }
    }

    fn map(self, family: Family, ports: bool, map: &str) -> Vec<Expr> {
        match self {
            Self::Real => p::by_destination(family, ports, map),
            Self::Asked => p::by_asked(family, ports, map),
        }
    }
}

/// The chain of what of a class's packets goes elsewhere.
fn elsewhere(sender: Sender, class: &ClassName) -> String {
    format!("{}_{class}", sender.chain("elsewhere"))
}

/// The chain of those of a class's packets that are translated.
fn translated(sender: Sender, class: &ClassName) -> String {
    format!("{}_{class}", sender.chain("translated"))
}

/// The chain of the first packets of a class's flows, and of those that are translated.
fn first(sender: Sender, class: &ClassName) -> String {
    format!("{}_{class}", sender.chain("first"))
}

/// The chain of what was translated and stays on this node.
fn redirected(class: &ClassName) -> String {
    format!("redirected_{class}")
}

/// The chain of what was asked for and nobody or no server of the class may have.
fn asked(class: &ClassName) -> String {
    format!("asked_{class}")
}

/// The chain of answers that go to another address than who asked seemed to have.
fn answering(class: &ClassName) -> String {
    format!("answering_{class}")
}

fn loopback(class: &ClassName) -> String {
    format!("loopback_{class}")
}

/// The chain of what a container of the class sends to this node.
pub fn contained(class: &ClassName) -> String {
    format!("contained_here_{class}")
}

/// The chain of containers that may ask resolvers on this node, and reach no other port of it.
pub const MAY_ASK: &str = "may_ask";

impl Judged<'_> {
    /// The chains of the class that are the same whoever of it sends, and the one that judges its servers.
    pub fn chains(self) -> Vec<Chain> {
        let mut chains = vec![chain(
            &class_chain(self.name),
            self.by_where_it_goes(Sender::Server),
        )];
        chains.extend(self.chains_of(Sender::Server));
        chains.push(chain(&loopback(self.name), self.loopback()));
        if self.tracked() {
            chains.extend([
                chain(&asked(self.name), self.denied(Address::Asked)),
                chain(&redirected(self.name), self.redirected()),
                chain(&answering(self.name), self.answering()),
            ]);
        }
        chains
    }

    /// Whether a packet may be translated, and its flow known.
    fn tracked(self) -> bool {
        tracking::is_used(self.policy)
    }

    /// The rules that lead to the others.
    pub fn by_where_it_goes(self, sender: Sender) -> Vec<Rule> {
        let first = first(sender, self.name);
        let translated = translated(sender, self.name);
        let mut rules = tracking::judged_first(self.policy, sender, &first, &translated);
        let here = [p::to_loopback(), p::goto(&loopback(self.name))];
        rules.push(rule("this node", here));
        rules.push(rule("", [p::goto(&elsewhere(sender, self.name))]));
        rules
    }

    /// The chains that differ by who sends.
    pub fn chains_of(self, sender: Sender) -> Vec<Chain> {
        let elsewhere = elsewhere(sender, self.name);
        let mut chains = vec![chain(&elsewhere, self.elsewhere(sender))];
        if self.tracked() {
            let (first, translated) = (first(sender, self.name), translated(sender, self.name));
            chains.push(chain(&translated, self.translated(sender)));
            chains.extend(tracking::first(self.policy, sender, &first, &translated));
        }
        chains
    }

    /// What becomes of what the class allows.
    fn allow(self, sender: Sender) -> Vec<Expr> {
        match sender {
            Sender::Server => limits::allow(self.name, self.class),
            Sender::UidRule => limits::allow_people(self.name, self.class),
        }
    }

    /// What goes elsewhere. The first rule that matches decides.
    fn elsewhere(self, sender: Sender) -> Vec<Rule> {
        // What everybody's packets go through, before the class is asked.
        let mut rules = abuse::judged_first(self.policy, sender);
        let routed = p::next_header_in(sets::ROUTED);
        let refuse = p::goto(&refuse_chain(self.name));
        rules.push(rule("goes on to elsewhere", [routed, refuse]));
        rules.extend(each_family(
            "answers to the proxy",
            "proxies",
            || tracking::is_answer(self.policy),
            p::accept,
        ));
        if self.class.dns {
            rules.extend(self.dns());
        }
        rules.extend(self.denied(Address::Real));
        rules.extend(private::rules(self.name, self.class, self.policy));
        if self.class.has_datagrams() {
            // It comes back to all who listen on this node, too.
            let udp = p::protocol(Transport::Udp.number());
            let refuse = p::goto(&refuse_chain(self.name));
            rules.push(rule("to all listeners", [udp, p::to_broadcast(), refuse]));
        }
        let allow = || self.allow(sender);
        rules.extend(names::reached(self.name, self.class, &allow));
        rules.push(rule("", [p::goto(&refuse_chain(self.name))]));
        rules
    }

    /// What nobody, or no server of the class, may reach by this address.
    fn denied(self, address: Address) -> Vec<Rule> {
        let refuse = refuse_chain(self.name);
        let mut rules = Vec::new();
        for family in [Family::V4, Family::V6] {
            for ports in [false, true] {
                let map = listed::map(family, ports);
                // An empty map would cost every packet a look.
                if self.listed.iter().any(|set| set.name == map) {
                    rules.push(rule("listed", [address.map(family, ports, &map)]));
                }
            }
        }
        let mut networks = vec![String::new()];
        if !self.class.deny_networks.is_empty() {
            networks.push(format!("_{}", self.name));
        }
        for whose in networks {
            for family in [Family::V4, Family::V6] {
                let set = format!("denied{}{whose}", family.digit());
                let denied = address.is_in(family, &set);
                rules.push(rule("denied", [denied, p::goto(&refuse)]));
            }
        }
        rules
    }

    /// What goes to another address or port than it asked for.
    fn translated(self, sender: Sender) -> Vec<Rule> {
        let elsewhere = || p::goto(&elsewhere(sender, self.name));
        let mut rules = vec![
            // Who asked is the other side; what it asked for says nothing of who is answered.
            rule("answers", [p::is_answer(), p::goto(&answering(self.name))]),
        ];
        rules.extend(hub(self.policy));
        if self.class.dns {
            rules.extend(self.asked_resolvers());
        }
        let elsewhere_asked = [p::not_to_loopback(), p::jump(&asked(self.name))];
        rules.push(rule("", elsewhere_asked));
        let here = [p::to_this_node(), p::goto(&redirected(self.name))];
        rules.push(rule("this node", here));
        if let Some(ports) = self.ports() {
            rules.extend(self.denied(Address::Real));
            let asked = p::asked_tcp_port_in(&ports);
            let opened = [p::to_loopback(), asked, self.allow(sender)];
            rules.push(rule("allowed on this node", opened));
        }
        rules.push(rule("", [elsewhere()]));
        rules
    }

    /// What answers a flow of which either end is translated.
    fn answering(self) -> Vec<Rule> {
        let elsewhere = elsewhere(Sender::Server, self.name);
        vec![
            rule("answers", [p::to_this_node(), p::accept()]),
            rule("", [p::goto(&elsewhere)]),
        ]
    }

    /// What was translated and stays on this node.
    fn redirected(self) -> Vec<Rule> {
        let mut rules = Vec::new();
        if let Some(ports) = self.ports() {
            let asked = [p::to_loopback(), p::asked_tcp_port_in(&ports), p::accept()];
            rules.push(rule("allowed on this node", asked));
            // What listens at an open port may be a proxy that goes on to what was asked for. This
            // node's own addresses are no private network.
            rules.extend(self.asked_in_private(p::not_to_loopback, &ports));
        }
        rules.push(rule("", [p::goto(&loopback(self.name))]));
        rules
    }

    fn asked_in_private(self, condition: impl Fn() -> Vec<Expr>, ports: &str) -> Vec<Rule> {
        private::asked((self.name, self.class), self.policy, || {
            [condition(), p::tcp_port_in(ports)].concat()
        })
    }

    /// The set of the ports of this node that the class opens, if it does.
    fn ports(self) -> Option<String> {
        let opens = !self.class.loopback_ports.is_empty();
        opens.then(|| format!("ports_{}", self.name))
    }

    /// Questions to the resolvers.
    fn dns(self) -> Vec<Rule> {
        dns(|| names::ask(self.policy, self.class))
    }

    /// Questions that were for the resolvers, wherever the admin's rules have them answered.
    fn asked_resolvers(self) -> [Rule; 2] {
        [Family::V4, Family::V6].map(|family| {
            let set = format!("resolvers{}", family.digit());
            let asked = [p::asked_service_in("dns"), p::asked_in(family, &set)];
            let then = names::ask(self.policy, self.class);
            rule("resolvers", [asked.concat(), then])
        })
    }

    /// What is sent to this node itself.
    fn loopback(self) -> Vec<Rule> {
        let refuse = || p::goto(&refuse_chain(self.name));
        let mut rules = Vec::new();
        if self.tracked() {
            let who_asked = [p::is_answer(), p::source_is_translated()].concat();
            rules.extend([
                rule(
                    "answers, to whom they really go",
                    [who_asked, p::goto(&answering(self.name))],
                ),
                rule("answers", [p::is_answer(), p::accept()]),
            ]);
        }
        if self.class.dns && names::reads(self.policy, self.class) {
            // All of a connection to a resolver is read, not its first packet alone.
            let dns = [p::tcp_port_is(names::DNS), p::jump(names::TO_RESOLVERS)];
            rules.push(rule("resolvers", dns));
        }
        let begun = [p::continues_tcp(), p::accept()];
        rules.push(rule("judged at its first packet", begun));
        if !self.tracked() {
            rules.extend(datagrams::answers());
            // Until it is known that another's rules translate, what they lead away is judged by where it goes.
            let away = p::goto(&elsewhere(Sender::Server, self.name));
            rules.push(rule(
                "leaves this node after all",
                [p::to_another_node(), away],
            ));
        }
        let hub = [p::tcp_port_in("hub_ports"), p::goto("to_listener")];
        rules.push(rule("the hub", hub));
        if let Some(ports) = self.ports() {
            let ports = p::tcp_port_in(&ports);
            rules.push(rule("allowed on this node", [ports, p::accept()]));
        }
        if self.class.dns {
            rules.extend(self.dns());
        }
        let tcp = p::protocol(Transport::Tcp.number());
        rules.push(rule("its own listeners", [tcp, p::goto("to_listener")]));
        // What goes to several listeners is looked up on arrival as if it went to one.
        let groups = [Family::V4, Family::V6].map(p::to_group);
        for to_all in [p::to_broadcast()].into_iter().chain(groups) {
            rules.push(rule("to all listeners", [to_all, refuse()]));
        }
        let udp = p::protocol(Transport::Udp.number());
        rules.push(rule("its own listeners", [udp, p::goto("to_listener")]));
        const ICMP: u8 = 1;
        const ICMPV6: u8 = 58;
        for number in [ICMP, ICMPV6] {
            rules.push(rule("ping", [p::protocol(number), p::accept()]));
        }
        rules.push(rule("", [refuse()]));
        rules
    }

    /// What a container of the class sends to this node, other than answers and to the hub.
    pub fn contained(self) -> Chain {
        let translated = || p::is_translated();
        let mut rules = Vec::new();
        if self.tracked() && self.class.dns {
            let resolvers = self.asked_resolvers().map(|mut asked| {
                asked.exprs.splice(0..0, translated());
                asked
            });
            rules.extend(resolvers);
        }
        if self.tracked() {
            rules.push(rule("", [translated(), p::jump(&asked(self.name))]));
        }
        if let Some(ports) = self.ports() {
            if self.tracked() {
                rules.extend(self.asked_in_private(translated, &ports));
            }
            let ports = p::tcp_port_in(&ports);
            rules.push(rule("allowed on this node", [ports, p::accept()]));
        }
        if self.class.dns {
            rules.push(rule("", [p::goto(MAY_ASK)]));
        } else {
            let names = [p::service_in("dns"), p::goto(&refuse_chain(self.name))];
            rules.extend([rule("names", names), rule("", [p::goto("not_its_own")])]);
        }
        chain(&contained(self.name), rules)
    }
}

/// Requests to a port of the hub on this node. The listener is checked where the packet arrives, unless
/// an admin's rules redirect it to another port.
pub fn hub(policy: &Policy) -> Vec<Rule> {
    let tracked = tracking::is_used(policy);
    let port = match tracked {
        true => p::asked_tcp_port_in("hub_ports"),
        false => p::tcp_port_in("hub_ports"),
    };
    let asked = [p::to_loopback(), port].concat();
    let here = [asked.clone(), p::to_this_node(), p::goto("to_listener")];
    let led_away = tracked.then(|| rule("the hub", [asked, p::accept()]));
    [rule("the hub", here)]
        .into_iter()
        .chain(led_away)
        .collect()
}

/// Questions to the resolvers, and what becomes of them.
pub fn dns(then: impl Fn() -> Vec<Expr>) -> Vec<Rule> {
    each_family("resolvers", "resolvers", || p::service_in("dns"), then)
}
