//! Runs → one HTML page: scores, a threshold sweep, distributions of the critique, every question to open. No script, nothing from
//! elsewhere; whatever comes from rows, passages and models is escaped.

mod chart;
mod questions;
mod sweep;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use super::{
    journal::Records,
    metrics,
    record::{Header, Method, Metrics, Outcome, Record, Written},
};
use crate::{Error, Result, critique::Scores, self_rag::Mode};

/// Bars of a distribution.
const BINS: usize = 20;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886;--soft:#8882;--a:#2a78c8;--b:#d9822b}
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.5rem 0}td,th{border:1px solid var(--line);padding:.2rem .5rem;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}tr.best{background:var(--soft)}
details{border-bottom:1px solid var(--line);padding:.2rem 0}summary{cursor:pointer}
.wide{overflow-x:auto}.charts{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0}figcaption{font-size:.85rem}
svg text{font-size:11px;fill:currentColor}.note{opacity:.75;font-size:.9rem}.good{color:#2a8a4a}.bad{color:#c0392b}";

/// Name, value, and the range of a part of the critique.
type Part = (&'static str, fn(&Scores) -> Option<f32>, f32, f32);

/// A run that was read.
struct Run {
    /// Its file's name.
    name: String,
    header: Header,
    records: Vec<Record>,
}

/// Writes the page about the journals `runs`.
pub fn write(runs: &[PathBuf], output: &Path) -> Result<()> {
    let mut read = Vec::new();
    for path in runs {
        let records = Records::open(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().replace(".records.jsonl", "");
        read.push(Run { name, header: records.header.clone(), records: records.collect::<Result<_>>()? });
    }
    std::fs::write(output, page(&read)).map_err(|e| Error::io(output.display().to_string(), e))
}

fn page(runs: &[Run]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Self-RAG evaluation</title>\n<style>{STYLE}</style>\n<h1>Self-RAG evaluation</h1>\n"
    );
    out += "<h2>Scores</h2>\n";
    out += &scores(runs);
    let sweeps = sweep::of(runs);
    if !sweeps.is_empty() {
        out += "<h2>Threshold sweep</h2>\n<p class=\"note\">What another δ would have given, from what these runs wrote: with passages \
                where p(Retrieve) is above it, without elsewhere. Runs with and without passages over one file make it complete.</p>\n";
        out += &sweeps;
    }
    for run in runs {
        let _ = writeln!(out, "<h2>{}: {}</h2>", escape(&run.name), run.header.task.name());
        out += &distributions(run);
        out += &questions::list(run);
    }
    out
}

/// A table of all runs for each task.
fn scores(runs: &[Run]) -> String {
    let mut tasks: Vec<&str> = Vec::new();
    for run in runs {
        let task = run.header.task.name();
        if !tasks.contains(&task) {
            tasks.push(task);
        }
    }
    let mut out = String::new();
    for task in tasks {
        let of_task: Vec<(&Run, Metrics)> = runs
            .iter()
            .filter(|run| run.header.task.name() == task)
            .map(|run| (run, metrics::means(run.records.iter().filter_map(Record::metrics))))
            .collect();
        let mut names: Vec<&String> = of_task.iter().flat_map(|(_, means)| means.keys()).collect();
        names.sort();
        names.dedup();
        let heads: String = names.iter().map(|name| format!("<th>{}</th>", escape(name))).collect();
        let _ = write!(
            out,
            "<h3>{task}</h3>\n<div class=\"wide\"><table><tr><th>run</th><th>how</th><th>answered</th><th>not scored</th>\
             <th>retrieval frequency</th>{heads}</tr>\n"
        );
        for (run, means) in &of_task {
            let answered = run.records.iter().filter(|record| record.metrics().is_some()).count();
            let retrieved = run.records.iter().filter(|record| is_retrieved(record)).count();
            let frequency = metrics::retrieval_frequency(retrieved, answered, false);
            let _ = write!(
                out,
                "<tr><td>{}</td><td>{}</td><td class=\"n\">{answered}</td><td class=\"n\">{}</td><td class=\"n\">{frequency:.4}</td>",
                escape(&run.name),
                escape(&how(&run.header)),
                run.records.len() - answered
            );
            for name in &names {
                let value = means.get(*name).map_or("–".into(), |mean| format!("{mean:.4}"));
                let _ = write!(out, "<td class=\"n\">{value}</td>");
            }
            out += "</tr>\n";
        }
        out += "</table></div>\n";
    }
    out
}

fn is_retrieved(record: &Record) -> bool {
    matches!(record.outcome, Outcome::Answered { retrieved: true, .. })
}

/// A run's method in a few words.
fn how(header: &Header) -> String {
    let base = header.method.base();
    let mode = match base.mode {
        Mode::Adaptive => match base.threshold {
            Some(threshold) => format!("adaptive, δ {threshold}"),
            None => "adaptive, most likely token".into(),
        },
        Mode::Always => "always".into(),
        Mode::Never => "never".into(),
    };
    let weights = format!("w {}, {}, {}", base.w_rel, base.w_sup, base.w_use);
    let common = format!("{} passages, {} tokens, {}", base.n_docs, base.max_new_tokens, header.generator);
    match &header.method {
        Method::Short(_) => format!("short; {mode}; {weights}; {common}"),
        Method::Long(config) => {
            format!("long; {mode}; {weights}; beam {}, {} segments; {common}", config.beam_width, config.levels())
        }
        Method::Baseline(prompt, _) => format!("baseline {prompt:?}; {common}"),
    }
}

/// How the critique's values of the chosen candidates are spread, right and wrong answers apart.
fn distributions(run: &Run) -> String {
    let headline = metrics::headline(run.header.task);
    let mut values: Vec<(Scores, bool)> = Vec::new();
    for record in &run.records {
        let Outcome::Answered { metrics, written, .. } = &record.outcome else { continue };
        let is_good = metrics.get(headline).is_some_and(|value| *value >= 0.5);
        values.extend(chosen(written).into_iter().map(|scores| (scores, is_good)));
    }
    let weights = run.header.method.base();
    let most = 1.0 + weights.w_rel.abs() + weights.w_sup.abs() + weights.w_use.abs();
    let parts: [Part; 5] = [
        ("ISREL", |scores| scores.is_rel, 0.0, 1.0),
        ("ISSUP", |scores| scores.is_sup, 0.0, 1.0),
        ("ISUSE", |scores| scores.is_use, -1.0, 1.0),
        ("sequence", |scores| scores.sequence, 0.0, 1.0),
        ("segment", |scores| scores.segment, -most, most),
    ];
    let mut charts = String::new();
    for (name, of, low, high) in parts {
        let mut bins = [[0_usize; 2]; BINS];
        for (value, is_good) in values.iter().filter_map(|(scores, is_good)| Some((of(scores)?, is_good))) {
            let at = ((value - low) / (high - low) * BINS as f32).clamp(0.0, BINS as f32 - 1.0) as usize;
            bins[at][usize::from(!is_good)] += 1;
        }
        if bins.iter().flatten().any(|count| *count > 0) {
            charts += &chart::histogram(name, &bins, low, high);
        }
    }
    if charts.is_empty() {
        return String::new();
    }
    format!(
        "<h3>Scores of what was chosen</h3>\n<p class=\"note\">Blue: {headline} of at least 0.5; orange: less.</p>\n\
         <div class=\"charts\">{charts}</div>\n"
    )
}

/// The scores of the chosen candidate, or of each segment of the chosen path.
fn chosen(written: &Written) -> Vec<Scores> {
    match written {
        Written::Short(answer) => answer.candidates.get(answer.best).map(|best| best.scores).into_iter().collect(),
        Written::Long(answer) => {
            answer.path.iter().filter_map(|&node| Some(answer.tree.nodes.get(node)?.candidate.scores)).collect()
        }
        Written::Plain { .. } => Vec::new(),
    }
}

/// Text as HTML shows it. Control characters and those that turn the direction of text around are shown as U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\n' | '\t' => escaped.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
