//! What a training file holds: labels, lengths, and rows that are broken, each with its line and reason.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use serde::Serialize;

use super::{
    critic::labels,
    parts::{Fault, Part, faults, parts},
    rows::{Masking, Span, Template, TrainingFile, TrainingRow},
};
use crate::{Error, Result, tokenizer::reflection::NAMES};

/// How long the text of a span is; the first span of a row begins a sequence.
pub type Measure<'a> = &'a dyn Fn(&Span, bool) -> Result<usize>;

/// A fault and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The row's line, counted from 1.
    pub line: usize,
    /// What kind of fault.
    pub fault: Fault,
    /// What was found and what was expected.
    pub problem: String,
}

/// How long rows are, prompt, output and end token together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lengths {
    /// `tokens`, or `words` where no vocabulary is at hand.
    pub unit: &'static str,
    /// All rows together.
    pub total: usize,
    /// Of these, what counts in the loss.
    pub trained: usize,
    /// Mean of a row.
    pub mean: f64,
    /// Percentiles by name: p50, p90, p95, p99, max.
    pub percentiles: Vec<(&'static str, usize)>,
    /// The length above which a row is cut.
    pub max_length: usize,
    /// Rows above it.
    pub over: usize,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The file.
    pub file: String,
    /// Of its unpacked bytes.
    pub sha256: String,
    /// Rows, broken ones included.
    pub rows: usize,
    /// Rows that could be read.
    pub readable: usize,
    /// Rows with any fault.
    pub faulty: usize,
    /// Rows by fault.
    pub faults: BTreeMap<&'static str, usize>,
    /// Every fault.
    pub places: Vec<Found>,
    /// Rows by set, or by task for a critic's.
    pub sets: BTreeMap<String, usize>,
    /// How often each reflection token stands in the outputs, in the tokens' order.
    pub tokens: Vec<(&'static str, usize)>,
    /// Rows by the sequence of their reflection tokens, most frequent first.
    pub combinations: Vec<(String, usize)>,
    /// Rows by their number of passages.
    pub passages: BTreeMap<usize, usize>,
    /// Rows some of whose output is not trained, passages aside.
    pub masked: usize,
    /// How long rows are; none: no row could be read.
    pub lengths: Option<Lengths>,
}

/// Reads all rows. `measure` counts tokens; without it words are counted.
pub fn report(file: &TrainingFile, measure: Option<Measure<'_>>, max_length: usize) -> Result<Report> {
    let mut report = Report {
        file: file.name().to_owned(),
        sha256: file.sha256().to_owned(),
        rows: file.len(),
        readable: 0,
        faulty: 0,
        faults: BTreeMap::new(),
        places: Vec::new(),
        sets: BTreeMap::new(),
        tokens: NAMES.into_iter().map(|name| (name, 0)).collect(),
        combinations: Vec::new(),
        passages: BTreeMap::new(),
        masked: 0,
        lengths: None,
    };
    let (mut ids, mut combinations) = (HashMap::<String, usize>::new(), HashMap::<String, usize>::new());
    let (mut lengths, mut trained) = (Vec::new(), 0);
    for index in 0..file.len() {
        let line = file.line(index);
        let mut found = Vec::new();
        match file.row(index) {
            Err(error) => {
                let problem = match error {
                    // The line is known; a place within it is worth keeping.
                    Error::Input { place, problem, .. } if place == format!("line {line}") => problem,
                    Error::Input { place, problem, .. } => format!("{place}: {problem}"),
                    other => return Err(other),
                };
                found.push((Fault::Unreadable, problem));
            }
            Ok(row) => {
                report.readable += 1;
                let template = if row.task.is_some() { Template::Critic } else { Template::Generator };
                found = row_faults(&row, template);
                if let Some(id) = &row.id {
                    match ids.get(id) {
                        Some(first) => found.push((Fault::DuplicateId, format!("{id:?} is line {first}'s"))),
                        None => drop(ids.insert(id.clone(), line)),
                    }
                }
                report.count(&row, template, &mut combinations);
                let spans = row.spans(template, Masking::Paper);
                // The end token.
                let (mut length, mut learned) = (1, usize::from(row.end_trained()));
                for (at, span) in spans.iter().enumerate() {
                    let n = measure.map_or_else(|| Ok(span.text.split_whitespace().count()), |f| f(span, at == 0))?;
                    length += n;
                    learned += if span.trained { n } else { 0 };
                }
                lengths.push(length);
                trained += learned;
            }
        }
        report.add(line, found);
    }
    if let Some(error) = file.broken() {
        let line = file.len().checked_sub(1).map_or(1, |last| file.line(last));
        report.add(line, vec![(Fault::Unreadable, error.to_string())]);
    }
    report.combinations = combinations.into_iter().collect();
    report.combinations.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let unit = if measure.is_some() { "tokens" } else { "words" };
    report.lengths = lengths_of(lengths, trained, unit, max_length);
    Ok(report)
}

/// What is wrong with a row that can be read.
fn row_faults(row: &TrainingRow, template: Template) -> Vec<(Fault, String)> {
    let mut found = Vec::new();
    if let (Template::Critic, Some(task)) = (template, &row.task) {
        let expected = labels(task).map(|range| NAMES[range].join(", "));
        match expected {
            None => found.push((Fault::Label, format!("task {task:?}, one of the critic's five expected"))),
            Some(expected) if !expected.split(", ").any(|label| label == row.output) => {
                let shown: String = row.output.chars().take(60).collect();
                found.push((Fault::Label, format!("{shown:?}, one of {expected} expected")));
            }
            Some(_) => {}
        }
    } else {
        found = faults(&row.output, row.pieces.is_some());
    }
    // The same fault of several segments is told once.
    found.dedup();
    if row.pieces.as_ref().is_some_and(|pieces| !pieces.iter().any(|piece| piece.train && !piece.text.is_empty())) {
        found.push((Fault::NothingTrained, "a piece with \"train\": true expected".into()));
    }
    found
}

impl Report {
    fn add(&mut self, line: usize, found: Vec<(Fault, String)>) {
        self.faulty += usize::from(!found.is_empty());
        let mut kinds: Vec<Fault> = found.iter().map(|(fault, _)| *fault).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.into_iter().for_each(|fault| *self.faults.entry(fault.name()).or_default() += 1);
        self.places.extend(found.into_iter().map(|(fault, problem)| Found { line, fault, problem }));
    }

    fn count(&mut self, row: &TrainingRow, template: Template, combinations: &mut HashMap<String, usize>) {
        let set = match template {
            Template::Critic => row.task.as_deref(),
            Template::Generator => row.dataset_name.as_deref(),
        };
        *self.sets.entry(set.unwrap_or("no name").to_owned()).or_default() += 1;
        let (parts, _) = parts(&row.output);
        let (mut sequence, mut passages) = (String::new(), 0);
        for part in parts {
            match part {
                Part::Token(token) => {
                    self.tokens[token].1 += 1;
                    sequence += NAMES[token];
                }
                Part::Passage(_) => {
                    passages += 1;
                    // The tags are counted as pairs: an open one too is a passage.
                    [5, 6].into_iter().for_each(|tag: usize| self.tokens[tag].1 += 1);
                }
                Part::Text(_) => {}
            }
        }
        *combinations.entry(sequence).or_default() += 1;
        *self.passages.entry(passages).or_default() += 1;
        self.masked += usize::from(row.pieces.as_ref().is_some_and(|pieces| pieces.iter().any(|piece| !piece.train)));
    }

    /// Whether every row is good.
    pub fn is_clean(&self) -> bool {
        self.faulty == 0
    }

    /// For a terminal: at most `n` combinations and `n` places.
    pub fn table(&self, n: usize) -> String {
        let mut out = format!("{}\n", self.file);
        let share = |count: usize| 100.0 * count as f64 / self.readable.max(1) as f64;
        let _ = writeln!(out, "rows {:>9}   readable {}, with faults {}", self.rows, self.readable, self.faulty);
        if self.masked > 0 {
            let _ = writeln!(out, "masked {:>7}   rows with text that is not trained, passages aside", self.masked);
        }
        if let Some(lengths) = &self.lengths {
            let percentiles: Vec<String> = lengths.percentiles.iter().map(|(name, n)| format!("{name} {n}")).collect();
            let trained = 100.0 * lengths.trained as f64 / lengths.total.max(1) as f64;
            let _ = writeln!(out, "{} {:>7}   trained {:.1} %", lengths.unit, lengths.total, trained);
            let _ = writeln!(out, "a row          mean {:.1}, {}", lengths.mean, percentiles.join(", "));
            let _ = writeln!(out, "over {:<9} {} ({:.2} %)", lengths.max_length, lengths.over, share(lengths.over));
        }
        let passages: Vec<String> = self.passages.iter().map(|(n, rows)| format!("{n}: {rows}")).collect();
        let _ = writeln!(out, "passages       {}", passages.join(", "));
        let list = |out: &mut String, title: &str, lines: &mut dyn Iterator<Item = (String, usize)>| {
            let _ = writeln!(out, "\n{title}");
            for (name, count) in lines {
                let _ = writeln!(out, "{count:>9} {:>6.2} %  {name}", share(count));
            }
        };
        list(&mut out, "sets", &mut self.sets.iter().map(|(name, count)| (name.clone(), *count)));
        list(&mut out, "reflection tokens", &mut self.tokens.iter().map(|(name, count)| ((*name).to_owned(), *count)));
        list(
            &mut out,
            "their combinations",
            &mut self.combinations.iter().take(n).map(|(name, count)| (brief(name), *count)),
        );
        if self.combinations.len() > n {
            let _ = writeln!(out, "          {} more", self.combinations.len() - n);
        }
        if !self.faults.is_empty() {
            list(
                &mut out,
                "rows with faults",
                &mut self.faults.iter().map(|(name, count)| ((*name).to_owned(), *count)),
            );
            for found in self.places.iter().take(n) {
                let _ = writeln!(out, "{}: line {}: {}: {}", self.file, found.line, found.fault.name(), found.problem);
            }
            if self.places.len() > n {
                let _ = writeln!(out, "{} more with --json", self.places.len() - n);
            }
        }
        out
    }
}

/// A sequence of tokens that a line can hold.
fn brief(sequence: &str) -> String {
    const LONGEST: usize = 160;
    let mut text: String = sequence.chars().take(LONGEST).collect();
    if sequence.is_empty() {
        text.push_str("(none)");
    } else if text.len() < sequence.len() {
        text.push('…');
    }
    text
}

fn lengths_of(mut lengths: Vec<usize>, trained: usize, unit: &'static str, max_length: usize) -> Option<Lengths> {
    lengths.sort_unstable();
    let longest = *lengths.last()?;
    let total = lengths.iter().sum();
    // The smallest length that so many of a hundred rows do not exceed.
    let percentile = |p: usize| lengths[(lengths.len() * p).div_ceil(100).max(1) - 1];
    let mut percentiles: Vec<(&'static str, usize)> =
        [("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)].map(|(name, p)| (name, percentile(p))).into();
    percentiles.push(("max", longest));
    let over = lengths.iter().filter(|length| **length > max_length).count();
    let mean = total as f64 / lengths.len() as f64;
    Some(Lengths { unit, total, trained, mean, percentiles, max_length, over })
}

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886;--a:#2a78c8}\
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;margin:.5rem 0}td{border:1px solid var(--line);padding:.2rem .5rem;vertical-align:top}\
td.n{text-align:right;font-variant-numeric:tabular-nums}i{display:block;height:.9rem;background:var(--a)}";

/// One HTML page about the files: no script, nothing from elsewhere, all text escaped.
pub fn page(reports: &[Report]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Training data</title>\n<style>{STYLE}</style>\n<h1>Training data</h1>\n"
    );
    for report in reports {
        let _ = writeln!(out, "<h2>{}</h2>", escape(&report.file));
        let _ = writeln!(out, "<p>{} rows, {} readable, {} with faults.", report.rows, report.readable, report.faulty);
        if let Some(lengths) = &report.lengths {
            let _ = writeln!(
                out,
                "{} {}, {} of them trained; a row has {:.1}, and {} rows have more than {}.",
                lengths.total, lengths.unit, lengths.trained, lengths.mean, lengths.over, lengths.max_length
            );
            bars(&mut out, "Length", &mut lengths.percentiles.iter().map(|(name, n)| ((*name).to_owned(), *n)));
        }
        bars(&mut out, "Sets", &mut report.sets.iter().map(|(name, n)| (name.clone(), *n)));
        bars(&mut out, "Reflection tokens", &mut report.tokens.iter().map(|(name, n)| ((*name).to_owned(), *n)));
        bars(&mut out, "Combinations", &mut report.combinations.iter().take(40).map(|(name, n)| (brief(name), *n)));
        bars(&mut out, "Passages", &mut report.passages.iter().map(|(n, rows)| (n.to_string(), *rows)));
        bars(&mut out, "Rows with faults", &mut report.faults.iter().map(|(name, n)| ((*name).to_owned(), *n)));
        out += "<table>\n";
        for found in report.places.iter().take(200) {
            let (line, fault, problem) = (found.line, found.fault.name(), escape(&found.problem));
            let _ = writeln!(out, "<tr><td class=\"n\">{line}<td>{fault}<td>{problem}");
        }
        out += "</table>\n";
    }
    out
}

fn bars(out: &mut String, title: &str, rows: &mut dyn Iterator<Item = (String, usize)>) {
    let rows: Vec<(String, usize)> = rows.collect();
    let most = rows.iter().map(|(_, n)| *n).max().unwrap_or(0).max(1);
    let _ = writeln!(out, "<h3>{title}</h3>\n<table>");
    for (name, n) in rows {
        let width = 20.0 * n as f64 / most as f64;
        let name = escape(&name);
        let _ = writeln!(
            out,
            "<tr><td>{name}<td class=\"n\">{n}<td style=\"width:20rem\"><i style=\"width:{width:.2}rem\"></i>"
        );
    }
    *out += "</table>\n";
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Report {
        report(&TrainingFile::new("f", lines.join("\n").into_bytes()), None, 10).unwrap()
    }

    #[test]
    fn labels_lengths_and_faults_are_counted() {
        let good = r#"{"instruction": "a b", "output": "[Retrieval]<paragraph>T\nx y</paragraph>[Relevant]A b.[Fully supported][Utility:5]", "id": "1", "dataset_name": "s"}"#;
        let masked = r#"{"instruction": "a", "output": "[No Retrieval]A.[Utility:5]", "id": "2", "pieces": [{"text": "[No Retrieval]", "train": true}, {"text": "A.[Utility:5]", "train": false}]}"#;
        let report = of(&[good, masked, good, "{", r#"{"instruction": "a", "output": "[utility:5]"}"#]);
        assert_eq!((report.rows, report.readable, report.faulty, report.masked), (5, 4, 3, 1));
        assert_eq!(report.faults["duplicate id"], 1);
        assert_eq!(report.faults["unreadable"], 1);
        assert_eq!((report.faults["unknown reflection token"], report.faults["no utility at the end"]), (1, 1));
        assert_eq!(
            (report.tokens[4], report.tokens[5], report.tokens[11]),
            (("[Relevant]", 2), ("<paragraph>", 2), ("[Utility:5]", 3))
        );
        assert_eq!(report.combinations[0], ("[Retrieval][Relevant][Fully supported][Utility:5]".into(), 2));
        assert_eq!((report.passages[&0], report.passages[&1]), (2, 2));
        let lengths = report.lengths.as_ref().unwrap();
        assert_eq!((lengths.unit, lengths.max_length, lengths.over), ("words", 10, 2));
        let table = report.table(1);
        assert!(
            table.contains("f: line 3: duplicate id: \"1\" is line 1's") && table.contains("more with --json"),
            "{table}"
        );
        assert!(page(&[report]).contains("&lt;paragraph&gt;"));
    }

    #[test]
    fn critic_rows_have_their_tasks_labels() {
        let row = |task: &str, label: &str| {
            format!(r#"{{"instruction": "a", "input": "b", "output": "{label}", "task": "{task}"}}"#)
        };
        let good = row("groudness", "[No support / Contradictory]");
        let report = of(&[&good, &row("utility", "[Relevant]"), &row("groundness", "[Relevant]")]);
        assert_eq!(
            (report.faults["not a label of its task"], report.places[0].line, report.sets["utility"]),
            (2, 2, 1)
        );
        let cut = of(&["[", &good, ", {"]);
        assert_eq!((cut.readable, cut.faults["unreadable"]), (1, 1));
        assert!(of(&[]).lengths.is_none() && of(&[]).is_clean());
    }

    #[test]
    fn percentiles_are_of_rows() {
        let lengths = lengths_of((1..=100).rev().collect(), 0, "words", 98).unwrap();
        assert_eq!((lengths.percentiles[0].1, lengths.percentiles[3].1, lengths.percentiles[4].1), (50, 99, 100));
        assert_eq!((lengths.over, lengths.total), (2, 5050));
    }
}
