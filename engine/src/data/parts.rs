//! An output taken apart into reflection tokens, passages and text, and what is wrong with it.

use serde::Serialize;

use crate::tokenizer::reflection::NAMES;

/// A part of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// A reflection token, by its place in [`NAMES`]; never one of the paragraph tags unless it stands alone.
    Token(usize),
    /// What stands between `<paragraph>` and the next `</paragraph>`.
    Passage(&'a str),
    /// Anything else; never empty.
    Text(&'a str),
}

/// Places in [`NAMES`].
pub const NO_RETRIEVAL: usize = 0;
/// `[Retrieval]`
pub const RETRIEVAL: usize = 1;
/// `[Continue to Use Evidence]`
pub const CONTINUE: usize = 2;
/// `[Irrelevant]`
pub const IRRELEVANT: usize = 3;
/// `[Relevant]`
pub const RELEVANT: usize = 4;
/// `<paragraph>`
pub const OPEN: usize = 5;
/// `</paragraph>`
pub const CLOSE: usize = 6;
/// `[Utility:1]`; the others follow.
pub const UTILITY: usize = 7;
/// `[Fully supported]`
pub const FULLY: usize = 12;
/// `[Partially supported]`
pub const PARTIALLY: usize = 13;
/// `[No support / Contradictory]`
pub const NO_SUPPORT: usize = 14;

/// A kind of fault of a training row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// No JSON object, a field that is missing or of another kind, pieces that do not concatenate, an empty output.
    Unreadable,
    /// Paragraph tags that do not pair.
    Paragraphs,
    /// Almost a reflection token.
    Spelling,
    /// A label where none can be, or none where one must be.
    Order,
    /// No `[Utility:n]` at the end.
    NoUtility,
    /// Nothing but labels and passages.
    NoAnswer,
    /// A passage that spells a reflection token, which a tokenizer that looks for tokens in text would take for one.
    TokenInPassage,
    /// Pieces none of which is trained.
    NothingTrained,
    /// An id that an earlier row has.
    DuplicateId,
    /// A critic's row whose output is none of its task's labels.
    Label,
}

impl Fault {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Paragraphs => "unbalanced paragraphs",
            Self::Spelling => "unknown reflection token",
            Self::Order => "labels in impossible order",
            Self::NoUtility => "no utility at the end",
            Self::NoAnswer => "no answer",
            Self::TokenInPassage => "reflection token in a passage",
            Self::NothingTrained => "nothing is trained",
            Self::DuplicateId => "duplicate id",
            Self::Label => "not a label of its task",
        }
    }
}

/// The parts of an output in their order, and where its paragraph tags do not pair.
pub fn parts(output: &str) -> (Vec<Part<'_>>, Vec<String>) {
    let (mut parts, mut faults) = (Vec::new(), Vec::new());
    let (mut at, mut text) = (0, 0);
    while let Some(found) = output[at..].find(['[', '<']) {
        at += found;
        let Some(token) = NAMES.iter().position(|name| output[at..].starts_with(name)) else {
            at += 1;
            continue;
        };
        if text < at {
            parts.push(Part::Text(&output[text..at]));
        }
        let start = at;
        at += NAMES[token].len();
        match token {
            OPEN => {
                let end = output[at..].find(NAMES[CLOSE]).map(|end| at + end);
                if end.is_none() {
                    faults.push(format!("byte {start}: <paragraph> without </paragraph>"));
                }
                let passage = &output[at..end.unwrap_or(output.len())];
                if passage.contains(NAMES[OPEN]) {
                    faults.push(format!("byte {start}: <paragraph> within a passage"));
                }
                parts.push(Part::Passage(passage));
                at = end.map_or(output.len(), |end| end + NAMES[CLOSE].len());
            }
            CLOSE => {
                faults.push(format!("byte {start}: </paragraph> without <paragraph>"));
                parts.push(Part::Token(CLOSE));
            }
            _ => parts.push(Part::Token(token)),
        }
        text = at;
    }
    if text < output.len() {
        parts.push(Part::Text(&output[text..]));
    }
    (parts, faults)
}

/// Whether a text spells a reflection token. Such text can be no passage and no answer.
pub fn spells_token(text: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|name| text.contains(name))
}

/// What is wrong with a generator's output. `judged`: some of it is not trained, so that an answer may be missing.
pub fn faults(output: &str, judged: bool) -> Vec<(Fault, String)> {
    let (parts, tags) = parts(output);
    let mut faults: Vec<(Fault, String)> = tags.into_iter().map(|problem| (Fault::Paragraphs, problem)).collect();
    for part in &parts {
        match part {
            Part::Text(text) => faults.extend(
                misspelt(text)
                    .map(|found| (Fault::Spelling, format!("{found:?}, one of Self-RAG's fifteen tokens expected"))),
            ),
            Part::Passage(passage) => {
                let labels = NAMES.iter().enumerate().filter(|(token, _)| ![OPEN, CLOSE].contains(token));
                let spelt = labels.into_iter().find(|(_, name)| passage.contains(**name));
                faults.extend(spelt.map(|(_, name)| (Fault::TokenInPassage, format!("{name} in a passage"))));
            }
            Part::Token(_) => {}
        }
    }
    faults.extend(order(&parts).into_iter().map(|problem| (Fault::Order, problem)));
    let is_utility = |part: &Part<'_>| matches!(part, Part::Token(UTILITY..FULLY));
    if !parts.iter().any(is_utility) {
        faults.push((Fault::NoUtility, "[Utility:1] to [Utility:5] expected at the end".into()));
    }
    if !judged && !parts.iter().any(|part| matches!(part, Part::Text(text) if !text.trim().is_empty())) {
        faults.push((Fault::NoAnswer, "nothing but labels and passages, an answer expected".into()));
    }
    faults
}

/// What the labels' order says that no answer can say. The rules are those of the released data's builder (`postprocess_data.py`).
fn order(parts: &[Part<'_>]) -> Vec<String> {
    let mut problems = Vec::new();
    // The label that the segment is under, and whether it has had its support.
    let (mut label, mut supported, mut seen_passage) = (None, false, false);
    let blank = |part: Option<&Part<'_>>| !matches!(part, Some(Part::Text(text)) if !text.trim().is_empty());
    for (at, part) in parts.iter().enumerate() {
        let (before, after) = (at.checked_sub(1).map(|at| &parts[at]), parts.get(at + 1));
        let unsupported = label == Some(RELEVANT) && !supported;
        let ends = matches!(part, Part::Token(NO_RETRIEVAL..=CONTINUE) | Part::Token(UTILITY..FULLY));
        if ends && unsupported {
            problems.push("[Relevant] whose text has no support token".to_owned());
        }
        match *part {
            Part::Token(token @ (NO_RETRIEVAL | RETRIEVAL | CONTINUE)) => {
                if token == RETRIEVAL && !matches!(after, Some(Part::Passage(_))) {
                    problems.push("[Retrieval] that no passage follows".into());
                }
                if token == CONTINUE && !seen_passage {
                    problems.push("[Continue to Use Evidence] before any passage".into());
                }
                (label, supported) = (Some(token), false);
            }
            Part::Passage(_) => {
                seen_passage = true;
                if before != Some(&Part::Token(RETRIEVAL)) {
                    problems.push("a passage without [Retrieval] in front".into());
                }
                if !matches!(after, Some(Part::Token(IRRELEVANT | RELEVANT))) {
                    problems.push("a passage that neither [Relevant] nor [Irrelevant] follows".into());
                }
            }
            Part::Token(token @ (IRRELEVANT | RELEVANT)) => {
                if !matches!(before, Some(Part::Passage(_))) {
                    problems.push(format!("{} that does not follow a passage", NAMES[token]));
                }
                (label, supported) = (Some(token), false);
            }
            Part::Token(token @ FULLY..) => {
                match label {
                    Some(RELEVANT | CONTINUE) if supported => {
                        problems.push(format!("{}, a second support", NAMES[token]))
                    }
                    Some(RELEVANT | CONTINUE) if blank(before) => {
                        problems.push(format!("{} that follows no text", NAMES[token]));
                    }
                    Some(RELEVANT | CONTINUE) => {}
                    Some(other) => problems.push(format!("{} of a text after {}", NAMES[token], NAMES[other])),
                    None => problems.push(format!("{} without a passage", NAMES[token])),
                }
                supported = true;
            }
            Part::Token(UTILITY..FULLY) if at + 1 < parts.len() => {
                problems.push("something after [Utility:n], which ends an answer".into());
            }
            Part::Token(_) | Part::Text(_) => {}
        }
    }
    problems
}

/// The first bracketed text that is nearly a reflection token.
fn misspelt(text: &str) -> Option<&str> {
    /// Longest bracketed text that is looked at.
    const LONGEST: usize = 48;
    for (start, bracket) in text.char_indices().filter(|(_, char)| ['[', '<'].contains(char)) {
        let close = if bracket == '[' { ']' } else { '>' };
        let Some(end) = text[start..].char_indices().take(LONGEST).find(|(_, char)| *char == close) else { continue };
        let found = &text[start..=start + end.0];
        let plain: String = found.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        let known = match bracket {
            '<' => matches!(plain.as_str(), "paragraph" | "paragraphs"),
            _ => {
                let words = plain.trim_end_matches(|char: char| char.is_ascii_digit());
                let whole = ["retrieval", "noretrieval", "relevant", "irrelevant", "utility", "contradictory"];
                let begin =
                    ["continueto", "continueuse", "fullysupport", "partiallysupport", "partialsupport", "nosupport"];
                whole.contains(&words) || begin.iter().any(|begin| words.starts_with(begin))
            }
        };
        if known {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(output: &str) -> Vec<Fault> {
        faults(output, false).into_iter().map(|(fault, _)| fault).collect()
    }

    #[test]
    fn an_output_is_taken_apart() {
        let (parts, faults) =
            parts("So[Retrieval]<paragraph>T\n[x] < y</paragraph>[Relevant]A [a].[Fully supported][Utility:5]");
        let expected = [
            Part::Text("So"),
            Part::Token(RETRIEVAL),
            Part::Passage("T\n[x] < y"),
            Part::Token(RELEVANT),
            Part::Text("A [a]."),
            Part::Token(FULLY),
            Part::Token(UTILITY + 4),
        ];
        assert_eq!((parts.as_slice(), faults.len()), (expected.as_slice(), 0));
    }

    #[test]
    fn what_the_released_builder_writes_is_right() {
        for output in [
            "[No Retrieval]A.[Utility:5]",
            "[No Retrieval]A.[No Retrieval]B.[Utility:1]",
            "Short.[Retrieval]<paragraph>p</paragraph>[Irrelevant]A.[Continue to Use Evidence]B.[Utility:5]",
            "[Retrieval]<paragraph>p</paragraph>[Relevant]A.[Partially supported][Continue to Use Evidence]B.\
             [Fully supported][Retrieval]<paragraph>q</paragraph>[Relevant]C.[No support / Contradictory]D.[Utility:5]",
        ] {
            assert_eq!(faults(output, false), [], "{output}");
        }
    }

    #[test]
    fn faults_are_found() {
        let passage = "[Retrieval]<paragraph>p</paragraph>";
        for (output, fault) in [
            ("[Retrieval]<paragraph>p[Utility:5]".to_owned(), Fault::Paragraphs),
            (format!("{passage}[Relevant]A.</paragraph>[Fully supported][Utility:5]"), Fault::Paragraphs),
            (format!("{passage}[Irrelevant]A.[Fully supported][Utility:5]"), Fault::Order),
            (format!("{passage}[Relevant]A.[Utility:5]"), Fault::Order),
            (format!("{passage}[Relevant][Fully supported][Utility:5]"), Fault::Order),
            (format!("{passage}A.[Utility:5]"), Fault::Order),
            ("[Relevant]A.[Fully supported][Utility:5]".into(), Fault::Order),
            ("[Retrieval]A.[Utility:5]".into(), Fault::Order),
            ("[Continue to Use Evidence]A.[Utility:5]".into(), Fault::Order),
            ("[No Retrieval]A.[Utility:5]B.".into(), Fault::Order),
            ("[No Retrieval]A.[Fully supported][Utility:5]".into(), Fault::Order),
            ("[No Retrieval]A.".into(), Fault::NoUtility),
            ("[No Retrieval]A.[Utility:6]".into(), Fault::Spelling),
            ("[no retrieval]A.[Utility:5]".into(), Fault::Spelling),
            ("[No Retrieval]A.[Fully Supported][Utility:5]".into(), Fault::Spelling),
            ("< paragraph>A.[Utility:5]".into(), Fault::Spelling),
            ("[No Retrieval] [Utility:5]".into(), Fault::NoAnswer),
            ("[Retrieval]<paragraph>[Utility:1]</paragraph>[Irrelevant]A.[Utility:5]".into(), Fault::TokenInPassage),
        ] {
            assert!(kinds(&output).contains(&fault), "{output}: {:?}", faults(&output, false));
        }
        assert_eq!(faults("[No Retrieval][Utility:5]", true), [], "only the decision is trained");
        assert_eq!(kinds("[No Retrieval]See [1], [a] and <b>.[Utility:5]"), []);
    }

    #[test]
    fn nothing_panics() {
        let mut random = crate::ops::self_test::Random::new(7);
        let words: Vec<&str> = NAMES.into_iter().chain(["[", "<", "é", "]", ">", "[Utility:9]", "x. ", "[é"]).collect();
        for _ in 0..2000 {
            let output: String = (0..random.pick(0..=8)).map(|_| words[random.pick(0..=words.len() - 1)]).collect();
            faults(&output, false);
        }
    }
}
