//! What the daemon would go by and a replay does not.

use super::{Options, Replay};
use crate::config::{Config, Limits, ThrottleWhen};

/// Whether anybody's throttling depends on others.
fn contended(config: &Config) -> bool {
    let when = |limits: &Limits| limits.cpu.throttle_when;
    let patched = config
        .groups
        .values()
        .chain(config.users.values())
        .map(|patch| {
            let mut limits = config.limits.clone();
            patch.apply(&mut limits);
            when(&limits)
        });
    patched
        .chain([when(&config.limits)])
        .any(|when| when == ThrottleWhen::Contended)
}

/// Who is in which group is the hub's to say, who has a grant the daemon's, and how others waited
/// is not recorded: what of it would matter here.
pub(super) fn left_out(config: &Config, options: &Options, replays: &[Replay]) -> Vec<String> {
    let mut left_out = Vec::new();
    let people = !config.groups.is_empty() || !config.users.is_empty();
    if people && replays.iter().any(|replay| replay.user_names != Some(true)) {
        left_out.push(
            "Where users are not named, everybody has the limits of everybody: [groups.NAME] and \
             [users.NAME] count for nobody."
                .to_owned(),
        );
    }
    if replays
        .iter()
        .any(|replay| replay.user_names == Some(false))
    {
        left_out.push(
            "Where users are not named, each server is taken for another user's: which share an \
             account is not known."
                .to_owned(),
        );
    }
    let named = |group: &String| options.member.iter().any(|(of, _)| of == group);
    let without: Vec<&str> = config
        .groups
        .keys()
        .filter(|group| !named(group))
        .map(String::as_str)
        .collect();
    if !without.is_empty() && replays.iter().any(|replay| replay.user_names == Some(true)) {
        left_out.push(format!(
            "Nobody is in these groups, since traces do not say who is: {} (--member GROUP=USER).",
            without.join(", ")
        ));
    }
    if contended(config) {
        left_out.push(match options.cores {
            None => {
                "Others are taken to wait for the CPU all the time, the stricter case.".to_owned()
            }
            Some(cores) => format!(
                "Others are taken to wait for the CPU while all servers together use nearly all of \
                 {cores}."
            ),
        });
    }
    if !options.generate {
        left_out.push("Grants are left out.".to_owned());
    }
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Outcome;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn said(config: &str, options: &[&str], user_names: Option<bool>) -> String {
        let config = Config::parse(config).unwrap();
        let line = Line::parse_from(["replay"].iter().chain(options));
        let replay = Replay {
            source: "x".to_owned(),
            started: None,
            user_names,
            outcome: Outcome::default(),
            cut_off: false,
        };
        left_out(&config, &line.options, &[replay]).join("\n")
    }

    const GROUPS: &str =
        "[groups.staff.cpu]\nlimit = \"3 cores\"\n[groups.students.cpu]\nlimit = \"1 core\"\n";

    #[test]
    fn groups_are_said_to_count_for_nobody_until_their_members_are_named() {
        let told = said(GROUPS, &["x.trace"], Some(true));
        assert!(told.contains("Nobody is in these groups"), "{told}");
        assert!(told.contains("staff, students (--member"), "{told}");
        let told = said(GROUPS, &["x.trace", "--member", "staff=alice"], Some(true));
        assert!(told.contains(": students (--member"), "{told}");
        let told = said(GROUPS, &["x.trace"], Some(false));
        assert!(
            told.contains("[groups.NAME] and [users.NAME] count for nobody"),
            "{told}"
        );
        assert_eq!(said("", &["x.trace"], Some(true)), "Grants are left out.");
        let told = said("", &["x.trace"], Some(false));
        assert!(told.contains("taken for another user's"), "{told}");
        assert_eq!(said("", &["--generate"], None), "");
    }

    #[test]
    fn how_others_are_taken_to_wait_is_said_where_it_matters() {
        let contended = "[users.alice.cpu]\nthrottle_when = \"contended\"\n";
        let told = said(contended, &["x.trace"], Some(true));
        assert!(told.contains("all the time, the stricter case"), "{told}");
        let told = said(contended, &["x.trace", "--cores", "8"], Some(true));
        assert!(told.contains("use nearly all of 8 cores"), "{told}");
    }

    #[test]
    fn a_member_is_a_group_and_a_user() {
        for bad in ["staff", "=alice", "staff="] {
            assert!(
                Line::try_parse_from(["replay", "x", "--member", bad]).is_err(),
                "{bad}"
            );
        }
    }
}
