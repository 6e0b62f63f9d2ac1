//! What cannot be admitted, told apart from what can: one wrong server must not keep all others out.

use std::collections::BTreeMap;

use super::{Installed, number};
use crate::{Admitted, ClassName, Error, sets};

impl Installed {
    /// Changes what of these cannot be admitted so that the others can be, and says what is wrong with
    /// each: at a level that is looked at it is closed, as what is not known yet; else it is left out.
    pub fn sort_out(&self, servers: &mut Vec<Admitted>) -> Vec<Error> {
        let mut wrong = Vec::new();
        let mut numbers = BTreeMap::new();
        servers.retain_mut(|server| {
            let checked = self.check(server).and_then(|()| {
                match numbers.insert(server.number, server.cgroup) {
                    Some(other)
                        if other != server.cgroup && server.class != ClassName::pending() =>
                    {
                        numbers.insert(server.number, other);
                        Err(number(server, "is given to two cgroups at once"))
                    }
                    _ => Ok(()),
                }
            });
            let Err(error) = checked else { return true };
            wrong.push(error);
            server.class = ClassName::pending();
            sets::LEVELS.contains(&server.level)
        });
        wrong
    }
}
