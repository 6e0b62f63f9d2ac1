//! What `top` shows: as a frame of a terminal, or as plain text.

use super::Reading;
use crate::cli::explain::groups_of;
use crate::cli::table::{Table, cut};
use crate::control::{ProcessGroup, ServerStatus};
use crate::hub::HubUser;
use crate::units::Plain;
use clap::ValueEnum;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table as Grid, TableState};
use std::fmt::Write;

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Order {
    /// Who uses most
    Cpu,
    /// Whose credits are nearest to their end
    Credits,
    /// By name
    User,
}

impl Order {
    fn next(self) -> Order {
        match self {
            Order::Cpu => Order::Credits,
            Order::Credits => Order::User,
            Order::User => Order::Cpu,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Order::Cpu => "cpu",
            Order::Credits => "credits",
            Order::User => "user",
        }
    }
}

/// The state of the screen.
pub(super) struct View {
    order: Order,
    head: String,
    trouble: Option<String>,
    servers: Vec<Shown>,
    /// The cgroup of the server that is selected: lines move, it stays.
    selected: Option<String>,
    grid: TableState,
}

/// A server and what runs in it.
struct Shown {
    status: ServerStatus,
    groups: Vec<ProcessGroup>,
}

const HEADS: [&str; 7] = [
    "USER", "CPU", "LIMIT", "CREDITS", "RUNG", "MINING", "BUSIEST",
];
const GROUP_HEADS: [&str; 4] = ["CPU", "COUNT", "KIND", "PROGRAM"];
/// Lines for what runs in the selected server, with its two heads.
const BELOW: u16 = 9;

impl View {
    pub fn new(order: Order) -> View {
        View {
            order,
            head: String::new(),
            trouble: None,
            servers: Vec::new(),
            selected: None,
            grid: TableState::default(),
        }
    }

    /// Shows another reading.
    pub fn take(&mut self, reading: Reading) {
        let node = &reading.node;
        let used: f64 = reading.servers.iter().map(|server| server.cpu_cores).sum();
        let held = reading
            .servers
            .iter()
            .filter(|server| server.rung != "free")
            .count();
        self.head = format!(
            "hubwarden {} - {} - {} servers, {held} held back, {used:.2} cores",
            node.version,
            if node.off { "off" } else { &node.mode },
            reading.servers.len(),
        );
        let (processes, trouble) = match reading.processes {
            Ok(processes) => (processes, None),
            Err(why) => (Vec::new(), Some(Plain(&why).to_string())),
        };
        self.trouble = trouble;
        self.servers = reading
            .servers
            .into_iter()
            .map(|status| Shown {
                groups: groups_of(&status.cgroup, &processes),
                status,
            })
            .collect();
        self.sort();
    }

    /// Sorts by the next thing.
    pub fn sort_by_next(&mut self) {
        self.order = self.order.next();
        self.sort();
    }

    /// Moves the selection so many lines down.
    pub fn select(&mut self, lines: isize) {
        let last = self.servers.len().saturating_sub(1);
        let at = self.selected_line().saturating_add_signed(lines).min(last);
        self.selected = self
            .servers
            .get(at)
            .map(|shown| shown.status.cgroup.clone());
    }

    fn selected_line(&self) -> usize {
        let selected = self.selected.as_deref();
        let at = |shown: &Shown| Some(shown.status.cgroup.as_str()) == selected;
        self.servers.iter().position(at).unwrap_or(0)
    }

    fn sort(&mut self) {
        let order = self.order;
        self.servers.sort_by(|a, b| {
            let (a, b) = (&a.status, &b.status);
            let first = match order {
                Order::Cpu => b.cpu_cores.total_cmp(&a.cpu_cores),
                Order::Credits => share(a).total_cmp(&share(b)),
                Order::User => std::cmp::Ordering::Equal,
            };
            first
                .then_with(|| (&a.user, &a.server).cmp(&(&b.user, &b.server)))
                .then_with(|| a.cgroup.cmp(&b.cgroup))
        });
    }

    /// Everything as plain text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.head);
        if let Some(why) = &self.trouble {
            let _ = writeln!(text, "{why}");
        }
        let mut table = Table::new(HEADS);
        for shown in &self.servers {
            table.row(shown.cells());
        }
        let mut lines = table.lines().into_iter();
        let _ = writeln!(text, "\n{}", lines.next().unwrap_or_default());
        for (shown, line) in self.servers.iter().zip(lines) {
            let _ = writeln!(text, "{line}");
            for group in &shown.groups {
                let [cpu, count, kind, program] = cells(group);
                let _ = writeln!(text, "    {cpu}  {count} x {kind}  {program}");
            }
        }
        text
    }

    /// Draws a frame.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let below = BELOW.min(frame.area().height / 2);
        let [head, trouble, grid, detail, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Min(2),
            Constraint::Length(below),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Line::from(self.head.as_str()).style(bold()), head);
        if let Some(why) = &self.trouble {
            frame.render_widget(Line::from(why.as_str()), trouble);
        }
        self.draw_servers(frame, grid);
        self.draw_processes(frame, detail);
        let words = format!("q quit   s sort: {}   up/down select", self.order.as_str());
        frame.render_widget(Line::from(words), keys);
    }

    fn draw_servers(&mut self, frame: &mut Frame<'_>, area: Rect) {
        if self.servers.is_empty() {
            frame.render_widget(Paragraph::new("No servers."), area);
            return;
        }
        let rows = self.servers.iter().map(|shown| Row::new(shown.cells()));
        let widest = self
            .servers
            .iter()
            .map(|shown| {
                HubUser(shown.status.user.clone())
                    .to_string()
                    .chars()
                    .count()
            })
            .max()
            .unwrap_or(0);
        let user = u16::try_from(widest).unwrap_or(u16::MAX).clamp(4, 20);
        let widths = [
            Constraint::Length(user),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(7),
            Constraint::Length(13),
            Constraint::Length(10),
            Constraint::Min(10),
        ];
        let grid = Grid::new(rows, widths)
            .header(Row::new(HEADS).style(bold()))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        self.grid.select(Some(self.selected_line()));
        frame.render_stateful_widget(grid, area, &mut self.grid);
    }

    fn draw_processes(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(shown) = self.servers.get(self.selected_line()) else {
            return;
        };
        let [head, rest] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
        let whose = format!("What runs for {}", shown.name());
        frame.render_widget(Line::from(whose).style(bold()), head);
        let widths = [
            Constraint::Length(6),
            Constraint::Length(5),
            Constraint::Length(11),
            Constraint::Min(20),
        ];
        let rows = shown.groups.iter().map(|group| Row::new(cells(group)));
        let grid = Grid::new(rows, widths).header(Row::new(GROUP_HEADS).style(bold()));
        frame.render_widget(grid, rest);
    }
}

impl Shown {
    /// User and server, safe to show.
    fn name(&self) -> String {
        let user = HubUser(self.status.user.clone());
        match self.status.server.as_str() {
            "" => user.to_string(),
            server => format!("{user}/{}", Plain(server)),
        }
    }

    fn cells(&self) -> [String; 7] {
        let status = &self.status;
        let limit = match status.limit_cores {
            0.0 => "-".to_owned(),
            limit => format!("{limit:.2}"),
        };
        let credits = match status.credits_unlimited {
            true => "any".to_owned(),
            false => format!("{:.0} %", 100.0 * share(status)),
        };
        let evidence = match status.evidence.as_str() {
            "none" => "-",
            other => other,
        };
        let busiest = self.groups.first().filter(|group| group.cpu_cores > 0.0);
        [
            cut(&self.name(), 20),
            format!("{:.2}", status.cpu_cores),
            limit,
            credits,
            status.rung.clone(),
            evidence.to_owned(),
            busiest.map_or("-".to_owned(), |group| cells(group)[3].clone()),
        ]
    }
}

fn cells(group: &ProcessGroup) -> [String; 4] {
    [
        format!("{:.2}", group.cpu_cores),
        group.processes.to_string(),
        group.kind.clone(),
        Plain(&group.program).to_string(),
    ]
}

fn share(server: &ServerStatus) -> f64 {
    match server.credits_size_core_seconds > 0.0 {
        true => server.credits_core_seconds / server.credits_size_core_seconds,
        false => 0.0,
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::{node, server};
    use crate::control::ServerProcesses;
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
            lines[0].contains("2 servers, 2 held back, 2.23 cores"),
            "{lines:#?}"
        );
        assert!(lines[2].starts_with("USER"), "{lines:#?}");
        assert!(lines[3].starts_with("bob   1.98"), "{lines:#?}");
        assert!(lines[3].contains("/home/bob/python"), "{lines:#?}");
        assert!(lines[4].starts_with("alice 0.25"), "{lines:#?}");
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("What runs for bob"))
        );
        assert!(lines[23].starts_with("q quit   s sort: cpu"), "{lines:#?}");
        view.select(1);
        let lines = drawn(&mut view, 80, 24);
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("What runs for alice"))
        );
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("0.25   3     own         /usr/bin/python3.11")),
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
        view.select(-1);
        assert_eq!(view.selected_line(), 0);
        view.select(1);
        view.take(reading(&[
            ("a", 1.0, "x"),
            ("b", 2.0, "x"),
            ("c", 3.0, "x"),
        ]));
        assert_eq!(view.servers[view.selected_line()].status.user, "b");
        view.select(9);
        assert_eq!(view.servers[view.selected_line()].status.user, "a");
        view.sort_by_next();
        view.sort_by_next();
        assert_eq!(view.servers[0].status.user, "a");
        view.take(reading(&[]));
        view.select(1);
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
            text.contains("    0.25  3 x own  /usr/bin/python3.11\n"),
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
}
