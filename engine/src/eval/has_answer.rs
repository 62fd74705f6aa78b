//! Whether a passage holds an answer, as DPR tells it (`dpr/data/qa_validation.py`, `dpr/utils/tokenizer.py`; Contriever's `evaluation.py`):
//! an answer's tokens stand in the passage's text, one after the other. Texts are decomposed (NFD) and lower-cased first.

use std::sync::OnceLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

/// Letters, digits and their marks, or any other single character that can be seen.
fn pattern() -> &'static Regex {
    static PATTERN: OnceLock<Regex> = OnceLock::new();
    PATTERN.get_or_init(|| Regex::new(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]").expect("a pattern that is tested"))
}

/// A text's tokens.
pub fn tokens(text: &str) -> Vec<String> {
    let text: String = text.nfd().collect();
    pattern().find_iter(&text).map(|found| found.as_str().to_lowercase()).collect()
}

/// A question's answers, ready to be looked for in many passages.
#[derive(Debug)]
pub struct Answers(Vec<Vec<String>>);

impl Answers {
    /// Any of these is right. One without tokens is never found; in DPR it is found everywhere.
    pub fn new<'a>(answers: impl IntoIterator<Item = &'a str>) -> Self {
        Self(answers.into_iter().map(tokens).filter(|tokens| !tokens.is_empty()).collect())
    }

    /// Whether one of them is in a passage's text.
    pub fn are_in(&self, text: &str) -> bool {
        let text = tokens(text);
        self.0.iter().any(|answer| text.windows(answer.len()).any(|window| window == answer))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn tokens_and_hits_are_dprs() {
        let golden = include_str!("../../../tests/golden/has_answer.json");
        let cases: Vec<Value> = serde_json::from_str(golden).unwrap();
        assert!(cases.len() >= 12);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            assert_eq!(serde_json::to_value(tokens(text)).unwrap(), case["tokens"], "{text:?}");
            let answers = case["answers"].as_array().unwrap().iter().map(|answer| answer.as_str().unwrap());
            assert_eq!(Answers::new(answers).are_in(text), case["has_answer"].as_bool().unwrap(), "{case}");
        }
        assert!(!Answers::new(["", " "]).are_in("anything"));
    }
}
