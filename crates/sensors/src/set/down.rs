//! Sensors that do not work here, and what remains.

use policy::finding::Sensor;

/// A sensor that does not work here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SensorDown {
    /// Which.
    pub sensor: Sensor,
    /// Why, in words that say what would help.
    pub why: String,
    /// What the others still see of the same.
    pub remains: &'static str,
}

impl SensorDown {
    /// One for which nothing stands in but the other sensors.
    pub fn new(sensor: Sensor, why: String) -> SensorDown {
        let remains = match sensor {
            Sensor::Rounding => {
                "no evidence is certain; what remains for RandomX are its constants in memory and \
                 stratum, where those work"
            }
            Sensor::Constants => {
                "RandomX is still known by its rounding modes, where those work, within a minute or two"
            }
            Sensor::Exec => "names are still read of servers that use much CPU",
            Sensor::Stratum => {
                "pools are still known by their addresses, where a deny list has them"
            }
            Sensor::Scan | Sensor::Volume => {
                "what the packet rules refuse, they refuse all the same"
            }
            Sensor::Binary | Sensor::Pools => "this only ever corroborated",
        };
        SensorDown {
            sensor,
            why,
            remains,
        }
    }
}

impl std::fmt::Display for SensorDown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.sensor, self.why, self.remains)
    }
}

/// What was loaded; else why not is noted.
pub(super) fn load_or_note<T>(
    sensor: Sensor,
    loaded: Result<T, String>,
    down: &mut Vec<SensorDown>,
) -> Option<T> {
    loaded
        .map_err(|why| down.push(SensorDown::new(sensor, why)))
        .ok()
}
