//! `[evidence]`: what tells a miner from a training job, and what becomes of one.

use super::decode::{FromToml, Section};
use super::or_none::OrNone;
use policy::finding::Sensor;
use policy::{Consequences, Stage, Stop};
use quantities::Cores;
use sensors::set::Settings;
use std::time::Duration;
use toml::de::DeValue;

/// `[evidence]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// A server that uses more than this is looked at, and so is one that would if it did not wait for the
    /// CPU, and one that runs into its quota.
    pub hot: Cores,
    /// Once it did for this long.
    pub hot_for: Duration,
    /// Which sensors look, and for how long they count together.
    pub settings: Settings,
    /// What evidence leads to.
    pub consequences: Consequences,
}

impl Default for Evidence {
    fn default() -> Self {
        Evidence {
            hot: Cores(0.2),
            hot_for: Duration::ZERO,
            settings: Settings::default(),
            consequences: Consequences::default(),
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>, default: Evidence) -> Evidence {
    let second = Duration::from_secs(1);
    let (settings, plain) = (default.settings, default.consequences);
    let sensors = section.optional_list::<Sensor>("sensors");
    let level = |read: Option<Then>, default| read.map_or(default, |Then(stage)| stage);
    let evidence = Evidence {
        hot: section.ranged("hot", default.hot, Cores(0.01)..=Cores(4096.0)),
        hot_for: section.ranged("hot_for", default.hot_for, Duration::ZERO..=3600 * second),
        settings: Settings {
            sensors: sensors.map_or(settings.sensors, |sensors| sensors.into_iter().collect()),
            window: section.ranged("window", settings.window, 5 * second..=600 * second),
        },
        consequences: Consequences {
            high: level(section.optional("high"), plain.high),
            certain: level(section.optional("certain"), plain.certain),
            stop_after: section
                .optional::<OrNone<Duration>>("stop_after")
                .map_or(plain.stop_after, OrNone::get),
            stop: section.value("stop", plain.stop),
            stands: section.ranged("stands", plain.stands, 60 * second..=86_400 * second),
        },
    };
    if evidence
        .consequences
        .stop_after
        .is_some_and(|after| after > 86_400 * second)
    {
        section.complain("stop_after", "is over a day; say \"none\" for never");
    }
    section.finish();
    evidence
}

/// The stage for a level of evidence; `None` is a report and no more.
struct Then(Option<Stage>);

impl FromToml for Then {
    const EXPECTED: &'static str = "\"report\", \"throttle\" or \"freeze\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("report") => Ok(Then(None)),
            Some("throttle") => Ok(Then(Some(Stage::Throttled))),
            Some("freeze") => Ok(Then(Some(Stage::Frozen))),
            Some("stop") => Err("stop_after says when it is stopped".to_owned()),
            _ => Err(String::new()),
        }
    }
}

impl FromToml for Stop {
    const EXPECTED: &'static str = "\"server\" or \"processes\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("server") => Ok(Stop::Server),
            Some("processes") => Ok(Stop::Processes),
            _ => Err(String::new()),
        }
    }
}

impl FromToml for Sensor {
    const EXPECTED: &'static str = "one of \"rounding\", \"constants\", \"exec\", \"binary\", \"stratum\", \"pools\", \"scan\", \"volume\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let word = value.as_str().ok_or_else(String::new)?;
        let known = Sensor::ALL
            .into_iter()
            .find(|sensor| sensor.as_str() == word);
        known.ok_or_else(String::new)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = "[evidence]\nhot = \"1 core\"\nhot_for = \"20s\"\nsensors = [\"exec\"]\n\
                    window = \"1m\"\nhigh = \"report\"\ncertain = \"freeze\"\nstop_after = \"none\"\n\
                    stop = \"processes\"\nstands = \"1h\"\n";
        let evidence = Config::parse(text).unwrap().evidence;
        assert_eq!(evidence.hot, Cores(1.0));
        assert_eq!(evidence.hot_for, Duration::from_secs(20));
        assert_eq!(evidence.settings.sensors, [Sensor::Exec].into());
        assert_eq!(evidence.settings.window, Duration::from_secs(60));
        let wanted = Consequences {
            high: None,
            certain: Some(Stage::Frozen),
            stop_after: None,
            stop: Stop::Processes,
            stands: Duration::from_secs(3600),
        };
        assert_eq!(evidence.consequences, wanted);
    }

    #[test]
    fn mistakes_are_named_with_what_would_be_right() {
        for (line, why) in [
            ("hot = \"0 cores\"", "hot is"),
            ("window = \"1s\"", "from 5s to 10m"),
            ("certain = \"stop\"", "stop_after says when it is stopped"),
            ("high = \"kill\"", "\"report\", \"throttle\" or \"freeze\""),
            ("stop = \"process\"", "\"server\" or \"processes\""),
            ("stop_after = \"3d\"", "over a day"),
            ("sensors = [\"smell\"]", "one of \"rounding\""),
        ] {
            let problems = Config::parse(&format!("[evidence]\n{line}\n")).unwrap_err();
            assert!(problems[0].message.contains(why), "{}", problems[0]);
            assert_eq!(problems[0].line, 2);
        }
    }
}
