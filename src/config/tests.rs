use super::*;
use quantities::Cores;

fn problems(text: &str) -> Vec<String> {
    Config::parse(text)
        .expect_err("has problems")
        .iter()
        .map(Problem::to_string)
        .collect()
}

#[test]
fn empty_file_gives_the_defaults() {
    assert_eq!(Config::parse("").unwrap(), Config::default());
}

#[test]
fn example_file_states_the_defaults() {
    let text = include_str!("../../config.example.toml");
    assert_eq!(Config::parse(text).unwrap(), Config::default());
}

/// Removing any one key from the example must not leave a key unknown to the example: a key that
/// the code reads and the example lacks shows up as a suggestion list.
#[test]
fn example_file_has_every_key() {
    let text = include_str!("../../config.example.toml");
    for section in [
        "",
        "hub",
        "cpu",
        "time",
        "memory",
        "tasks",
        "io",
        "slice",
        "egress",
        "egress.classes.standard",
        "evidence",
        "metrics",
        "record",
    ] {
        let header = if section.is_empty() {
            String::new()
        } else {
            format!("[{section}]\n")
        };
        let found = problems(&format!("{header}zzzzzzzzzzzzzzzzzzzzzzzz = 1\n"));
        let (_, known) = found[0].split_once("known here: ").unwrap();
        for key in known.split(", ") {
            let shown = text
                .lines()
                .any(|line| line.starts_with(&format!("{key} = ")))
                || text.contains(&format!("[{key}]"))
                || text.contains(&format!("[{key}."))
                || text.contains(&format!("[{section}.{key}"));
            assert!(shown, "config.example.toml lacks `{key}` of [{section}]");
        }
    }
}

#[test]
fn every_problem_is_named_with_its_place() {
    let found = problems(concat!(
        "mode = \"enforced\"\n",
        "tick = \"5\"\n",
        "[cpu]\n",
        "  baselin = \"1 core\"\n",
        "limit = \"200 %\"\n",
        "weight = 20000\n",
        "[egress.classes.Bad-Name]\n",
        "services = [\"https\", \"tcp/0\",\n",
        "   \"gopher\"]\n",
    ));
    assert_eq!(
        found,
        [
            "1:8: mode is \"enforced\", expected \"observe\" or \"enforce\"",
            "2:8: tick is \"5\", expected a time such as \"500ms\", \"5s\", \"10m\", \"2h\" or \"3d\" (the unit is missing)",
            "4:3: unknown key `cpu.baselin`; did you mean `baseline`?",
            "5:9: cpu.limit is \"200 %\", expected a number of cores such as \"2 cores\", or \"none\" (write \"2 cores\" for 200 %)",
            "6:10: cpu.weight is 20000, expected a value from 1 to 100",
            "7:17: class name \"Bad-Name\": use 1 to 32 of a-z, 0-9 and '-', the first a letter",
            "8:22: egress.classes.Bad-Name.services is \"tcp/0\", expected a service: dns, http, https, git, rsync, ssh, or such as \"tcp/8443\", \"udp/6000-6100\" (`0` is no port from 1 to 65535)",
            "9:4: egress.classes.Bad-Name.services is \"gopher\", expected a service: dns, http, https, git, rsync, ssh, or such as \"tcp/8443\", \"udp/6000-6100\" (unknown name)",
        ]
    );
}

#[test]
fn a_name_with_a_dot_is_explained() {
    let found = problems("[users.alice.smith]\ncpu.limit = \"2 cores\"\n");
    let quoted = "a name with a dot in it is written in quotes: [users.'alice.smith']";
    assert!(found[0].ends_with(quoted), "{found:?}");
    let config = Config::parse("[users.'alice.smith'.cpu]\nlimit = \"2 cores\"\n").unwrap();
    assert!(config.users.contains_key("alice.smith"));
}

#[test]
fn broken_syntax_is_named_with_its_place() {
    let found = problems("mode = \n[cpu\nlimit = \"2 cores\"\n");
    assert!(found.len() >= 2, "{found:?}");
    assert!(found[0].starts_with("1:8: "), "{found:?}");
}

#[test]
fn duplicate_keys_are_refused() {
    let found = problems("tick = \"5s\"\ntick = \"6s\"\n");
    assert!(
        found.iter().any(|line| line.starts_with("2:1: ")),
        "{found:?}"
    );
}

#[test]
fn values_out_of_range_name_the_range() {
    let found = problems("tick = \"10ms\"\n[cpu]\nperiod = \"1s\"\n");
    assert_eq!(
        found,
        [
            "1:8: tick is 10ms, expected a value from 1s to 1m",
            "3:10: cpu.period is 1s, expected a value from 10ms to 100ms",
        ]
    );
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    let found = problems("[cpu]\nlimit = \"1 core\"\nbaseline = \"2 cores\"\n");
    assert_eq!(
        found,
        ["2:9: cpu.limit is below the baseline; a server could never burst"]
    );
    let found = problems("[egress]\nclass = \"lab\"\n");
    assert_eq!(
        found,
        [
            "2:9: egress.class names no class; there are: exam, offline, quarantine, research, standard"
        ]
    );
    let found = problems("[hub]\nslice = \"a-b.slice\"\n");
    assert!(found[0].starts_with("2:9: hub.slice must be"), "{found:?}");
    let found = problems("[hub]\nslice = \"system.slice\"\n");
    assert!(found[0].contains("would lose its network"), "{found:?}");
}

#[test]
fn hostile_values_are_shown_escaped_and_short() {
    let text = format!("mode = \"\\u001b[2J{}\"\n", "x".repeat(5000));
    let found = problems(&text);
    assert!(found[0].contains("\\u{1b}[2J"), "{found:?}");
    assert!(found[0].len() < 200, "{found:?}");
}

#[test]
fn a_hostile_key_is_shown_escaped() {
    let found = problems("users.\"\\u001b[2J\" = 1\n");
    assert!(found[0].contains("users.\\u{1b}[2J"), "{found:?}");
}

#[test]
fn a_class_of_ones_own_can_be_chosen() {
    let config = Config::parse(
        "[egress]\nclass = \"lab\"\n[egress.classes.lab]\nservices = [\"ssh\", \"udp/60000-61000\"]\n",
    )
    .unwrap();
    let lab = &config.egress.classes[&"lab".parse::<ClassName>().unwrap()];
    assert_eq!(lab.services.len(), 2);
    assert!(!lab.dns);
    assert_eq!(config.egress.class.as_str(), "lab");
}

#[test]
fn groups_then_users_override_what_everybody_has() {
    let config = Config::parse(concat!(
        "[egress.classes.lab]\nservices = [\"ssh\"]\n",
        "[cpu]\nlimit = \"4 cores\"\n",
        "[groups.students.cpu]\nlimit = \"1 core\"\ncredits = \"10 core-minutes\"\n",
        "[groups.students]\negress_class = \"lab\"\n",
        "[groups.tutors.cpu]\nlimit = \"3 cores\"\n",
        "[users.\"a b\".memory]\nmax = \"2 GiB\"\n",
        "[users.\"a b\".tasks]\nmax = 500\n",
    ))
    .unwrap();
    let groups = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let nobody = config.limits_of("x", &groups(&[]));
    assert_eq!(nobody.cpu.limit, Some(Cores(4.0)));
    let student = config.limits_of("x", &groups(&["students"]));
    assert_eq!(student.cpu.limit, Some(Cores(1.0)));
    assert_eq!(student.class.unwrap().as_str(), "lab");
    let both = config.limits_of("a b", &groups(&["students", "tutors"]));
    assert_eq!(both.cpu.limit, Some(Cores(3.0)));
    assert_eq!(both.cpu.credits.0, 600.0);
    assert_eq!(both.memory_max.unwrap().0, 2 << 30);
    assert_eq!(both.tasks_max, Some(500));
}

#[test]
fn a_group_s_problems_are_named_in_its_own_section() {
    let found =
        problems("[groups.lab.cpu]\nlimit = \"0.1 cores\"\n[users.bob]\negress_class = \"x\"\n");
    assert_eq!(
        found,
        [
            "2:9: groups.lab.cpu.limit is below the baseline; a server could never burst",
            "4:16: users.bob.egress_class names no class; there are: exam, offline, quarantine, research, standard",
        ]
    );
}

#[test]
fn templates_take_names_out_and_put_them_in() {
    let template = Template::new("jupyter-", "-singleuser");
    assert_eq!(template.extract("jupyter-alice-singleuser"), Some("alice"));
    assert_eq!(template.extract("jupyter--singleuser"), None);
    assert_eq!(template.extract("jupyter-singleuser"), None);
    assert_eq!(template.expand("bob"), "jupyter-bob-singleuser");
}
