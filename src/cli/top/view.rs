//! What `top` shows, whatever shows it; as plain text here, on a terminal in `draw`.

use super::Reading;
use crate::cli::answer::whose;
use crate::cli::explain::groups_of;
use crate::cli::status::{limit, mining, share};
use crate::cli::table::Table;
use crate::control::{NodeStatus, ProcessGroup, ServerStatus};
use clap::ValueEnum;
use quantities::Plain;
use ratatui::widgets::TableState;
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

    pub fn as_str(self) -> &'static str {
        match self {
            Order::Cpu => "cpu",
            Order::Credits => "credits",
            Order::User => "user",
        }
    }
}

/// How far the selection moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// So many lines down.
    Lines(isize),
    /// So many times what is seen at once.
    Pages(isize),
}

/// The state of the screen.
pub(super) struct View {
    pub order: Order,
    pub head: String,
    /// What else has to be known, in a line.
    pub trouble: Option<String>,
    pub servers: Vec<Shown>,
    /// The cgroup of the server that is selected: lines move, it stays.
    selected: Option<String>,
    pub grid: TableState,
    /// Servers seen at once, when last drawn.
    pub page: usize,
}

/// A server and what runs in it.
pub(super) struct Shown {
    pub status: ServerStatus,
    pub groups: Vec<ProcessGroup>,
}

pub(super) const HEADS: [&str; 7] = [
    "USER", "CPU", "LIMIT", "CREDITS", "STATE", "MINING", "BUSIEST",
];

impl View {
    pub fn new(order: Order) -> View {
        View {
            order,
            head: String::new(),
            trouble: None,
            servers: Vec::new(),
            selected: None,
            grid: TableState::default(),
            page: 1,
        }
    }

    /// Shows another reading.
    pub fn take(&mut self, reading: Reading) {
        self.head = head(&reading.node, &reading.servers);
        let (processes, trouble) = match reading.processes {
            Ok(processes) => (processes, None),
            Err(why) => (Vec::new(), Some(Plain(&why).to_string())),
        };
        self.trouble = trouble.or_else(|| amiss(&reading.node));
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

    /// There was no answer this time: what is shown is old, and that is said.
    pub fn lost(&mut self, why: &str) {
        self.trouble = Some(format!("Not up to date: {}", Plain(why)));
    }

    /// Sorts by the next thing.
    pub fn sort_by_next(&mut self) {
        self.order = self.order.next();
        self.sort();
    }

    /// Moves the selection.
    pub fn select(&mut self, step: Step) {
        let lines = match step {
            Step::Lines(lines) => lines,
            Step::Pages(pages) => pages.saturating_mul(self.page.try_into().unwrap_or(1)),
        };
        let last = self.servers.len().saturating_sub(1);
        let at = self.selected_line().saturating_add_signed(lines).min(last);
        self.selected = self
            .servers
            .get(at)
            .map(|shown| shown.status.cgroup.clone());
    }

    pub fn selected_line(&self) -> usize {
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
                Order::Credits => left(a).total_cmp(&left(b)),
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
                let line = format!("    {cpu:>5}  {count:>4} x {kind:11}  {program}");
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
        text
    }
}

impl Shown {
    pub fn name(&self) -> String {
        whose(&self.status.user, &self.status.server)
    }

    /// Under [`HEADS`], safe to show.
    pub fn cells(&self) -> [String; 7] {
        let status = &self.status;
        let credits = match status.credits_unlimited {
            true => "any".to_owned(),
            false => format!("{:.0} %", 100.0 * share(status)),
        };
        let busiest = self.groups.first().filter(|group| group.cpu_cores > 0.0);
        [
            self.name(),
            format!("{:.2}", status.cpu_cores),
            limit(status),
            credits,
            status.stage.clone(),
            mining(status).to_owned(),
            busiest.map_or("-".to_owned(), |group| cells(group)[3].clone()),
        ]
    }
}

/// CPU, how many, kind and program of one group, safe to show.
pub(super) fn cells(group: &ProcessGroup) -> [String; 4] {
    [
        format!("{:.2}", group.cpu_cores),
        group.processes.to_string(),
        group.kind.clone(),
        Plain(&group.program).to_string(),
    ]
}

/// What comes first in it is what is still there on a narrow terminal.
fn head(node: &NodeStatus, servers: &[ServerStatus]) -> String {
    let used: f64 = servers.iter().map(|server| server.cpu_cores).sum();
    let held = servers.iter().filter(|server| server.stage != "free");
    let (mode, would) = match (node.off, node.mode.as_str()) {
        (true, _) => ("off", "would be "),
        (false, "enforce") => ("enforce", ""),
        (false, mode) => (mode, "would be "),
    };
    format!(
        "{} - {} server{}, {} {would}held back, {used:.2} cores - hubwarden {}",
        Plain(mode),
        servers.len(),
        if servers.len() == 1 { "" } else { "s" },
        held.count(),
        Plain(&node.version),
    )
}

/// What does not work on this node, in a line; `status` says it in full.
fn amiss(node: &NodeStatus) -> Option<String> {
    let mut amiss = Vec::new();
    if !node.egress_loaded && !node.off {
        amiss.push("packet rules NOT loaded".to_owned());
    }
    if !node.cpu_controller {
        amiss.push("CPU limits without effect".to_owned());
    }
    let lacks: Vec<&str> = node.lacks.iter().map(|(what, _)| what.as_str()).collect();
    if !lacks.is_empty() {
        amiss.push(format!("down or impaired: {}", lacks.join(", ")));
    }
    match node.unknown.len() {
        0 => {}
        1 => amiss.push("1 unit is not known as a server".to_owned()),
        count => amiss.push(format!("{count} units are not known as servers")),
    }
    let amiss = Plain(&amiss.join("; ")).to_string();
    (!amiss.is_empty()).then(|| format!("hubwarden status: {amiss}"))
}

/// Credits left, where unlimited ones are more than any.
fn left(server: &ServerStatus) -> f64 {
    match server.credits_unlimited {
        true => f64::INFINITY,
        false => share(server),
    }
}
