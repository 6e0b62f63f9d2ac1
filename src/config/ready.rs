//! Classes that are ready to use: named in the configuration, they are there.
//!
//! One that nothing names is not in the packet rules, and costs nothing.

use egress::{Class, ClassName, Service};

/// The ports of databases: Microsoft SQL Server, Oracle, MySQL, PostgreSQL, Redis, MongoDB.
const DATABASES: [u16; 6] = [1433, 1521, 3306, 5432, 6379, 27017];

/// Their names.
pub(super) const NAMES: [&str; 3] = ["exam", "offline", "research"];

/// What is ready under this name; a section of the same name says what is otherwise.
pub(super) fn class(name: &ClassName) -> Option<Class> {
    match name.as_str() {
        "research" => {
            let mut class = Class::standard();
            let more = [22].iter().chain(&DATABASES);
            class.services.extend(more.copied().map(Service::tcp));
            class.services.sort_by_key(|service| *service.ports.start());
            Some(class)
        }
        // Names are not asked for: what is asked can carry an answer out.
        "exam" => Some(Class {
            dns: false,
            services: [80, 443].map(Service::tcp).to_vec(),
            nowhere_else: true,
            ..Class::default()
        }),
        "offline" => Some(Class::default()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn classes(text: &str) -> Vec<String> {
        let config = Config::parse(text).unwrap();
        let names = config.egress.classes.keys();
        names.map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn a_class_is_there_once_it_is_named_anywhere() {
        for (name, ready) in NAMES.map(|name| (name, class(&name.parse().unwrap()))) {
            assert!(ready.is_some(), "{name}");
            for text in [
                format!("[egress]\nclass = \"{name}\"\n"),
                format!("[egress]\nwhen_abusing = \"{name}\"\n"),
                format!("[users.alice]\negress_class = \"{name}\"\n"),
                format!("[groups.lab]\negress_class = \"{name}\"\n"),
                format!("[egress.classes.{name}]\n"),
            ] {
                assert!(classes(&text).contains(&name.to_owned()), "{text}");
            }
        }
        assert_eq!(classes(""), ["quarantine", "standard"]);
    }

    #[test]
    fn a_section_changes_what_it_names_and_no_more() {
        let name = "exam".parse().unwrap();
        let text = "[egress.classes.exam]\nnetworks = [\"192.168.5.10\"]\n";
        let config = Config::parse(text).unwrap();
        let exam = &config.egress.classes[&name];
        assert!(exam.nowhere_else && !exam.dns);
        assert_eq!(exam.services, class(&name).unwrap().services);
        assert_eq!(exam.networks.len(), 1);
    }

    #[test]
    fn nothing_is_reached_by_an_exam_that_names_nothing() {
        let config = Config::parse("[egress]\nclass = \"exam\"\n").unwrap();
        let exam = &config.egress.classes[&config.egress.class];
        assert!(exam.nowhere_else && exam.names.is_empty() && exam.networks.is_empty());
    }

    #[test]
    fn the_lines_that_docs_egress_proposes_are_read() {
        let page = include_str!("../../docs/egress.md");
        let table = page.split_once("## Work that standard refuses").unwrap().1;
        let table = table.split_once("\n## ").unwrap().0;
        let mut read = 0;
        for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
            let proposed = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
            let lines: Vec<String> = proposed
                .split('`')
                .filter(|part| part.contains(" = "))
                .map(|line| line.replace("...", "\"dns\", \"http\", \"https\""))
                .collect();
            let text = format!("[egress.classes.lab]\n{}\n", lines.join("\n"));
            let config = Config::parse(&text).unwrap_or_else(|why| panic!("{row}: {why:?}"));
            let lab = &config.egress.classes[&"lab".parse().unwrap()];
            let standard = Class::standard();
            if !lines.is_empty() {
                assert!(*lab != standard, "{row}");
                read += 1;
            }
        }
        assert_eq!(read, 9, "rows with a line");
    }
}
