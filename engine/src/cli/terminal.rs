//! An answer as text for a terminal or a pipe.

use std::fmt::Write;

use crate::{
    retriever::Passage,
    self_rag::{Answer, Candidate, Relevance},
};

/// Columns that a passage's title gets.
const TITLE_WIDTH: usize = 32;

/// Passages and models can hold anything; a terminal obeys control characters, and bidirectional overrides make text lie.
pub fn safe(text: &str) -> String {
    let keep =
        |c: &char| *c == '\n' || !(c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    text.replace('\t', " ").chars().filter(keep).collect()
}

/// The same on one line, cut to `width` characters.
pub fn safe_line(text: &str, width: usize) -> String {
    let line = safe(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= width {
        return line;
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// JSON on one line in which nothing is a control character: those that JSON allows are escaped.
pub fn json_line(value: &impl serde::Serialize) -> serde_json::Result<String> {
    let mut line = String::new();
    for c in serde_json::to_string(value)?.chars() {
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            write!(line, "\\u{:04x}", u32::from(c)).expect("writing to a string");
        } else {
            line.push(c);
        }
    }
    Ok(line)
}

/// An answer for a program: all of it, and which of its passages were judged relevant.
pub fn answer_json(answer: &Answer) -> serde_json::Result<String> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        #[serde(flatten)]
        answer: &'a Answer,
        relevance: Option<Relevance>,
    }
    json_line(&Line { answer, relevance: answer.relevance() })
}

/// A passage's title, or its id.
pub fn name(passage: &Passage) -> &str {
    if passage.title.is_empty() { &passage.id } else { &passage.title }
}

/// The decision in words.
pub fn decision(probability: Option<f32>, threshold: Option<f32>, retrieve: bool) -> String {
    let outcome = if retrieve { "retrieve" } else { "answer without passages" };
    match (probability, threshold) {
        (Some(p), Some(threshold)) => {
            let sign = if p > threshold { '>' } else { '≤' };
            format!("p(Retrieve) {p:.3} {sign} {threshold}: {outcome}")
        }
        (Some(p), None) => format!("p(Retrieve) {p:.3}, most likely token decides: {outcome}"),
        _ => format!("mode decides: {outcome}"),
    }
}

/// The candidates as a table; the chosen one is marked.
pub fn table(answer: &Answer) -> String {
    let mut out = format!(
        "   {:<TITLE_WIDTH$}  {:<10}  {:<10}  {:<11}  {:<10}  {:>7}\n",
        "passage", "is_rel", "is_sup", "is_use", "sequence", "segment"
    );
    for (index, candidate) in answer.candidates.iter().enumerate() {
        let mark = if index == answer.best { '▸' } else { ' ' };
        let scores = candidate.scores;
        let title = candidate.hit.as_ref().map_or("(no passage)", |hit| name(&hit.passage));
        let title = safe_line(title, TITLE_WIDTH);
        let segment = scores.segment.map_or_else(|| "–".into(), |value| format!("{value:.3}"));
        writeln!(
            out,
            " {mark} {title:<TITLE_WIDTH$}  {}  {}  {}  {}  {segment:>7}",
            cell(scores.is_rel, 0.0, 4),
            cell(scores.is_sup, 0.0, 4),
            cell(scores.is_use, -1.0, 5),
            cell(scores.sequence, 0.0, 4),
        )
        .expect("writing to a string");
        let text = safe_line(&candidate.text, 100);
        writeln!(out, "     {text}{}", if candidate.truncated { " [cut at the token limit]" } else { "" })
            .expect("writing to a string");
    }
    out
}

/// What to know before trusting the citation, where the model judged the cited passage irrelevant.
pub fn relevance_notice(answer: &Answer) -> Option<&'static str> {
    match answer.relevance()? {
        Relevance::Cited => None,
        Relevance::Others => {
            Some("Note: the model judged the passage of this answer irrelevant, another one relevant.")
        }
        Relevance::NoPassage if answer.candidates.len() == 1 => Some("Note: the model judged the passage irrelevant."),
        Relevance::NoPassage => Some("Note: the model judged none of the passages relevant; this is the best of them."),
    }
}

/// A bar of five characters and the number; `low` is the value of an empty bar, 1 of a full one.
fn cell(value: Option<f32>, low: f32, width: usize) -> String {
    match value {
        Some(value) => {
            let full = ((value - low) / (1.0 - low) * 5.0).round().clamp(0.0, 5.0) as usize;
            format!("{}{} {value:>width$.2}", "█".repeat(full), "░".repeat(5 - full))
        }
        None => format!("{:5} {:>width$}", "", "–"),
    }
}

/// The answer with its citation.
pub fn cited(answer: &Answer) -> String {
    let citation = answer.candidates.get(answer.best).and_then(|candidate: &Candidate| candidate.hit.as_ref());
    let citation = citation.map(|hit| format!(" [{}]", safe_line(name(&hit.passage), 80)));
    format!("{}{}", safe(&answer.text), citation.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        critique::{Evidence, Scores},
        retriever::Hit,
    };

    fn answer(title: &str, text: &str) -> Answer {
        let passage = Passage { id: "7".into(), title: title.into(), text: String::new() };
        let scores = Scores { is_rel: Some(0.75), is_use: Some(-1.0), segment: Some(2.375), ..Scores::default() };
        let hit = Some(Hit { passage, score: None });
        let candidate = Candidate {
            hit,
            text: text.into(),
            tokens: vec![],
            scores,
            evidence: Evidence::default(),
            truncated: true,
        };
        Answer {
            question: "Q".into(),
            text: text.into(),
            probability: Some(0.9),
            retrieved: true,
            candidates: vec![candidate],
            best: 0,
        }
    }

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let hostile = answer("T\u{1b}[31m\u{9b}2J\ni\u{202e}tle", "a\u{7}b\u{1b}]0;x\u{7}\u{2066}c\r");
        for text in [table(&hostile), cited(&hostile), answer_json(&hostile).unwrap()] {
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            assert!(!text.contains(['\u{202e}', '\u{2066}']), "{text:?}");
        }
        let back: Answer = serde_json::from_str(&answer_json(&hostile).unwrap()).unwrap();
        assert_eq!(back, hostile, "JSON loses nothing");
    }

    #[test]
    fn an_irrelevant_passage_is_noted() {
        let mut answer = answer("A title", "text");
        assert_eq!(relevance_notice(&answer), None);
        assert!(answer_json(&answer).unwrap().contains(r#""relevance":"cited""#));
        answer.candidates[0].scores.is_rel = Some(0.01);
        assert!(relevance_notice(&answer).unwrap().contains("judged the passage irrelevant"));
        answer.candidates.push(answer.candidates[0].clone());
        assert!(relevance_notice(&answer).unwrap().contains("none of the passages"));
        assert!(answer_json(&answer).unwrap().contains(r#""relevance":"no_passage""#));
        answer.candidates[1].scores.is_rel = Some(0.9);
        assert!(relevance_notice(&answer).unwrap().contains("another one relevant"));
        answer.candidates.iter_mut().for_each(|candidate| candidate.hit = None);
        assert_eq!(relevance_notice(&answer), None, "without passages there is nothing to doubt");
        assert!(answer_json(&answer).unwrap().contains(r#""relevance":null"#));
    }

    #[test]
    fn table_and_citation() {
        let shown = table(&answer("A title", "text"));
        assert!(shown.contains("▸ A title") && shown.contains("████░ 0.75") && shown.contains("2.375"), "{shown}");
        assert!(shown.contains("░░░░░ -1.00") && shown.contains("cut at the token limit"), "{shown}");
        assert_eq!(cited(&answer("", "text")), "text [7]");
        assert_eq!(safe_line("abcdef", 4), "abc…");
        assert_eq!(decision(Some(0.5), Some(0.2), true), "p(Retrieve) 0.500 > 0.2: retrieve");
    }
}
