//! What is right in a configuration and may be meant otherwise.

use super::Config;
use egress::lies_in;
use ipnet::IpNet;

impl Config {
    /// What an admin should know of this configuration, in sentences without their full stops.
    pub fn advice(&self) -> Vec<String> {
        let private = &self.egress.private;
        let mut advice = Vec::new();
        for (name, class) in &self.egress.classes {
            let (open, others): (Vec<IpNet>, Vec<IpNet>) =
                class.networks.iter().partition(|net| lies_in(net, private));
            if !open.is_empty() && !class.is_selective() && !class.services.is_empty() {
                advice.push(format!(
                    "egress class {name} reaches the internet besides {}; nowhere_else = true keeps \
                     it to its networks",
                    listing(&open)
                ));
            }
            for net in others {
                let within = private.iter().filter(|closed| net.contains(*closed));
                let within: Vec<IpNet> = within.copied().collect();
                if !within.is_empty() {
                    advice.push(format!(
                        "egress class {name} does not reach the private networks within {net}: add \
                         those that it should reach to its networks, of {}",
                        listing(&within)
                    ));
                }
            }
        }
        advice
    }
}

fn listing(nets: &[IpNet]) -> String {
    let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
    nets.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(text: &str) -> Vec<String> {
        let text = format!("[egress.classes.lab]\n{text}");
        Config::parse(&text).unwrap().advice()
    }

    #[test]
    fn networks_that_may_be_meant_otherwise_are_told_of() {
        assert!(Config::default().advice().is_empty());
        for fine in [
            "networks = [\"10.2.0.0/16\"]\nnowhere_else = true\n",
            "networks = [\"10.2.0.0/16\"]\nnames = [\"pypi.org\"]\n",
            "networks = [\"203.0.113.0/24\"]\n",
        ] {
            assert_eq!(advice(fine), [""; 0], "{fine}");
        }
        assert_eq!(
            advice("networks = [\"10.2.0.0/16\", \"fd00::/16\"]\n"),
            [
                "egress class lab reaches the internet besides 10.2.0.0/16, fd00::/16; nowhere_else \
                 = true keeps it to its networks"
            ]
        );
        let wide = advice("networks = [\"192.0.0.0/8\", \"192.168.7.0/24\"]\n");
        assert_eq!(
            wide,
            [
                "egress class lab does not reach the private networks within 192.0.0.0/8: add those \
                 that it should reach to its networks, of 192.168.0.0/16, 192.0.0.0/24"
            ]
        );
    }
}
