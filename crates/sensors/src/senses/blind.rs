//! Senses that do not work here, and what remains.

use policy::finding::Sense;

/// A sense that does not work here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blind {
    /// Which.
    pub sense: Sense,
    /// Why, in words that say what would help.
    pub why: String,
    /// What the others still see of the same.
    pub remains: &'static str,
}

impl Blind {
    /// One for which nothing stands in but the other senses.
    pub fn new(sense: Sense, why: String) -> Blind {
        let remains = match sense {
            Sense::Rounding => {
                "no evidence is certain; what remains for RandomX are its constants in memory and \
                 stratum, where those work"
            }
            Sense::Constants => {
                "RandomX is still known by its rounding modes, where those work, within a minute or two"
            }
            Sense::Exec => "names are still read of servers that use much CPU",
            Sense::Stratum => {
                "pools are still known by their addresses, where a deny list has them"
            }
            Sense::Scan | Sense::Volume => "what the packet rules refuse, they refuse all the same",
            Sense::Binary | Sense::Pools => "this only ever corroborated",
        };
        Blind {
            sense,
            why,
            remains,
        }
    }
}

impl std::fmt::Display for Blind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.sense, self.why, self.remains)
    }
}

/// What was loaded; else why not is noted.
pub(super) fn sighted<T>(
    sense: Sense,
    loaded: Result<T, String>,
    blind: &mut Vec<Blind>,
) -> Option<T> {
    loaded
        .map_err(|why| blind.push(Blind::new(sense, why)))
        .ok()
}
