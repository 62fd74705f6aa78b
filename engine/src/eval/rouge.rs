//! ROUGE-Lsum: the longest common subsequence over sentences (Lin, 2004), as the `rouge-score` package counts it, without stemming.
//! Pure.
//!
//! For each sentence of the reference, the words that are in its longest common subsequence with *any* sentence of the text are taken
//! together; each word counts as often as both sides have it. Precision and recall are over all words.
//!
//! Departure: ALCE stems words before (Porter), so its value is some points higher. Its own `eval.py`, which reads our files, has the
//! last word; this value is for following a run.
//!
//! Cost: reference words × text words. Texts are cut at [`MAX_WORDS`].

use std::collections::HashMap;

/// Words of a text that are looked at.
pub const MAX_WORDS: usize = 4000;

/// Precision, recall and their harmonic mean.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rouge {
    /// Share of the text's words that are in the reference.
    pub precision: f64,
    /// Share of the reference's words that are in the text.
    pub recall: f64,
    /// 2 · precision · recall / (precision + recall).
    pub f1: f64,
}

/// ROUGE-Lsum of a text; sentences are parted by marks and line feeds.
pub fn lsum(reference: &str, text: &str) -> Rouge {
    let split = |text: &str| -> Vec<Vec<String>> {
        super::metrics::sentences(text).into_iter().map(words).filter(|words| !words.is_empty()).collect()
    };
    lsum_of_sentences(&limited(split(reference)), &limited(split(text)))
}

/// The same of sentences that are parted already.
pub fn lsum_of_sentences(reference: &[Vec<String>], text: &[Vec<String>]) -> Rouge {
    let (mut left_reference, mut left_text) = (counts(reference), counts(text));
    let mut hits = 0;
    for sentence in reference {
        let mut in_union = vec![false; sentence.len()];
        for other in text {
            mark_common(sentence, other, &mut in_union);
        }
        for (word, _) in sentence.iter().zip(&in_union).filter(|(_, common)| **common) {
            if let (Some(a), Some(b)) = (left_reference.get_mut(word.as_str()), left_text.get_mut(word.as_str()))
                && *a > 0
                && *b > 0
            {
                (*a, *b) = (*a - 1, *b - 1);
                hits += 1;
            }
        }
    }
    let total = |sentences: &[Vec<String>]| sentences.iter().map(Vec::len).sum::<usize>();
    if hits == 0 {
        return Rouge::default();
    }
    let (precision, recall) = (f64::from(hits) / total(text) as f64, f64::from(hits) / total(reference) as f64);
    Rouge { precision, recall, f1: 2.0 * precision * recall / (precision + recall) }
}

/// Lower-case runs of ASCII letters and digits.
pub fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn limited(mut sentences: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let mut left = MAX_WORDS;
    for sentence in &mut sentences {
        sentence.truncate(left);
        left -= sentence.len();
    }
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}

fn counts(sentences: &[Vec<String>]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    sentences.iter().flatten().for_each(|word| *counts.entry(word.as_str()).or_default() += 1);
    counts
}

/// Marks the words of `reference` that are in its longest common subsequence with `text`. Of several the package's: on a tie, it
/// drops a word of the reference.
fn mark_common(reference: &[String], text: &[String], marks: &mut [bool]) {
    let cols = text.len() + 1;
    let mut table = vec![0u32; (reference.len() + 1) * cols]; // (reference + 1, text + 1)
    for i in 1..=reference.len() {
        for j in 1..=text.len() {
            table[i * cols + j] = if reference[i - 1] == text[j - 1] {
                table[(i - 1) * cols + j - 1] + 1
            } else {
                table[(i - 1) * cols + j].max(table[i * cols + j - 1])
            };
        }
    }
    let (mut i, mut j) = (reference.len(), text.len());
    while i > 0 && j > 0 {
        if reference[i - 1] == text[j - 1] {
            marks[i - 1] = true;
            (i, j) = (i - 1, j - 1);
        } else if table[i * cols + j - 1] > table[(i - 1) * cols + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `w1 w2 w3 w4 w5` against `w1 w2 w6 w7 w8` and `w1 w3 w8 w9 w5`: the union has w1, w2, w3, w5 (Lin's example).
    #[test]
    fn lins_example() {
        let found = lsum("w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5");
        assert_eq!((found.precision, found.recall), (0.4, 0.8));
        assert_eq!(lsum("", "a"), Rouge::default());
        assert_eq!(lsum("a", ""), Rouge::default());
        assert_eq!(lsum("The same.", "the SAME!").f1, 1.0);
        assert!(lsum(&"a ".repeat(100_000), &"a ".repeat(100_000)).f1 > 0.99, "long texts are cut");
    }

    /// Made by tests/golden/rouge.py with the rouge-score package.
    #[test]
    fn agrees_with_the_rouge_score_package() {
        let cases: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../tests/golden/rouge.json")).unwrap();
        assert!(cases.len() >= 100);
        let part = |value: &serde_json::Value| value.as_str().unwrap().split('\n').map(words).collect::<Vec<_>>();
        for case in cases {
            let found = lsum_of_sentences(&part(&case["reference"]), &part(&case["text"]));
            for (name, found) in [("precision", found.precision), ("recall", found.recall), ("f1", found.f1)] {
                let expected = case[name].as_f64().unwrap();
                assert!((found - expected).abs() < 1e-9, "{name}: {found} found, {expected} expected in {case}");
            }
        }
    }
}
