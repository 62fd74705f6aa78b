//! The questions of a run, each to be opened.

use std::fmt::Write;

use super::{Run, escape};
use crate::{
    critique::Scores,
    eval::{
        metrics,
        record::{Outcome, Record, Written},
    },
    retriever::Hit,
    self_rag::{Answer, LongAnswer},
};

/// Questions that are listed; more make a page that no browser opens with pleasure.
const MOST: usize = 2000;
/// Characters of a passage's text, and of anything else.
const PASSAGE: usize = 300;
const TEXT: usize = 4000;

pub(super) fn list(run: &Run) -> String {
    let mut out = String::from("<h3>Questions</h3>\n");
    if run.records.len() > MOST {
        let _ = writeln!(out, "<p class=\"note\">The first {MOST} of {}.</p>", run.records.len());
    }
    for record in run.records.iter().take(MOST) {
        out += &question(record, metrics::headline(run.header.task));
    }
    out
}

fn question(record: &Record, headline: &str) -> String {
    let (mark, body) = match &record.outcome {
        Outcome::Failed(problem) | Outcome::Unusable(problem) => {
            ("<span class=\"bad\">not scored</span>".into(), format!("<p>{}</p>", cut(problem, TEXT)))
        }
        Outcome::Answered { prediction, output, metrics, written, .. } => {
            let mark = metrics.get(headline).map_or(String::new(), |value| {
                let class = if *value >= 0.5 { "good" } else { "bad" };
                format!("<span class=\"{class}\">{headline} {value:.2}</span>")
            });
            let golds: Vec<String> = record.golds.iter().map(|gold| cut(gold, 200)).collect();
            let all: Vec<String> = metrics.iter().map(|(name, value)| format!("{} {value:.3}", escape(name))).collect();
            let mut body = format!("<p><b>{}</b></p>\n", cut(output.as_ref().unwrap_or(prediction), TEXT));
            if !golds.is_empty() {
                let _ = writeln!(body, "<p>gold: {}</p>", golds.join(" · "));
            }
            let _ = writeln!(body, "<p class=\"note\">{}</p>", all.join(" · "));
            body += &match written {
                Written::Short(answer) => short(answer),
                Written::Long(answer) => long(answer),
                Written::Plain { .. } => String::new(),
            };
            (mark, body)
        }
    };
    let title =
        if record.question.is_empty() { "(a row that could not be read)".into() } else { cut(&record.question, 200) };
    format!("<details><summary>{}. {title} {mark}</summary>\n{body}</details>\n", record.index)
}

fn decision(probability: Option<f32>, retrieved: bool) -> String {
    let outcome = if retrieved { "with passages" } else { "without passages" };
    match probability {
        Some(probability) => format!("<p class=\"note\">p(Retrieve) {probability:.4}: {outcome}</p>\n"),
        None => format!("<p class=\"note\">{outcome}</p>\n"),
    }
}

const HEAD: &str = "<div class=\"wide\"><table><tr><th>passage</th><th>text</th><th>ISREL</th><th>ISSUP</th><th>ISUSE</th><th>sequence</th><th>segment</th>";

fn short(answer: &Answer) -> String {
    let mut out = decision(answer.probability, answer.retrieved) + HEAD + "</tr>\n";
    for (at, candidate) in answer.candidates.iter().enumerate() {
        let class = if at == answer.best { " class=\"best\"" } else { "" };
        let _ = write!(out, "<tr{class}>{}", passage(candidate.hit.as_ref()));
        let _ = writeln!(out, "<td>{}</td>{}</tr>", cut(&candidate.text, TEXT), cells(&candidate.scores));
    }
    out + "</table></div>\n"
}

/// The tree, level by level in the order of writing: who continues whom is the number in front.
fn long(answer: &LongAnswer) -> String {
    let mut out = decision(answer.probability, answer.retrieved) + HEAD + "<th>path</th><th>node</th></tr>\n";
    for (at, node) in answer.tree.nodes.iter().enumerate() {
        let class = if answer.path.contains(&at) { " class=\"best\"" } else { "" };
        let parent = node.parent.map_or("begins".to_owned(), |parent| format!("after {parent}"));
        let text = if node.text.is_empty() { &node.candidate.text } else { &node.text };
        let _ = write!(out, "<tr{class}>{}<td>{}</td>", passage(node.cited.as_ref()), cut(text, TEXT));
        let scores = cells(&node.candidate.scores);
        let _ = writeln!(out, "{scores}<td class=\"n\">{:.3}</td><td>{at}: {parent}</td></tr>", node.path_score);
    }
    out + "</table></div>\n"
}

fn passage(hit: Option<&Hit>) -> String {
    match hit {
        None => "<td>–</td>".into(),
        Some(hit) => {
            let passage = &hit.passage;
            let name = if passage.title.is_empty() { &passage.id } else { &passage.title };
            let text = cut(&passage.text, PASSAGE);
            format!("<td><details><summary>{}</summary>{text}</details></td>", cut(name, 80))
        }
    }
}

fn cells(scores: &Scores) -> String {
    let values = [scores.is_rel, scores.is_sup, scores.is_use, scores.sequence, scores.segment];
    let cell = |value: Option<f32>| value.map_or("–".into(), |value| format!("{value:.3}"));
    values.into_iter().map(|value| format!("<td class=\"n\">{}</td>", cell(value))).collect()
}

/// Escaped, and cut to `most` characters.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => escape(&text[..end]) + "…",
        None => escape(text),
    }
}
