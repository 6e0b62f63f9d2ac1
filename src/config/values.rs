//! How single values are written: `"10m"`, `"2 cores"`, `"1 core-hour"`, `"5 %"`.

use super::decode::{FromToml, Show};
use super::{Resolvers, ServiceName, Template};
use ipnet::IpNet;
use quantities::{Bytes, CoreSeconds, Cores, Mode};
use std::net::IpAddr;
use std::time::Duration;
use toml::de::DeValue;

/// A share of a whole, 0.0 to 1.0, written `"5 %"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

pub(super) fn string<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value.as_str().ok_or_else(String::new)
}

/// Splits `"1.5 core-hours"` into the number and the unit.
pub(super) fn number_and_unit(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err("it does not begin with a number".to_owned());
    }
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{number}` is no number"))?;
    Ok((number, unit.trim()))
}

/// Reads `"10m"` as configuration and command line have it.
///
/// # Errors
/// What does not fit, in words.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text)?;
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        "" => return Err("the unit is missing".into()),
        other => return Err(format!("unknown unit `{other}`")),
    };
    Duration::try_from_secs_f64(number * scale).map_err(|_| "too long".into())
}

/// Reads `"1 core-hour"` as configuration and command line have it, into core-seconds.
///
/// # Errors
/// What does not fit, in words.
pub fn parse_amount(text: &str) -> Result<f64, String> {
    let (number, unit) = number_and_unit(text)?;
    let scale = match unit.trim_end_matches('s') {
        "core-second" => 1.0,
        "core-minute" => 60.0,
        "core-hour" => 3600.0,
        "" => return Err("the unit is missing".into()),
        other => return Err(format!("unknown unit `{other}`")),
    };
    Ok(number * scale)
}

impl FromToml for Duration {
    const EXPECTED: &'static str = "a time such as \"500ms\", \"5s\", \"10m\", \"2h\" or \"3d\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        parse_duration(string(value)?)
    }
}

impl Show for Duration {
    fn show(&self) -> String {
        match self.as_millis() {
            ms if ms % 86_400_000 == 0 && ms > 0 => format!("{}d", ms / 86_400_000),
            ms if ms % 3_600_000 == 0 && ms > 0 => format!("{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 && ms > 0 => format!("{}m", ms / 60_000),
            ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
            ms => format!("{ms}ms"),
        }
    }
}

impl FromToml for Cores {
    const EXPECTED: &'static str = "a number of cores such as \"2 cores\" or \"0.25 cores\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let (number, unit) = number_and_unit(string(value)?)?;
        match unit {
            "core" | "cores" => Ok(Cores(number)),
            "%" => Err(format!("write \"{} cores\" for {number} %", number / 100.0)),
            "" => Err("the unit is missing".into()),
            other => Err(format!("unknown unit `{other}`")),
        }
    }
}

impl Show for Cores {
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl FromToml for CoreSeconds {
    const EXPECTED: &'static str =
        "an amount of CPU such as \"90 core-seconds\", \"30 core-minutes\" or \"1 core-hour\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        parse_amount(string(value)?).map(CoreSeconds)
    }
}

impl Show for CoreSeconds {
    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

impl FromToml for Bytes {
    const EXPECTED: &'static str = "an amount of memory such as \"512 MiB\" or \"2 GiB\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let (number, unit) = number_and_unit(string(value)?)?;
        let scale = match unit {
            "MiB" => 1u64 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "" => return Err("the unit is missing".into()),
            other => return Err(format!("unknown unit `{other}`")),
        };
        let bytes = number * scale as f64;
        // Less than a Python needs would only be a riddle; more than any machine has, a slip.
        if !(67_108_864.0..=1.0e15).contains(&bytes) {
            return Err("from 64 MiB to 900 TiB".into());
        }
        Ok(Bytes(bytes as u64))
    }
}

impl FromToml for Share {
    const EXPECTED: &'static str = "a share such as \"5 %\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match number_and_unit(string(value)?)? {
            (number, "%") => Ok(Share(number / 100.0)),
            (_, "") => Err("the % is missing".into()),
            (_, other) => Err(format!("unknown unit `{other}`")),
        }
    }
}

impl Show for Share {
    fn show(&self) -> String {
        format!("\"{} %\"", self.0 * 100.0)
    }
}

impl FromToml for Mode {
    const EXPECTED: &'static str = "\"observe\" or \"enforce\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match string(value)? {
            "observe" => Ok(Mode::Observe),
            "enforce" => Ok(Mode::Enforce),
            _ => Err(String::new()),
        }
    }
}

impl FromToml for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(String::new)
    }
}

impl FromToml for String {
    const EXPECTED: &'static str = "a text in quotes";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        string(value).map(str::to_owned)
    }
}

pub(super) fn integer(value: &DeValue<'_>) -> Result<u64, String> {
    let number = value.as_integer().ok_or_else(String::new)?;
    u64::from_str_radix(&number.as_str().replace('_', ""), number.radix())
        .map_err(|_| String::new())
}

impl FromToml for u64 {
    const EXPECTED: &'static str = "a whole number";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        integer(value)
    }
}

impl Show for u64 {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromToml for u16 {
    const EXPECTED: &'static str = "a number from 1 to 65535";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match integer(value)? {
            0 => Err(String::new()),
            number => number.try_into().map_err(|_| String::new()),
        }
    }
}

impl Show for u16 {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromToml for IpNet {
    const EXPECTED: &'static str = "a network such as \"10.0.0.0/8\" or \"fd00::/8\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = string(value)?;
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(IpNet::from(address));
        }
        let net: IpNet = text.parse().map_err(|_| String::new())?;
        if net.addr() == net.network() {
            Ok(net)
        } else {
            Err(format!("host bits are set; write \"{}\"", net.trunc()))
        }
    }
}

impl FromToml for IpAddr {
    const EXPECTED: &'static str = "an address such as \"192.0.2.53\" or \"2001:db8::53\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        string(value)?.parse().map_err(|_| String::new())
    }
}

impl FromToml for Resolvers {
    const EXPECTED: &'static str = "\"auto\" or a list of addresses";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        if value.as_str() == Some("auto") {
            return Ok(Resolvers::Auto);
        }
        let entries = value.as_array().ok_or_else(String::new)?;
        entries
            .iter()
            .map(|entry| {
                IpAddr::from_toml(entry.get_ref())
                    .map_err(|_| "one of its entries is no address".to_owned())
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Resolvers::Fixed)
    }
}

impl FromToml for Template {
    const EXPECTED: &'static str = "a template with {USERNAME} in it once";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        Template::parse(string(value)?)
    }
}

impl FromToml for ServiceName {
    const EXPECTED: &'static str =
        "a service: dns, http, https, git, rsync, ssh, or such as \"tcp/8443\", \"udp/6000-6100\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        ServiceName::parse(string(value)?)
    }
}
