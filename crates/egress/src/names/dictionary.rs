//! Who may reach a name.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::rules;
use crate::{
    ClassName, Policy,
    lists::{List, ListName, Names},
    private::Closed,
};

/// What denies a name to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeniedBy {
    /// A deny list has it, on every port.
    List(ListName),
    /// A deny list has it on one port: the name is told of and answered, since a class's services
    /// say which ports there are.
    ListPort(ListName, u16),
    /// The server's class denies it.
    Class(ClassName),
    /// It is a resolver's that is asked over HTTPS, and the class reaches names only.
    Resolver(ClassName),
}

impl DeniedBy {
    /// Whether the answer is kept from who asked.
    pub fn refuses(&self) -> bool {
        !matches!(self, Self::ListPort(..))
    }
}

/// What is known of names, made ready to be looked up in.
#[derive(Debug, Default)]
pub struct Dictionary {
    lists: Option<(Arc<Vec<List>>, Names)>,
    resolvers: Option<Names>,
    /// What is closed to the classes with names.
    closed: BTreeMap<ClassName, Closed>,
}

/// What a policy says to a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Ruling<'a> {
    /// The classes that reach it.
    pub classes: Vec<&'a ClassName>,
    /// Why the server that asked may not.
    pub denied: Option<DeniedBy>,
}

impl Dictionary {
    /// Makes a policy's lists ready, if they are not those from before.
    pub fn follow(&mut self, policy: &Policy) {
        let same = |(lists, _): &(Arc<Vec<List>>, Names)| Arc::ptr_eq(lists, &policy.lists);
        if !self.lists.as_ref().is_some_and(same) {
            self.lists = Some((Arc::clone(&policy.lists), Names::new(&policy.lists)));
        }
        let closed = |(name, class): (&ClassName, _)| (name.clone(), Closed::to(class, policy));
        self.closed = rules::with_names(policy).map(closed).collect();
        if self.resolvers.is_none() && !rules::places(policy).is_empty() {
            let list = "over-https".parse().map(|name| List {
                name,
                source: String::new(),
                imported: 0,
                entries: rules::over_https(),
            });
            self.resolvers = list.ok().map(|list| Names::new(&[list]));
        }
    }

    /// Whether a class with names does not reach an address, whatever name has it. Who holds a name
    /// can point it at anything; that must not open a network that the class's admin did not.
    pub fn closes(&self, class: &ClassName, address: IpAddr) -> bool {
        let closed = self.closed.get(class);
        closed.is_some_and(|closed| closed.has(address))
    }

    /// What a policy says to a name that a server of `class` asked for.
    pub fn rule<'a>(
        &self,
        policy: &'a Policy,
        class: Option<&ClassName>,
        name: &str,
    ) -> Ruling<'a> {
        let listed = self.lists.as_ref().and_then(|(_, names)| names.find(name));
        let resolver = || {
            self.resolvers
                .as_ref()
                .is_some_and(|r| r.find(name).is_some())
        };
        let matches = |patterns: &[super::NamePattern]| patterns.iter().any(|p| p.matches(name));
        let everywhere = listed.as_ref().is_some_and(|hit| hit.port.is_none());
        let reach = policy.classes.iter().filter(|(_, class)| {
            !everywhere && matches(&class.names) && !matches(&class.deny_names) && !resolver()
        });
        let asker = class.and_then(|name| Some((name, policy.classes.get(name)?)));
        let denied =
            asker
                .filter(|(_, class)| !class.unrestricted)
                .and_then(|(class_name, class)| match &listed {
                    Some(hit) => Some(match hit.port {
                        None => DeniedBy::List(hit.list.clone()),
                        Some(port) => DeniedBy::ListPort(hit.list.clone(), port),
                    }),
                    None if matches(&class.deny_names) => Some(DeniedBy::Class(class_name.clone())),
                    None if !class.names.is_empty() && resolver() => {
                        Some(DeniedBy::Resolver(class_name.clone()))
                    }
                    None => None,
                });
        Ruling {
            classes: reach.map(|(name, _)| name).collect(),
            denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, Mode, lists::parse};

    fn policy() -> Policy {
        let mut policy = Policy::standard(Mode::Enforce);
        policy.lists = Arc::new(vec![List {
            name: "pools".parse().unwrap(),
            source: String::new(),
            imported: 0,
            entries: parse(b"pool.example\nport.example:3333").0,
        }]);
        let names = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect();
        for (name, allow, deny) in [
            ("all", &["*"][..], &["bad.example"][..]),
            ("few", &["*.example"], &[]),
            ("open", &[], &["bad.example"]),
        ] {
            let class = Class {
                names: names(allow),
                deny_names: names(deny),
                ..Class::standard()
            };
            policy.classes.insert(name.parse().unwrap(), class);
        }
        policy
    }

    fn ruling(class: &str, name: &str) -> (Vec<String>, Option<DeniedBy>) {
        let policy = policy();
        let mut dictionary = Dictionary::default();
        dictionary.follow(&policy);
        let class: ClassName = class.parse().unwrap();
        let ruling = dictionary.rule(&policy, Some(&class), name);
        let classes = ruling.classes.iter().map(ToString::to_string).collect();
        (classes, ruling.denied)
    }

    #[test]
    fn a_name_is_reached_by_the_classes_that_allow_and_do_not_deny_it() {
        assert_eq!(
            ruling("few", "a.example"),
            (vec!["all".into(), "few".into()], None)
        );
        assert_eq!(ruling("few", "a.test"), (vec!["all".into()], None));
        assert_eq!(ruling("few", "bad.example"), (vec!["few".into()], None));
        let class = |name: &str| Some(DeniedBy::Class(name.parse().unwrap()));
        assert_eq!(ruling("all", "bad.example").1, class("all"));
        assert_eq!(ruling("open", "bad.example").1, class("open"));
    }

    #[test]
    fn what_a_list_has_nobody_reaches_and_what_it_has_by_port_is_told_of_only() {
        let list = || "pools".parse().unwrap();
        let listed = (vec![], Some(DeniedBy::List(list())));
        assert_eq!(ruling("standard", "eu.pool.example"), listed);
        assert_eq!(ruling("all", "pool.example"), listed);
        let (classes, denied) = ruling("few", "port.example");
        assert_eq!(classes, ["all", "few"]);
        assert_eq!(denied, Some(DeniedBy::ListPort(list(), 3333)));
        assert!(!denied.unwrap().refuses());
    }

    #[test]
    fn resolvers_over_https_are_no_names_for_classes_with_names() {
        let (classes, denied) = ruling("all", "dns.google");
        assert_eq!(classes, [""; 0]);
        assert_eq!(denied, Some(DeniedBy::Resolver("all".parse().unwrap())));
        assert_eq!(ruling("open", "dns.google").1, None);
    }
}
