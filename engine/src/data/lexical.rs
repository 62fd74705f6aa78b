//! Which passages share a question's rare words: BM25 over the passages of a set, for hard negatives where no index is at hand.
//!
//! Plain on purpose: ties and sums come in the passages' order, so that a seed gives the same file everywhere.

use std::collections::HashMap;

use crate::{
    Result,
    platform::LocalFuture,
    retriever::{Hit, Passage, Retriever, passage_text},
};

/// How fast a word's repetitions stop counting, and how much a passage's length does: Anserini's values for passages.
const K1: f32 = 0.9;
const B: f32 = 0.4;

/// The passages' words.
#[derive(Debug)]
pub struct Lexical {
    words: HashMap<String, usize>,
    /// Passages and counts by word.
    postings: Vec<Vec<(u32, u32)>>,
    /// K1 · (1 − B + B · length / mean length) by passage.
    norms: Vec<f32>,
}

impl Lexical {
    /// Counts the words of the passages.
    pub fn new<'a>(passages: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut ids, mut postings, mut lengths) = (HashMap::new(), Vec::<Vec<(u32, u32)>>::new(), Vec::new());
        for (passage, text) in passages.into_iter().enumerate() {
            let mut length = 0.0;
            for word in words(text) {
                length += 1.0;
                let id = *ids.entry(word).or_insert_with(|| {
                    postings.push(Vec::new());
                    postings.len() - 1
                });
                match postings[id].last_mut() {
                    Some((last, count)) if *last == passage as u32 => *count += 1,
                    _ => postings[id].push((passage as u32, 1)),
                }
            }
            lengths.push(length);
        }
        let mean = (lengths.iter().sum::<f32>() / lengths.len().max(1) as f32).max(1.0);
        let norms = lengths.iter().map(|length| K1 * (1.0 - B + B * length / mean)).collect();
        Self { words: ids, postings, norms }
    }

    /// A word's weight: rare words have much; none: unknown.
    pub fn weight(&self, word: &str) -> Option<f32> {
        let found = self.postings[*self.words.get(word)?].len() as f32;
        Some((1.0 + (self.norms.len() as f32 - found + 0.5) / (found + 0.5)).ln())
    }

    /// The `n` passages with the largest score, best first, of those that share a word.
    pub fn search(&self, question: &str, n: usize) -> Vec<usize> {
        let mut scores = vec![0.0_f32; self.norms.len()];
        for word in words(question) {
            let Some(&id) = self.words.get(&word) else { continue };
            let weight = self.weight(&word).unwrap_or_default();
            for &(passage, count) in &self.postings[id] {
                let count = count as f32;
                scores[passage as usize] += weight * count * (K1 + 1.0) / (count + self.norms[passage as usize]);
            }
        }
        let mut found: Vec<usize> = (0..scores.len()).filter(|passage| scores[*passage] > 0.0).collect();
        let order = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
        if found.len() > n {
            found.select_nth_unstable_by(n, order);
            found.truncate(n);
        }
        found.sort_by(order);
        found
    }

    /// The summed weights of the words that two texts share, each counted once.
    pub fn overlap(&self, a: &str, b: &str) -> f32 {
        let mut shared: Vec<String> = words(a).collect();
        shared.sort();
        shared.dedup();
        let others: std::collections::HashSet<String> = words(b).collect();
        shared.iter().filter(|word| others.contains(*word)).filter_map(|word| self.weight(word)).sum()
    }
}

/// Finds passages by their words, where there is no index. Scores are not told.
#[derive(Debug)]
pub struct LexicalRetriever {
    passages: Vec<Passage>,
    lexical: Lexical,
}

impl LexicalRetriever {
    /// Counts the words of titles and texts.
    pub fn new(passages: Vec<Passage>) -> Self {
        let texts: Vec<String> = passages.iter().map(passage_text).collect();
        Self { lexical: Lexical::new(texts.iter().map(String::as_str)), passages }
    }
}

impl Retriever for LexicalRetriever {
    fn search<'a>(&'a mut self, questions: &'a [&'a str], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        let hit = |at: usize| Hit { passage: self.passages[at].clone(), score: None };
        let hits = |question: &&str| self.lexical.search(question, n_docs).into_iter().map(hit).collect();
        Box::pin(std::future::ready(Ok(questions.iter().map(hits).collect())))
    }
}

/// A text's words: letters and digits, in lower case.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_find_their_passage() {
        let passages = ["the cat sat", "the dog sat on the mat", "the river Rhine", "the the the"];
        let lexical = Lexical::new(passages);
        assert_eq!(lexical.search("Where is the RHINE?", 2), [2, 3]);
        assert_eq!(lexical.search("dog mat", 5), [1]);
        assert_eq!(lexical.search("unknown", 5), Vec::<usize>::new());
        assert_eq!(lexical.search("the", 0), Vec::<usize>::new());
        assert!(lexical.weight("rhine") > lexical.weight("sat") && lexical.weight("xyz").is_none());
        assert!(lexical.overlap("cat cat the", "The cat") < 2.0 * lexical.weight("cat").unwrap());
        assert_eq!(Lexical::new([]).search("a", 3), Vec::<usize>::new());
    }
}
