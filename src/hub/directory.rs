//! What the hub itself says of its servers and people, as plain data.
//!
//! [`super::api`] fills it; whoever identifies a server or looks for a person's groups reads it.

use super::UnitName;
use quantities::HubUser;
use std::collections::BTreeMap;

/// Whose a server is, in the hub's own words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The user.
    pub user: HubUser,
    /// The server's name; empty for the default one.
    pub server: String,
}

/// What the hub says of a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    /// The hub groups they are in, sorted.
    pub groups: Vec<String>,
    /// When the hub last saw them, as it writes times (ISO 8601). A user can forge it upwards: it
    /// may soften an alarm and never clear one.
    pub last_activity: Option<String>,
}

/// The hub's word on every running server and its owner.
///
/// A unit or container that two servers name has both in its list: the hub contradicts itself, and
/// others decide. Who administers the hub is not noted: that exempts nobody on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubDirectory {
    units: BTreeMap<UnitName, Vec<Listed>>,
    containers: BTreeMap<String, Vec<Listed>>,
    people: BTreeMap<HubUser, Person>,
}

impl HubDirectory {
    /// Notes a person.
    pub fn add_person(&mut self, user: HubUser, person: Person) {
        self.people.insert(user, person);
    }

    /// Notes in which unit a server runs. `raw` is SystemdSpawner's `unit_name`, not escaped and
    /// without a suffix.
    pub fn add_unit(&mut self, raw: &str, listed: Listed) {
        let unit = UnitName(format!("{}.service", super::escape(raw)));
        add(self.units.entry(unit).or_default(), listed);
    }

    /// Notes in which container a server runs, by its full id.
    pub fn add_container(&mut self, id: &str, listed: Listed) {
        add(self.containers.entry(id.to_owned()).or_default(), listed);
    }

    /// Whether both say the same of every server, whatever they say of people.
    pub fn same_servers(&self, other: &HubDirectory) -> bool {
        self.units == other.units && self.containers == other.containers
    }

    /// Whether both say the same of everybody's groups.
    pub fn same_groups(&self, other: &HubDirectory) -> bool {
        let groups = |directory: &HubDirectory| -> Vec<(HubUser, Vec<String>)> {
            let people = directory.people.iter();
            people
                .filter(|(_, person)| !person.groups.is_empty())
                .map(|(user, person)| (user.clone(), person.groups.clone()))
                .collect()
        };
        groups(self) == groups(other)
    }

    /// Whose a unit is; more than one is a contradiction.
    pub fn of_unit(&self, unit: &UnitName) -> &[Listed] {
        self.units.get(unit).map_or(&[], Vec::as_slice)
    }

    /// Whose a container is, by its full id; more than one is a contradiction.
    pub fn of_container(&self, id: &str) -> &[Listed] {
        self.containers.get(id).map_or(&[], Vec::as_slice)
    }

    /// Every unit that the hub names, with the servers in it.
    pub fn units(&self) -> impl Iterator<Item = (&UnitName, &Listed)> {
        let units = self.units.iter();
        units.flat_map(|(unit, all)| all.iter().map(move |one| (unit, one)))
    }

    /// Every container that the hub names, by its full id, with the servers in it.
    pub fn containers(&self) -> impl Iterator<Item = (&str, &Listed)> {
        let containers = self.containers.iter();
        containers.flat_map(|(id, all)| all.iter().map(move |one| (id.as_str(), one)))
    }

    /// What is known of a person; only those with a running server are listed.
    pub fn person(&self, user: &HubUser) -> Option<&Person> {
        self.people.get(user)
    }

    /// Everybody with a running server.
    pub fn people(&self) -> &BTreeMap<HubUser, Person> {
        &self.people
    }
}

fn add(list: &mut Vec<Listed>, listed: Listed) {
    if !list.contains(&listed) {
        list.push(listed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_found_as_systemd_writes_it() {
        let mut directory = HubDirectory::default();
        let listed = Listed {
            user: HubUser("a b".into()),
            server: String::new(),
        };
        directory.add_unit("jupyter-a b", listed.clone());
        let unit = UnitName("jupyter-a\\x20b.service".into());
        assert_eq!(directory.of_unit(&unit), [listed]);
        assert!(directory.of_container("jupyter-a b").is_empty());
    }
}
