//! What other programs' files say: dnsmasq, unbound, response policy zones and tables of commas, a line at
//! a time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What of a file's earlier lines its later ones depend on.
#[derive(Debug, Default)]
pub struct Forms {
    /// In a record that goes on over several lines.
    in_parentheses: bool,
    columns: Option<Columns>,
}

/// Where a table has what, by its first line.
#[derive(Debug, Default)]
struct Columns {
    names: Vec<usize>,
    port: Option<usize>,
}

/// What a line says.
pub enum Said {
    /// These entries, each as it stands alone on a line.
    Entries(Vec<String>),
    /// Nothing: a part of the form.
    Nothing,
    /// It is of none of these forms.
    Other,
}

impl Forms {
    /// Reads one line, without its comment.
    ///
    /// # Errors
    /// It is of one of these forms, and is no entry.
    pub fn read(&mut self, line: &str) -> Result<Said, &'static str> {
        if self.in_parentheses {
            self.in_parentheses = !line.contains(')');
            return Ok(Said::Nothing);
        }
        if let Some(names) = dnsmasq(line) {
            return Ok(Said::Entries(names));
        }
        if let Some(zone) = unbound(line) {
            return Ok(Said::Entries(vec![zone]));
        }
        if line.contains(',') && line.trim_end_matches(',').contains(',') {
            return self.table(line);
        }
        self.zone(line)
    }

    /// `NAME [TTL] [IN] CNAME .` (RFC 1035, 5; draft-vixie-dnsop-dns-rpz).
    fn zone(&mut self, line: &str) -> Result<Said, &'static str> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let kind = |kind: &str| words.iter().any(|word| word.eq_ignore_ascii_case(kind));
        if line.starts_with('$') || kind("SOA") || words.len() > 1 && kind("NS") {
            self.in_parentheses = line.contains('(') && !line.contains(')');
            return Ok(Said::Nothing);
        }
        let (Some(owner), true, Some(target)) = (words.first(), kind("CNAME"), words.last()) else {
            return Ok(Said::Other);
        };
        match *target {
            "." | "*." | "rpz-drop." | "rpz-tcp-only." => {}
            "rpz-passthru." => return Err("lets a name pass, and a deny list only denies"),
            _ => return Err("leads a name elsewhere, and a deny list only denies"),
        }
        let owner = owner.trim_end_matches('.').to_ascii_lowercase();
        let entry = match owner.strip_suffix(".rpz-ip") {
            Some(network) => {
                rpz_network(network).ok_or("no network as response policy zones write it")?
            }
            None if owner
                .rsplit('.')
                .next()
                .is_some_and(|last| last.starts_with("rpz-")) =>
            {
                return Err("is about who asks or who answers, and not about a destination");
            }
            None => owner,
        };
        Ok(Said::Entries(vec![entry]))
    }

    /// A table: every address in it, with its port where a column has one, and names of columns that say so.
    fn table(&mut self, line: &str) -> Result<Said, &'static str> {
        let fields: Vec<&str> = line
            .split(',')
            .map(|field| field.trim().trim_matches('"').trim())
            .collect();
        let is_address =
            |field: &str| field.parse::<IpAddr>().is_ok() || field.parse::<IpNet>().is_ok();
        let Some(columns) = &self.columns else {
            let has = |words: &[&str], field: &str| {
                let field = field.to_ascii_lowercase();
                words.iter().any(|word| field.contains(word))
            };
            let head = !fields.iter().any(|field| is_address(field));
            let of = |words: &'static [&'static str]| {
                let fields = fields.iter().enumerate();
                fields
                    .filter(move |(_, field)| head && has(words, field))
                    .map(|(at, _)| at)
            };
            self.columns = Some(Columns {
                names: of(&["domain", "host", "fqdn"]).collect(),
                port: of(&["port"]).next(),
            });
            return if head {
                Ok(Said::Nothing)
            } else {
                self.table(line)
            };
        };
        let port = columns
            .port
            .and_then(|at| fields.get(at)?.parse::<u16>().ok());
        let mut entries = Vec::new();
        for (at, field) in fields.iter().enumerate() {
            match (field.parse::<IpAddr>(), port) {
                (Ok(IpAddr::V6(address)), Some(port)) => {
                    entries.push(format!("[{address}]:{port}"))
                }
                (Ok(address), Some(port)) => entries.push(format!("{address}:{port}")),
                _ if is_address(field) => entries.push((*field).to_owned()),
                _ if columns.names.contains(&at) && !field.is_empty() => {
                    entries.push((*field).to_owned())
                }
                _ => {}
            }
        }
        match entries.is_empty() {
            true => Err("no column of it is an address, or a name by the table's first line"),
            false => Ok(Said::Entries(entries)),
        }
    }
}

/// `address=/NAME/NAME/0.0.0.0`, also `server=`, `local=` (dnsmasq(8)).
fn dnsmasq(line: &str) -> Option<Vec<String>> {
    let (key, rest) = line.split_once("=/")?;
    let is_key = ["address", "server", "local"].contains(&key);
    let (names, _target) = rest.rsplit_once('/').filter(|_| is_key)?;
    Some(names.split('/').map(str::to_owned).collect())
}

/// `local-zone: "NAME" always_nxdomain`, `local-data: "NAME A 0.0.0.0"` (unbound.conf(5)).
fn unbound(line: &str) -> Option<String> {
    let rest = line
        .strip_prefix("local-zone:")
        .or_else(|| line.strip_prefix("local-data:"))?;
    let text = rest.trim_start().strip_prefix('"')?.split('"').next()?;
    text.split_ascii_whitespace().next().map(str::to_owned)
}

/// `24.0.2.0.192` is 192.0.2.0/24, `32.zz.db8.2001` is 2001:db8::/32.
fn rpz_network(text: &str) -> Option<String> {
    let (prefix, rest) = text.split_once('.')?;
    let prefix: u8 = prefix.parse().ok()?;
    let mut parts: Vec<&str> = rest.split('.').collect();
    parts.reverse();
    let v4 = parts.join(".").parse::<Ipv4Addr>().map(IpAddr::from);
    let words: Vec<&str> = parts
        .iter()
        .map(|part| if *part == "zz" { "" } else { part })
        .collect();
    let text = match (words.first(), words.last()) {
        (Some(&""), _) => format!(":{}", words.join(":")),
        (_, Some(&"")) => format!("{}:", words.join(":")),
        _ => words.join(":"),
    };
    let address = v4
        .ok()
        .or_else(|| text.parse::<Ipv6Addr>().ok().map(IpAddr::from))?;
    Some(IpNet::new(address, prefix).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    /// What is read of a file, as text, and what is wrong with it.
    fn read(text: &str) -> (Vec<String>, Vec<String>) {
        let (entries, problems) = parse(text.as_bytes());
        let names = entries.names.iter().map(|(name, port)| match port {
            Some(port) => format!("{name}:{port}"),
            None => name.clone(),
        });
        let networks = entries.networks.iter().map(ToString::to_string);
        let endpoints = entries.endpoints.iter().map(ToString::to_string);
        let all = names.chain(networks).chain(endpoints).collect();
        (all, problems.iter().map(ToString::to_string).collect())
    }

    fn good(text: &str) -> Vec<String> {
        let (all, problems) = read(text);
        assert_eq!(problems, [""; 0], "{text}");
        all
    }

    #[test]
    fn a_comment_may_stand_behind_a_semicolon() {
        let drop = "; Spamhaus DROP List\n192.0.2.0/24 ; SBL256894\n198.51.100.0/24;SBL1\n";
        assert_eq!(good(drop), ["192.0.2.0/24", "198.51.100.0/24"]);
    }

    #[test]
    fn dnsmasq_and_unbound_are_read() {
        let dnsmasq =
            "address=/a.example/0.0.0.0\nserver=/b.example/c.example/\nlocal=/d.example/\n";
        assert_eq!(
            good(dnsmasq),
            ["a.example", "b.example", "c.example", "d.example"]
        );
        let unbound =
            "local-zone: \"a.example\" always_nxdomain\nlocal-data: \"b.example A 0.0.0.0\"\n";
        assert_eq!(good(unbound), ["a.example", "b.example"]);
    }

    #[test]
    fn a_response_policy_zone_is_read() {
        let zone = "$TTL 300\n@ IN SOA localhost. root.localhost. (\n  1 ; serial\n  2 3 4 5 )\n\
                    @ IN NS localhost.\na.example CNAME .\n*.a.example 300 IN CNAME .\n\
                    b.example. CNAME *.\n24.0.2.0.192.rpz-ip CNAME .\n32.zz.db8.2001.rpz-ip CNAME .\n\
                    128.7.zz.db9.2001.rpz-ip CNAME rpz-drop.\n";
        let expected = [
            "a.example",
            "b.example",
            "192.0.2.0/24",
            "2001:db8::/32",
            "2001:db9::7/128",
        ];
        assert_eq!(good(zone), expected);
        let (all, problems) = read(
            "ok.example CNAME rpz-passthru.\nwall.example CNAME garden.example.\n\
             24.0.2.0.192.rpz-client-ip CNAME .\n99.0.2.0.192.rpz-ip CNAME .\n",
        );
        assert_eq!(all, [""; 0]);
        let why: Vec<&str> = problems
            .iter()
            .filter_map(|line| line.rsplit(": ").next())
            .collect();
        assert_eq!(
            why,
            [
                "lets a name pass, and a deny list only denies",
                "leads a name elsewhere, and a deny list only denies",
                "is about who asks or who answers, and not about a destination",
                "no network as response policy zones write it",
            ]
        );
    }

    #[test]
    fn tables_are_read_by_their_first_line() {
        let table = "\"first_seen\",\"dst_ip\",\"dst_port\",\"malware\"\n\
                     \"2026-01-01 10:00:00\",\"192.0.2.1\",\"443\",\"a.exe\"\n\
                     \"2026-01-01 10:00:00\",\"2001:db8::1\",\"8080\",\"b\"\n";
        assert_eq!(good(table), ["192.0.2.1:443", "[2001:db8::1]:8080"]);
        let names = "id,domain,tag\n1,a.example,phish\n2,b.example,x.y\n";
        assert_eq!(good(names), ["a.example", "b.example"]);
        let none = "192.0.2.1,x,y\n192.0.2.2,x,y\n";
        assert_eq!(good(none), ["192.0.2.1/32", "192.0.2.2/32"]);
        let (all, problems) = read("id,url,tag\n1,https://host.example/path,x\n");
        assert_eq!(
            (all.len(), problems.len()),
            (0, 1),
            "a page is no host: {problems:?}"
        );
    }
}
