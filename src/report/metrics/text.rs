//! A snapshot as text, in the two formats that are read in the field.

use super::snapshot::{MetricsSnapshot, STAGES, ServerMetrics};
use crate::report::Shared;
use egress::names::Tally as Answers;
use policy::Stage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, EncodeMetric,
    MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, which newer collectors ask for.
    OpenMetrics,
    /// Prometheus's text format 0.0.4, which node_exporter and `promtool check metrics` read.
    Prometheus,
}

impl Format {
    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Writes a snapshot. User names are label values, which the library escapes.
    ///
    /// # Errors
    /// None in practice: a `String` takes everything.
    pub fn write(self, snapshot: Arc<MetricsSnapshot>) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("hubwarden");
        registry.register_collector(Box::new(View(snapshot)));
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(match self {
            Format::OpenMetrics => text,
            Format::Prometheus => as_prometheus(&text),
        })
    }
}

/// OpenMetrics as the older format has it: there a counter's `_total` is part of the family's
/// name, and units and the end are not stated.
fn as_prometheus(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        let comment = line
            .strip_prefix("# ")
            .and_then(|rest| rest.split_once(' '));
        match comment {
            Some(("HELP", rest)) => help = rest.split_once(' '),
            Some(("TYPE", rest)) => {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
                let suffix = if kind == "counter" { "_total" } else { "" };
                let words = help.take().map_or("", |(_, words)| words);
                out.push_str(&format!(
                    "# HELP {name}{suffix} {words}\n# TYPE {name}{suffix} {kind}\n"
                ));
            }
            _ if line.starts_with('#') => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[derive(Debug)]
struct View(Arc<MetricsSnapshot>);

impl Collector for View {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut writer = Writer(encoder);
        node(&mut writer, &self.0)?;
        if self.0.user_names {
            servers(&mut writer, &self.0.servers)?;
        }
        Ok(())
    }
}

/// What concerns the daemon and the node as a whole.
fn node(out: &mut Writer<'_>, snapshot: &MetricsSnapshot) -> fmt::Result {
    let flag = |yes: bool| u64::from(yes);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    out.gauges(
        "build_info",
        "The running hubwarden.",
        None,
        [(version, 1u64)],
    )?;
    out.gauge("up", "1 while the daemon runs.", None, 1u64)?;
    let help = "When these numbers were taken, since 1970.";
    let taken = snapshot.taken.as_secs_f64();
    out.gauge("snapshot_timestamp", help, Some(&Unit::Seconds), taken)?;
    let help = "1 where verdicts are carried out, 0 where they are only reported.";
    out.gauge("enforcing", help, None, flag(snapshot.enforcing))?;
    let help = "1 after `hubwarden off`.";
    out.gauge("off", help, None, flag(snapshot.off))?;
    let help = "1 while the packet rules stand as they should.";
    out.gauge("egress_loaded", help, None, flag(snapshot.egress_loaded))?;
    let help = "Units that may be servers, but nobody can tell whose.";
    out.gauge("unknown_units", help, None, snapshot.coverage.unknown_units)?;
    let help = "Places where users run that CPU limits or packet rules do not hold; hubwarden status names them.";
    out.gauge("uncovered_places", help, None, snapshot.coverage.uncovered)?;
    let help = "Servers now, by stage of the ladder.";
    let stages = snapshot.stages.iter();
    let stages = stages.map(|(stage, count)| ([("stage", stage.as_str())], count));
    out.gauges("servers", help, None, stages)?;
    let help = "Verdicts since the daemon started, by the stage they led to; in observe mode those \
                that would have been carried out.";
    let verdicts = snapshot.totals.verdicts.iter();
    let verdicts = verdicts.map(|(stage, count)| ([("stage", stage.as_str())], count));
    out.counters("verdicts", help, None, verdicts)?;
    let help = "Packets refused since the daemon started; in observe mode those that would have \
                been refused.";
    out.counter("egress_refusals", help, None, snapshot.totals.refusals)?;
    let help = "Those of them that the kernel told of one by one, ten a minute and server at most.";
    out.counter(
        "egress_refusals_told",
        help,
        None,
        snapshot.totals.refusals_told,
    )?;
    names(out, &snapshot.answers)?;
    let help = "What was over a sender's share of what all need since the daemon started: addresses that \
                had to go, questions that did not count, attempts that were not noted.";
    let over = Shared::ALL.into_iter().zip(snapshot.totals.over_shares);
    let over = over.map(|(shared, count)| ([("share", shared.as_str())], count));
    out.counters("over_share", help, None, over)?;
    let help = "Journal entries lost since the daemon started.";
    out.counter("journal_entries_lost", help, None, snapshot.journal_lost)?;
    let help = "1 while this thread of the daemon's runs and answers, 0 while it is dead or stuck; \
                `hubwarden status` says why.";
    let threads = snapshot.threads.iter();
    let threads = threads.map(|(thread, well)| ([("thread", *thread)], flag(*well)));
    out.gauges("thread_up", help, None, threads)?;
    let help = "Starts of programs that the sensors for miners could not read since the daemon \
                started, by the reason: too_fast were over 100 a second of one server, of ended the \
                program was over, of overflows each stands for an unknown number.";
    let missed = snapshot.starts_missed;
    let missed = [
        ("too_fast", missed.too_fast),
        ("ended", missed.ended),
        ("overflows", missed.overflows),
    ];
    let missed = missed.map(|(why, count)| ([("reason", why)], count));
    out.counters("starts_missed", help, None, missed)?;
    let help = "CPU time of all servers since the daemon started.";
    let seconds = Some(&Unit::Seconds);
    out.counter(
        "servers_cpu",
        help,
        seconds,
        snapshot.totals.cpu.as_secs_f64(),
    )?;
    let help = "Time for which servers stood throttled since the daemon started, added up.";
    let throttled = snapshot.totals.throttled.as_secs_f64();
    out.counter("servers_throttled", help, seconds, throttled)?;
    let help = "Memory of all servers now.";
    out.gauge("servers_memory", help, Some(&Unit::Bytes), snapshot.memory)?;
    let help = "Processes and threads of all servers now.";
    out.gauge("servers_pids", help, None, snapshot.pids)?;
    let help = "How long a tick kept the daemon busy.";
    let kind = MetricType::Histogram;
    let ticks = &snapshot.totals.ticks;
    let sum = ticks.sum().as_secs_f64();
    out.0
        .encode_descriptor("tick_duration", help, seconds, kind)?
        .encode_histogram::<NoLabelSet>(sum, ticks.count(), &ticks.buckets(), None)
}

/// What became of resolvers' answers.
fn names(out: &mut Writer<'_>, answers: &Answers) -> fmt::Result {
    let help = "Resolvers' answers that were read since the daemon started.";
    out.counter("dns_answers_read", help, None, answers.read)?;
    let help = "Addresses that classes with names reach since then.";
    out.counter("dns_addresses_learned", help, None, answers.learned)?;
    let help = "Addresses of allowed names that stayed out of reach, being in private networks.";
    out.counter("dns_addresses_private", help, None, answers.closed)?;
    let help = "Answers that were turned into \"no such name\".";
    out.counter("dns_answers_refused", help, None, answers.refused)?;
    let help = "Answers that nothing was learned from, by the reason: unasked ones came to servers of \
                classes with names and answer no question of theirs, truncated ones say so of \
                themselves, malformed ones are no answers, of failed the kernel took no address.";
    let unusable = [
        ("unasked", answers.unasked),
        ("truncated", answers.truncated),
        ("malformed", answers.malformed),
        ("failed", answers.failed),
    ];
    let unusable = unusable.map(|(why, count)| ([("reason", why)], count));
    out.counters("dns_answers_unusable", help, None, unusable)?;
    let help = "Questions whose answers do not count, since their sender asked too many at once.";
    out.counter("dns_questions_forgotten", help, None, answers.forgotten)?;
    let help = "Packets of resolvers that were dropped instead of being let go on.";
    out.counter("dns_packets_dropped", help, None, answers.dropped)?;
    let help = "Packets of resolvers that the kernel dropped, since too many waited to be read.";
    out.counter("dns_queue_overruns", help, None, answers.overrun)
}

/// What concerns each server.
fn servers(out: &mut Writer<'_>, all: &[ServerMetrics]) -> fmt::Result {
    let seconds = Some(&Unit::Seconds);
    let cpu = all.iter().map(|s| (labels(s), s.cpu.as_secs_f64()));
    let help = "CPU time used since the server started (usage_usec of cpu.stat).";
    out.counters("server_cpu", help, seconds, cpu)?;
    let throttled = all
        .iter()
        .filter_map(|s| Some((labels(s), s.throttled?.as_secs_f64())));
    let help = "Time for which the server stood throttled (throttled_usec of cpu.stat).";
    out.counters("server_throttled", help, seconds, throttled)?;
    let credits = all.iter().map(|s| (labels(s), s.credits.0));
    let help = "CPU credits that are left.";
    out.gauges("server_credits_core", help, seconds, credits)?;
    let size = all.iter().map(|s| (labels(s), s.credits_size.0));
    let help = "CPU credits of a rested server.";
    out.gauges("server_credits_size_core", help, seconds, size)?;
    let limit = all.iter().filter_map(|s| Some((labels(s), s.limit?.0)));
    let help = "The CPU limit that hubwarden has set; no series where it has set none.";
    out.gauges("server_limit_cores", help, None, limit)?;
    let stages = all.iter().flat_map(|s| {
        let stands = move |stage: &Stage| (with_stage(s, *stage), u64::from(*stage == s.stage));
        STAGES.iter().map(stands)
    });
    let help = "1 for the stage of the ladder on which the server stands, 0 for the others.";
    out.gauges("server_stage", help, None, stages)?;
    let memory = all.iter().filter_map(|s| Some((labels(s), s.memory?)));
    let help = "Memory in use (memory.current).";
    out.gauges("server_memory", help, Some(&Unit::Bytes), memory)?;
    let pids = all.iter().filter_map(|s| Some((labels(s), s.pids?)));
    let help = "Processes and threads (pids.current).";
    out.gauges("server_pids", help, None, pids)?;
    let verdicts = all.iter().flat_map(|s| {
        let reached = s.verdicts.iter();
        reached.map(move |(stage, count)| (with_stage(s, stage), count))
    });
    let help = "Verdicts since the daemon started, by the stage they led to.";
    out.counters("server_verdicts", help, None, verdicts)?;
    let refusals = all.iter().map(|s| (labels(s), s.refusals));
    let help = "Packets of the server that were refused since the daemon started; in observe mode \
                those that would have been refused.";
    out.counters("server_egress_refusals", help, None, refusals)?;
    let packets = all.iter().map(|s| (labels(s), s.sent_packets));
    let help = "Packets the server sent since the daemon started, refused ones and those to itself \
                included.";
    out.counters("server_sent_packets", help, None, packets)?;
    let bytes = all.iter().map(|s| (labels(s), s.sent_bytes));
    let help = "Bytes of those packets.";
    out.counters("server_sent", help, Some(&Unit::Bytes), bytes)
}

type Labels<'a> = [(&'static str, &'a str); 2];

fn labels(server: &ServerMetrics) -> Labels<'_> {
    [("user", &server.user), ("server", &server.server)]
}

fn with_stage(
    server: &ServerMetrics,
    stage: Stage,
) -> (Labels<'_>, [(&'static str, &'static str); 1]) {
    (labels(server), [("stage", stage.as_str())])
}

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge<N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: N,
    ) -> fmt::Result {
        let metric = self.begin(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn gauges<L: EncodeLabelSet, N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: impl IntoIterator<Item = (L, N)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in series {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counter<N: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: N,
    ) -> fmt::Result {
        let metric = self.begin(name, help, unit, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    fn counters<L: EncodeLabelSet, N: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: impl IntoIterator<Item = (L, N)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, help, unit, MetricType::Counter)?;
        for (labels, value) in series {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn begin<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }
}
