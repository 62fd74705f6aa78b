//! How often a generator's reflection tokens, and a critic's labels, are a labelled file's.
//!
//! The file is one to train on (see [`crate::data::rows`]) that the model has not seen. A generator reads each row up to a reflection token
//! that is trained, the row's own text in front of it; its choice is the most likely token of that token's group (table 1 of the paper: retrieval,
//! relevance, support, utility). What the model itself would have written does not matter, so that grades of given sentences are measured. A critic
//! writes its label greedily.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use serde::Serialize;

use crate::{
    Error, Result,
    data::{
        critic,
        encode::Encoding,
        rows::{Masking, Template, TrainingRow},
        sample::Kind,
    },
    generator::{Generator, SeqId, kv_cache::PAGE},
    tokenizer::{ReflectionTokens, SegmentPrefix, Tokenizer, reflection::NAMES},
};

/// Most tokens of a critic's label.
const LABEL_TOKENS: usize = 16;

/// The watched tokens' groups: names, and places in [`ReflectionTokens::watched`].
const GROUPS: [(&str, std::ops::Range<usize>); 4] =
    [("retrieval", 0..3), ("relevance", 3..5), ("utility", 5..10), ("support", 10..13)];

/// One label of the file with the model's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// What is judged: a group, or a critic's task.
    pub group: String,
    /// The kind of row, where its id names one (`from-qa`), else its set.
    pub kind: String,
    /// The file's label.
    pub label: String,
    /// The model's; empty: a critic wrote no label of the task.
    pub chosen: String,
}

/// What was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Labels {
    /// Every label.
    pub judged: Vec<Judged>,
    /// Rows that are longer than the model's context or its KV cache: not measured.
    pub too_long: usize,
    /// Mean probability that the next token is one of the group's; generators only.
    pub in_group: Option<f64>,
}

/// How many rows are measured at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// At most this many.
    pub rows: usize,
    /// And no more tokens than the KV cache has room for.
    pub tokens: usize,
}

/// Places of rows, cut into batches.
fn batches(lengths: &[usize], most: Batch) -> Vec<std::ops::Range<usize>> {
    let (mut ranges, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (at, length) in lengths.iter().map(|length| length.next_multiple_of(PAGE)).enumerate() {
        if at > start && (at - start == most.rows.max(1) || tokens + length > most.tokens) {
            ranges.push(start..at);
            (start, tokens) = (at, 0);
        }
        tokens += length;
    }
    if start < lengths.len() {
        ranges.push(start..lengths.len());
    }
    ranges
}

/// Measures a generator; `on_row` hears of the rows that are done.
pub async fn of_generator(
    model: &mut dyn Generator,
    tokenizer: &Tokenizer,
    rows: &[TrainingRow],
    batch: Batch,
    on_row: &mut dyn FnMut(usize),
) -> Result<Labels> {
    let watched = ReflectionTokens::find(tokenizer)?.watched();
    model.watch(&watched);
    let end = tokenizer.eos().unwrap_or_default();
    let (mut labels, mut mass) = (Labels::default(), 0.0);
    let encode = |row: &TrainingRow| encoding(Template::Generator, end).encode(tokenizer, row);
    let examples = rows.iter().map(encode).collect::<Result<Vec<_>>>()?;
    let lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
    let room = model.context_length().min(batch.tokens);
    for range in batches(&lengths, batch) {
        let mut open = Vec::new();
        for (row, example) in rows[range.clone()].iter().zip(&examples[range.clone()]) {
            let place = |at: &usize| example.trained[*at] && watched.contains(&example.ids[*at]);
            let places: Vec<usize> = (1..example.ids.len()).filter(place).collect();
            if places.last().is_some_and(|last| *last > room) {
                labels.too_long += 1;
            } else if !places.is_empty() {
                open.push((row, &example.ids, places, model.start()?));
            }
        }
        let most = open.iter().map(|(_, _, places, _)| places.len()).max().unwrap_or(0);
        for turn in 0..most {
            let at: Vec<usize> = (0..open.len()).filter(|at| open[*at].2.len() > turn).collect();
            let fed: Vec<(SeqId, Vec<u32>)> = at
                .iter()
                .map(|&at| {
                    let (_, ids, places, seq) = &open[at];
                    let start = if turn == 0 { 0 } else { places[turn - 1] };
                    (*seq, ids[start..places[turn]].to_vec())
                })
                .collect();
            for (&at, output) in at.iter().zip(model.forward(&fed).await?) {
                let (row, ids, places, _) = &open[at];
                let label = ids[places[turn]];
                let (group, range) = group(&watched, label);
                let likeliest = range.clone().max_by(|a, b| output.watched[*a].total_cmp(&output.watched[*b]));
                let name = |id: u32| tokenizer.token(id).unwrap_or_default().to_owned();
                mass += range.map(|at| f64::from(output.watched[at]).exp()).sum::<f64>();
                labels.judged.push(Judged {
                    group: group.to_owned(),
                    kind: kind(row),
                    label: name(label),
                    chosen: likeliest.map_or(String::new(), |at| name(watched[at])),
                });
            }
        }
        open.iter().for_each(|(.., seq)| model.free(*seq));
        on_row(range.len());
    }
    labels.in_group = Some(mass / labels.judged.len().max(1) as f64);
    Ok(labels)
}

/// Measures a critic; `on_row` hears of the rows that are done.
pub async fn of_critic(
    model: &mut dyn Generator,
    tokenizer: &Tokenizer,
    rows: &[TrainingRow],
    batch: Batch,
    on_row: &mut dyn FnMut(usize),
) -> Result<Labels> {
    model.watch(&[]);
    let stops = tokenizer.stop_tokens();
    let end = tokenizer.eos().unwrap_or_default();
    let mut labels = Labels::default();
    let prompt = |row: &TrainingRow| {
        let question = TrainingRow { output: String::new(), ..row.clone() };
        let mut ids = encoding(Template::Critic, end).encode(tokenizer, &question)?.ids;
        // Without the end token.
        ids.pop();
        Ok(ids)
    };
    let prompts = rows.iter().map(prompt).collect::<Result<Vec<_>>>()?;
    let lengths: Vec<usize> = prompts.iter().map(|ids| ids.len() + LABEL_TOKENS).collect();
    let room = model.context_length().min(batch.tokens);
    for range in batches(&lengths, batch) {
        let chunk = &rows[range.clone()];
        // Place in the chunk, sequence, its next tokens, what it wrote.
        let (mut open, mut done) = (Vec::<(usize, SeqId, Vec<u32>, Vec<u32>)>::new(), Vec::new());
        for (at, ids) in prompts[range.clone()].iter().enumerate() {
            if ids.len() + LABEL_TOKENS > room {
                labels.too_long += 1;
            } else {
                open.push((at, model.start()?, ids.clone(), Vec::new()));
            }
        }
        while !open.is_empty() {
            let fed: Vec<(SeqId, Vec<u32>)> = open.iter().map(|(_, seq, next, _)| (*seq, next.clone())).collect();
            let outputs = model.forward(&fed).await?;
            for ((_, _, next, written), output) in open.iter_mut().zip(outputs) {
                *next = vec![output.token];
                written.push(output.token);
            }
            let ends = |written: &[u32]| {
                written.len() == LABEL_TOKENS || written.last().is_some_and(|last| stops.contains(last))
            };
            for (at, seq, _, written) in open.extract_if(.., |(_, _, _, written)| ends(written)) {
                model.free(seq);
                done.push((at, written));
            }
        }
        done.sort_unstable();
        for (at, written) in done {
            let row = &chunk[at];
            let task = row.task.clone().unwrap_or_default();
            let names = &NAMES[critic::labels(&task).ok_or_else(|| unknown_task(row))?];
            let text = tokenizer.decode(&written);
            let chosen = names.iter().find(|name| text.trim_start().starts_with(**name));
            labels.judged.push(Judged {
                group: task,
                kind: kind(row),
                label: row.output.trim().to_owned(),
                chosen: chosen.map_or(String::new(), |name| (*name).to_owned()),
            });
        }
        on_row(chunk.len());
    }
    Ok(labels)
}

fn encoding(template: Template, end: u32) -> Encoding {
    let segment_prefix = SegmentPrefix::default();
    Encoding { template, masking: Masking::Paper, segment_prefix, end, max_length: usize::MAX }
}

fn unknown_task(row: &TrainingRow) -> Error {
    let id = row.id.clone().unwrap_or_default();
    Error::input(id, "task", format!("{:?}, one of the critic's tasks expected", row.task.clone().unwrap_or_default()))
}

fn group(watched: &[u32], label: u32) -> (&'static str, std::ops::Range<usize>) {
    let at = watched.iter().position(|id| *id == label).expect("labels are watched tokens");
    GROUPS.into_iter().find(|(_, range)| range.contains(&at)).expect("the groups are all watched tokens")
}

fn kind(row: &TrainingRow) -> String {
    match row.id.as_deref().and_then(Kind::of_id) {
        Some(kind) => kind.name().to_owned(),
        None => row.dataset_name.clone().unwrap_or_else(|| "all".to_owned()),
    }
}

/// Right answers of a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    right: usize,
    all: usize,
}

impl Share {
    fn add(&mut self, right: bool) {
        self.right += usize::from(right);
        self.all += 1;
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % of {}", 100.0 * self.right as f64 / self.all.max(1) as f64, self.all)
    }
}

impl Labels {
    /// Markdown: for each group a table of the file's labels (rows) against the model's (columns), then right labels by kind of row.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let groups: std::collections::BTreeSet<&str> = self.judged.iter().map(|judged| judged.group.as_str()).collect();
        for group in groups {
            let judged: Vec<&Judged> = self.judged.iter().filter(|judged| judged.group == group).collect();
            let place = |name: &str| NAMES.iter().position(|known| *known == name).unwrap_or(NAMES.len());
            let mut columns: Vec<&str> = judged.iter().flat_map(|j| [j.label.as_str(), j.chosen.as_str()]).collect();
            columns.sort_by_key(|name| place(name));
            columns.dedup();
            let mut counts: BTreeMap<(usize, &str), BTreeMap<&str, usize>> = BTreeMap::new();
            let (mut share, mut kinds) = (Share::default(), BTreeMap::<(&str, usize), (&str, Share)>::new());
            for judged in &judged {
                let label = judged.label.as_str();
                *counts.entry((place(label), label)).or_default().entry(&judged.chosen).or_default() += 1;
                share.add(judged.label == judged.chosen);
                let kind = kinds.entry((&judged.kind, place(label))).or_insert((label, Share::default()));
                kind.1.add(judged.label == judged.chosen);
            }
            let named = |name: &str| if name.is_empty() { "no label".to_owned() } else { name.to_owned() };
            let _ = writeln!(text, "{group}: {share} right\n");
            let heads: Vec<String> = columns.iter().map(|name| named(name)).collect();
            let _ = writeln!(text, "| label | {} | right |", heads.join(" | "));
            let _ = writeln!(text, "| --- |{}", " ---: |".repeat(columns.len() + 1));
            for ((_, label), row) in &counts {
                let right = Share { right: row.get(label).copied().unwrap_or(0), all: row.values().sum() };
                let cells: Vec<String> =
                    columns.iter().map(|name| row.get(name).copied().unwrap_or(0).to_string()).collect();
                let _ = writeln!(text, "| {label} | {} | {right} |", cells.join(" | "));
            }
            let _ = writeln!(text, "\n| kind of row | label | right |\n| --- | --- | ---: |");
            for ((kind, _), (label, share)) in &kinds {
                let _ = writeln!(text, "| {kind} | {label} | {share} |");
            }
            text.push('\n');
        }
        if let Some(mass) = self.in_group {
            let _ = writeln!(text, "Mean probability of the group's tokens together: {mass:.4}");
        }
        if self.too_long > 0 {
            let _ =
                writeln!(text, "Not measured, longer than the model's context or its KV cache: {} rows", self.too_long);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_count_labels_and_kinds() {
        let judged = |kind: &str, label: &str, chosen: &str| Judged {
            group: "relevance".into(),
            kind: kind.into(),
            label: label.into(),
            chosen: chosen.into(),
        };
        let labels = Labels {
            judged: vec![
                judged("gold", "[Relevant]", "[Relevant]"),
                judged("gold", "[Relevant]", "[Irrelevant]"),
                judged("random_negative", "[Irrelevant]", "[Irrelevant]"),
                judged("random_negative", "[Irrelevant]", ""),
            ],
            too_long: 1,
            in_group: None,
        };
        let table = labels.table();
        assert!(table.contains("relevance: 50.0 % of 4 right"), "{table}");
        assert!(table.contains("| label | [Irrelevant] | [Relevant] | no label | right |"), "{table}");
        assert!(table.contains("| [Irrelevant] | 1 | 0 | 1 | 50.0 % of 2 |"), "{table}");
        assert!(table.contains("| gold | [Relevant] | 50.0 % of 2 |"), "{table}");
        assert!(table.contains("1 rows"), "{table}");
    }

    #[test]
    fn batches_keep_to_the_cache() {
        let lengths = [PAGE, 3 * PAGE, PAGE + 1, 9 * PAGE, PAGE];
        let cut = |rows, pages| -> Vec<usize> {
            batches(&lengths, Batch { rows, tokens: pages * PAGE }).into_iter().map(|range| range.end).collect()
        };
        assert_eq!(cut(8, 100), [5]);
        assert_eq!(cut(2, 100), [2, 4, 5]);
        // Two pages for a token over one; what is too long is alone, and told later.
        assert_eq!(cut(8, 6), [3, 4, 5]);
        assert!(batches(&[], Batch { rows: 1, tokens: 1 }).is_empty());
    }

    #[test]
    fn ids_name_kinds() {
        for (id, kind) in [
            ("squad-1.1-dev_5730a314069b5314008321ef_partial", Some(Kind::Partial)),
            ("s_1_hard_negative_2", Some(Kind::HardNegative)),
            ("s_1_gold_0", Some(Kind::Gold)),
            ("instruction_17_2", Some(Kind::Instruction)),
            ("wow_1", None),
            ("marigold", None),
        ] {
            assert_eq!(Kind::of_id(id), kind, "{id}");
        }
    }
}
