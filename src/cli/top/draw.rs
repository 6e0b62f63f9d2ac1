//! The view as a frame of a terminal of any size.
//!
//! It has no colours: bold and reversed show on every terminal, whatever `NO_COLOR` says.

use super::view::{HEADS, Shown, View, cells};
use crate::cli::table::{cut, cut_front, wide};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table as Grid};

const GROUP_HEADS: [&str; 4] = ["CPU", "COUNT", "KIND", "PROGRAM"];
/// Lines for what runs in the selected server: its two heads and the groups, as far as there is room.
const GROUPS_HEAD: u16 = 2;

/// What room goes to, first to last: to which column, and up to which width. `None` is all that is in
/// it, or the column is left out with all that come after it.
const WORTH: [(usize, Option<usize>); 8] = [
    (USER, Some(8)),
    (1, None),
    (4, None),
    (5, None),
    (USER, Some(12)),
    (3, None),
    (BUSIEST, Some(12)),
    (2, None),
];
const USER: usize = 0;
const BUSIEST: usize = 6;
/// A name is cut to that before it takes room from others.
const NAME: usize = 24;

impl View {
    /// Draws a frame.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let groups = self.servers.get(self.selected_line());
        let groups = groups.map_or(0, |shown| shown.groups.len().max(1));
        let below = u16::try_from(groups).unwrap_or(u16::MAX);
        let below = below.saturating_add(GROUPS_HEAD);
        let [head, trouble, grid, detail, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Min(2),
            Constraint::Length(below.min(frame.area().height.saturating_sub(3) / 2)),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Line::from(fit(&self.head, head)).style(bold()), head);
        if let Some(why) = &self.trouble {
            frame.render_widget(Line::from(fit(why, trouble)), trouble);
        }
        self.draw_servers(frame, grid);
        if let Some(shown) = self.servers.get(self.selected_line()) {
            draw_processes(shown, frame, detail);
        }
        let words = format!(
            "{} of {}   q quit   s sort: {}   up/down select",
            (self.selected_line() + 1).min(self.servers.len()),
            self.servers.len(),
            self.order.as_str()
        );
        frame.render_widget(Line::from(fit(&words, keys)), keys);
    }

    fn draw_servers(&mut self, frame: &mut Frame<'_>, area: Rect) {
        self.page = usize::from(area.height.saturating_sub(1)).max(1);
        if self.servers.is_empty() {
            frame.render_widget(Paragraph::new("No servers."), area);
            return;
        }
        let rows: Vec<[String; 7]> = self.servers.iter().map(Shown::cells).collect();
        let columns = columns(&rows, usize::from(area.width));
        let head = columns
            .iter()
            .map(|(column, _)| aligned(HEADS[*column], *column));
        let row = |(shown, cells): (&Shown, &[String; 7])| {
            let cells = columns.iter().map(|(column, width)| {
                let text = match *column {
                    BUSIEST => cut_front(&cells[*column], *width),
                    _ => cut(&cells[*column], *width),
                };
                aligned(text, *column)
            });
            let held = shown.status.stage != "free";
            let style = if held { bold() } else { Style::new() };
            Row::new(cells.collect::<Vec<_>>()).style(style)
        };
        let widths = columns.iter().map(|(_, width)| length(*width));
        let grid = Grid::new(self.servers.iter().zip(&rows).map(row), widths)
            .header(Row::new(head.collect::<Vec<_>>()).style(bold()))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        self.grid.select(Some(self.selected_line()));
        frame.render_stateful_widget(grid, area, &mut self.grid);
    }
}

/// The columns that have room, from the left, with their widths.
fn columns(rows: &[[String; 7]], room: usize) -> Vec<(usize, usize)> {
    let whole = |column: usize| {
        let cells = rows.iter().map(|cells| wide(&cells[column]));
        cells.max().unwrap_or(0).max(wide(HEADS[column]))
    };
    let mut columns: Vec<(usize, usize)> = Vec::new();
    let mut left = room;
    for (column, least) in WORTH {
        let needs = least.map_or(whole(column), |least| whole(column).min(least));
        if let Some((_, width)) = columns.iter_mut().find(|(known, _)| *known == column) {
            let more = needs.saturating_sub(*width).min(left);
            *width += more;
            left -= more;
            continue;
        }
        let gap = usize::from(!columns.is_empty());
        if needs + gap > left {
            break;
        }
        left -= needs + gap;
        columns.push((column, needs));
    }
    // What is left goes to those that are cut: names first, but not without end.
    for (grown, most) in [(USER, NAME), (BUSIEST, room), (USER, room)] {
        if let Some((column, width)) = columns.iter_mut().find(|(column, _)| *column == grown) {
            let more = whole(*column).min(most).saturating_sub(*width).min(left);
            *width += more;
            left -= more;
        }
    }
    columns.sort_unstable();
    columns
}

fn draw_processes(shown: &Shown, frame: &mut Frame<'_>, area: Rect) {
    let [head, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    let room = usize::from(rest.height.saturating_sub(1));
    let whole = shown.groups.len();
    let fitting = if whole > room {
        room.saturating_sub(1)
    } else {
        whole
    };
    let whose = format!("What runs for {}", shown.name());
    frame.render_widget(Line::from(fit(&whose, head)).style(bold()), head);
    if whole == 0 {
        frame.render_widget(Paragraph::new("No process."), rest);
        return;
    }
    let widths = [6, 5, 11];
    let taken: usize = widths.iter().map(|width| width + 1).sum();
    let program = usize::from(rest.width).saturating_sub(taken);
    let mut rows: Vec<Row<'_>> = shown
        .groups
        .iter()
        .take(fitting)
        .map(|group| {
            let [cpu, count, kind, name] = cells(group);
            let right = |text: String| Cell::from(Line::from(text).right_aligned());
            let name = cut_front(&name, program);
            Row::new([right(cpu), right(count), Cell::from(kind), Cell::from(name)])
        })
        .collect();
    if fitting < whole {
        let more = format!("and {} more: hubwarden explain", whole - fitting);
        rows.push(Row::new(
            ["", "", "", &cut(&more, program)].map(str::to_owned),
        ));
    }
    let [cpu, count, kind, name] = GROUP_HEADS;
    let right = |text| Cell::from(Line::from(text).right_aligned());
    let heads = Row::new([right(cpu), right(count), kind.into(), name.into()]);
    let widths = widths.into_iter().chain([program]).map(length);
    frame.render_widget(Grid::new(rows, widths).header(heads.style(bold())), rest);
}

/// Numbers stand under each other.
fn aligned<'a>(text: impl Into<Line<'a>>, column: usize) -> Cell<'a> {
    let line = text.into();
    match column {
        1..=3 => Cell::from(line.right_aligned()),
        _ => Cell::from(line),
    }
}

fn length(width: usize) -> Constraint {
    Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX))
}

fn fit(text: &str, area: Rect) -> String {
    cut(text, usize::from(area.width))
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}
