//! What people see of `top`.

use super::Reading;
use super::view::{Order, Step, View};
use crate::cli::status::tests::{node, server};
use crate::control::{ProcessGroup, ServerProcesses};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

fn reading(users: &[(&str, f64, &str)]) -> Reading {
    let mut servers = Vec::new();
    let mut processes = Vec::new();
    for (user, cpu, program) in users {
        let mut status = server(user);
        status.cpu_cores = *cpu;
        status.cgroup = format!("/jupyter.slice/{user}");
        processes.push(ServerProcesses {
            cgroup: status.cgroup.clone(),
            groups: vec![ProcessGroup {
                kind: "own".into(),
                program: (*program).to_owned(),
                processes: 3,
                cpu_cores: *cpu,
            }],
        });
        servers.push(status);
    }
    Reading {
        node: node(),
        servers,
        processes: Ok(processes),
    }
}

fn drawn(view: &mut View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    buffer
        .content()
        .chunks(usize::from(width))
        .map(|line| line.iter().map(|cell| cell.symbol()).collect())
        .collect()
}

#[test]
fn a_screen_of_80_by_24_shows_servers_and_what_the_selected_one_runs() {
    let mut view = View::new(Order::Cpu);
    view.take(reading(&[
        ("alice", 0.25, "/usr/bin/python3.11"),
        ("bob", 1.98, "/home/bob/python"),
    ]));
    let lines = drawn(&mut view, 80, 24);
    assert!(
        lines[0].starts_with("enforce - 2 servers, 2 held back, 2.23 cores"),
        "{lines:#?}"
    );
    assert!(lines[2].starts_with("USER"), "{lines:#?}");
    assert!(lines[3].starts_with("bob   1.98  0.25"), "{lines:#?}");
    assert!(lines[3].contains("/home/bob/python"), "{lines:#?}");
    assert!(lines[4].starts_with("alice 0.25"), "{lines:#?}");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("What runs for bob"))
    );
    assert!(
        lines[23].starts_with("1 of 2   q quit   s sort: cpu"),
        "{lines:#?}"
    );
    view.select(Step::Lines(1));
    let lines = drawn(&mut view, 80, 24);
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("What runs for alice"))
    );
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("  0.25     3 own         /usr/bin/python3.11")),
        "{lines:#?}"
    );
}

#[test]
fn the_selection_stays_with_its_server_and_ends_at_both_ends() {
    let mut view = View::new(Order::Cpu);
    view.take(reading(&[
        ("a", 3.0, "x"),
        ("b", 2.0, "x"),
        ("c", 1.0, "x"),
    ]));
    view.select(Step::Lines(-1));
    assert_eq!(view.selected_line(), 0);
    view.select(Step::Lines(1));
    view.take(reading(&[
        ("a", 1.0, "x"),
        ("b", 2.0, "x"),
        ("c", 3.0, "x"),
    ]));
    assert_eq!(view.servers[view.selected_line()].status.user, "b");
    view.select(Step::Lines(9));
    assert_eq!(view.servers[view.selected_line()].status.user, "a");
    view.sort_by_next();
    view.sort_by_next();
    assert_eq!(view.servers[0].status.user, "a");
    view.take(reading(&[]));
    view.select(Step::Lines(1));
    assert!(drawn(&mut view, 80, 24)[2].starts_with("No servers."));
}

#[test]
fn no_name_paints_on_the_terminal_or_breaks_a_line() {
    let mut view = View::new(Order::User);
    view.take(reading(&[(
        "\u{1b}[2Jmallory\u{202e}",
        1.0,
        "/tmp/\u{1b}]0;x\u{7}\nfree 0.00",
    )]));
    for text in [drawn(&mut view, 80, 24).join("\n"), view.text()] {
        assert!(text.contains("\\u{1b}[2Jmallory"), "{text}");
        assert!(text.contains("\\u{7}\\u{a}free 0.00"), "{text}");
        let painted = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.contains(painted), "{text}");
    }
}

#[test]
fn plain_text_has_each_server_with_its_programs_below_it() {
    let mut view = View::new(Order::Cpu);
    view.take(reading(&[("alice", 0.25, "/usr/bin/python3.11")]));
    let text = view.text();
    assert!(
        text.contains("     0.25     3 x own          /usr/bin/python3.11\n"),
        "{text}"
    );
}

#[test]
fn any_size_of_window_is_drawn() {
    let mut view = View::new(Order::Cpu);
    view.take(reading(&[("alice", 0.25, "x"), ("bob", 1.0, "y")]));
    for (width, height) in [(1, 1), (10, 3), (80, 5), (300, 100)] {
        drawn(&mut view, width, height);
    }
}

/// A view of servers, sorted by name, each with what it runs.
fn view(users: &[(&str, f64, &str)]) -> View {
    let mut view = View::new(Order::User);
    view.take(reading(users));
    view
}

#[test]
fn a_narrow_window_keeps_whose_what_and_why_and_marks_what_is_cut() {
    let mut view = view(&[(
        "a-student-of-many-names",
        12.75,
        "/opt/tljh/user/bin/python3.11",
    )]);
    let lines = drawn(&mut view, 40, 12);
    assert!(lines[0].ends_with('…'), "{lines:#?}");
    assert_eq!(
        lines[2].trim_end(),
        "USER                CPU STATE     MINING"
    );
    assert_eq!(lines[3].trim_end(), "a-student-of-man… 12.75 throttled -");
    assert!(lines[11].ends_with('…'), "{lines:#?}");
    // Of a program the end is told, which its kind does not tell.
    let lines = drawn(&mut view, 70, 12);
    assert!(lines[3].trim_end().ends_with(" …/python3.11"), "{lines:#?}");
    // With room enough nothing is cut, long names neither.
    let lines = drawn(&mut view, 120, 12).join("\n");
    assert!(!lines.contains('…'), "{lines}");
}

#[test]
fn columns_stay_in_line_whatever_the_script_of_a_name() {
    let users = [
        ("bob", 0.5, "/x"),
        ("\u{674e}\u{5c0f}\u{9f8d}", 0.5, "/x"),
        ("e\u{301}lodie", 0.5, "/x"),
    ];
    let mut view = view(&users);
    let mut terminal = Terminal::new(TestBackend::new(80, 12)).unwrap();
    terminal.draw(|frame| view.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    // Each cell of the terminal by itself: a wide character fills two of them.
    for line in 3..6 {
        let cpu: String = (7..11)
            .map(|column| buffer[(column, line)].symbol())
            .collect();
        assert_eq!(cpu, "0.50", "{buffer:?}");
    }
}

#[test]
fn what_does_not_fit_below_is_counted() {
    let mut reading = reading(&[("alice", 1.0, "x")]);
    let groups = (0..16).map(|number| ProcessGroup {
        kind: "own".into(),
        program: format!("/opt/{number}"),
        processes: 1,
        cpu_cores: 0.1,
    });
    reading.processes.as_mut().unwrap()[0].groups = groups.collect();
    let mut view = View::new(Order::Cpu);
    view.take(reading);
    let text = drawn(&mut view, 80, 24).join("\n");
    assert!(
        text.contains("/opt/6 ") && !text.contains("/opt/7 "),
        "{text}"
    );
    assert!(text.contains("and 9 more: hubwarden explain"), "{text}");
    // A window with room has them all.
    let text = drawn(&mut view, 80, 60).join("\n");
    assert!(
        text.contains("/opt/15 ") && !text.contains("more:"),
        "{text}"
    );
}

#[test]
fn the_first_lines_say_what_is_done_and_what_does_not_work() {
    let head = |mode: &str, off: bool, egress_loaded: bool| {
        let mut reading = reading(&[("alice", 1.0, "x")]);
        reading.node.mode = mode.into();
        reading.node.off = off;
        reading.node.egress_loaded = egress_loaded;
        let mut view = View::new(Order::Cpu);
        view.take(reading);
        drawn(&mut view, 80, 24)[..2].join("\n")
    };
    let observed = head("observe", false, false);
    assert!(
        observed.contains("observe - 1 server, 1 would be held back"),
        "{observed}"
    );
    assert!(
        observed.contains("packet rules NOT loaded; down or impaired: rounding"),
        "{observed}"
    );
    let off = head("enforce", true, false);
    assert!(
        off.starts_with("off - 1 server, 1 would be held back"),
        "{off}"
    );
    assert!(!off.contains("NOT loaded"), "{off}");
}

#[test]
fn a_daemon_that_is_restarted_leaves_what_was_known_on_the_screen() {
    let mut view = view(&[("alice", 1.0, "x")]);
    view.lost("hubwarden is not running\u{1b}");
    let lines = drawn(&mut view, 80, 24);
    assert!(
        lines[1].starts_with("Not up to date: hubwarden is not running\\u{1b}"),
        "{lines:#?}"
    );
    assert!(lines[3].starts_with("alice"), "{lines:#?}");
    view.take(reading(&[("alice", 1.0, "x")]));
    assert!(!drawn(&mut view, 80, 24)[1].contains("Not up to date"));
}

#[test]
fn a_page_is_what_is_seen_at_once() {
    let names: Vec<String> = (0..100).map(|number| format!("s{number:02}")).collect();
    let users: Vec<(&str, f64, &str)> =
        names.iter().map(|name| (name.as_str(), 1.0, "x")).collect();
    let mut view = view(&users);
    let seen = |lines: Vec<String>| lines.iter().filter(|line| line.starts_with('s')).count();
    let page = seen(drawn(&mut view, 80, 24));
    assert!(page > 5, "{page}");
    view.select(Step::Pages(2));
    assert_eq!(view.selected_line(), 2 * page);
    view.select(Step::Lines(isize::MAX));
    assert!(drawn(&mut view, 80, 24)[23].starts_with("100 of 100"));
    view.select(Step::Lines(isize::MIN));
    assert_eq!(view.selected_line(), 0);
}
