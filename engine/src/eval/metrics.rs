//! The paper's metrics, a question at a time; each in 0..=1, and a table has their means. Pure.
//!
//! | metric | what | source |
//! | --- | --- | --- |
//! | `match` | a gold answer is in the prediction, as it is | released code, `metrics.py` |
//! | `accuracy` | the prediction is the first gold answer, white space at the ends aside | what `metrics.py` means (it compares characters) |
//! | `em`, `f1` | equality, and overlap of words, after SQuAD's normalisation; the best of the gold answers | `metrics.py` |
//! | `str_em` | share of the question's aspects of which a short answer is in the output, both normalised | ALCE |
//! | `rouge_lsum` | the best ROUGE-Lsum F1 against the references | ALCE; [`super::rouge`] |
//! | `cited` | share of sentences with a citation | structure alone: whether a passage supports its sentence needs ALCE's NLI model |
//! | `citations_valid` | share of citations that name a passage in the list | structure |

use std::collections::{BTreeMap, HashMap};

use super::{record::Metrics, rouge, rows::Row, task::Task};

/// The metrics of one answer. `passages`: how many the output may cite.
pub fn of(task: Task, row: &Row, prediction: &str, output: &str, passages: usize) -> Metrics {
    let mut metrics = Metrics::new();
    match task {
        Task::Popqa | Task::Triviaqa | Task::Pubhealth | Task::ArcC => {
            metrics.insert("match".into(), matches(&row.golds, prediction));
            metrics.insert("accuracy".into(), accuracy(&row.golds, prediction));
            metrics.insert("em".into(), exact(&row.golds, prediction));
            metrics.insert("f1".into(), f1(&row.golds, prediction));
        }
        Task::Asqa | Task::Eli5 => {
            // ALCE reads an output up to its first line end.
            let output = output.trim().split('\n').next().unwrap_or_default();
            let plain = without_citations(output);
            if !row.qa_pairs.is_empty() {
                metrics.insert("str_em".into(), str_em(&row.qa_pairs, &plain));
            }
            let references = row.references.iter().map(|reference| rouge::lsum(reference, &plain).f1);
            if let Some(best) = references.reduce(f64::max) {
                metrics.insert("rouge_lsum".into(), best);
            }
            metrics.extend(citations(output, passages));
        }
        Task::Factscore => {
            metrics.insert("words".into(), prediction.split_whitespace().count() as f64);
        }
    }
    metrics
}

/// The metric that is shown while a task runs.
pub fn headline(task: Task) -> &'static str {
    match task {
        Task::Asqa => "str_em",
        Task::Eli5 => "rouge_lsum",
        Task::Factscore => "words",
        _ => "match",
    }
}

/// Means over questions; a metric that some lack is the mean of those that have it.
pub fn means<'a>(all: impl IntoIterator<Item = &'a Metrics>) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for (name, value) in all.into_iter().flatten() {
        let (sum, count) = sums.entry(name.clone()).or_default();
        (*sum, *count) = (*sum + value, *count + 1);
    }
    sums.into_iter().map(|(name, (sum, count))| (name, sum / count as f64)).collect()
}

/// How often passages were used: a share of the questions. The released code divides by 8, the number of keys in its output file.
pub fn retrieval_frequency(retrieved: usize, questions: usize, compat: bool) -> f64 {
    retrieved as f64 / if compat { 8.0 } else { questions.max(1) as f64 }
}

/// Verdicts as FEVER writes them, for the match metric alone (released code).
pub fn verdict(prediction: &str) -> &str {
    if prediction.contains("SUPPORTS") {
        "true"
    } else if prediction.contains("REFUTES") {
        "false"
    } else {
        prediction
    }
}

fn matches(golds: &[String], prediction: &str) -> f64 {
    let prediction = verdict(prediction);
    truth(golds.iter().any(|gold| prediction.contains(gold.as_str())))
}

fn accuracy(golds: &[String], prediction: &str) -> f64 {
    truth(golds.first().is_some_and(|gold| gold.trim() == prediction.trim()))
}

fn exact(golds: &[String], prediction: &str) -> f64 {
    let prediction = normalise(prediction);
    truth(golds.iter().any(|gold| normalise(gold) == prediction))
}

fn f1(golds: &[String], prediction: &str) -> f64 {
    let prediction = normalise(prediction);
    golds.iter().map(|gold| overlap(&normalise(gold), &prediction)).fold(0.0, f64::max)
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// F1 of two bags of words.
fn overlap(gold: &str, prediction: &str) -> f64 {
    let mut left: HashMap<&str, usize> = HashMap::new();
    gold.split(' ').filter(|word| !word.is_empty()).for_each(|word| *left.entry(word).or_default() += 1);
    let count = |text: &str| text.split(' ').filter(|word| !word.is_empty()).count();
    let common = prediction.split(' ').filter(|word| match left.get_mut(word) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    });
    let common = common.count() as f64;
    if common == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (common / count(prediction) as f64, common / count(gold) as f64);
    2.0 * precision * recall / (precision + recall)
}

/// SQuAD's normalisation: lower case, no ASCII punctuation, no articles, single spaces.
pub fn normalise(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    plain.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")).collect::<Vec<_>>().join(" ")
}

fn str_em(qa_pairs: &[Vec<String>], output: &str) -> f64 {
    let output = normalise(output);
    let is_in = |answers: &&Vec<String>| answers.iter().any(|answer| output.contains(&normalise(answer)));
    qa_pairs.iter().filter(is_in).count() as f64 / qa_pairs.len().max(1) as f64
}

/// `[1]` and the space before it go (ALCE's `remove_citations`).
pub fn without_citations(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let end = rest[at + 1..].find(|c: char| !c.is_ascii_digit()).map(|end| at + 1 + end);
        match end {
            Some(end) if end > at + 1 && rest[end..].starts_with(']') => {
                plain.push_str(rest[..at].strip_suffix(' ').unwrap_or(&rest[..at]));
                rest = &rest[end + 1..];
            }
            _ => {
                plain.push_str(&rest[..=at]);
                rest = &rest[at + 1..];
            }
        }
    }
    plain + rest
}

/// The numbers of a text's citations.
pub fn cited_numbers(text: &str) -> Vec<usize> {
    let number = |part: &str| {
        let end = part.find(']')?;
        let digits = &part[..end];
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    text.split('[').skip(1).filter_map(number).collect()
}

/// Share of sentences with citations, and of citations that name a passage.
fn citations(output: &str, passages: usize) -> Metrics {
    let sentences = sentences(output);
    let cited = sentences.iter().filter(|sentence| !cited_numbers(sentence).is_empty()).count();
    let numbers = cited_numbers(output);
    let valid = numbers.iter().filter(|number| (1..=passages).contains(*number)).count();
    let mut metrics = Metrics::new();
    if !sentences.is_empty() {
        metrics.insert("cited".into(), cited as f64 / sentences.len() as f64);
    }
    if !numbers.is_empty() {
        metrics.insert("citations_valid".into(), valid as f64 / numbers.len() as f64);
    }
    metrics
}

/// Sentences by their marks. ALCE has NLTK's trained splitter, which knows abbreviations; for counting this is near enough.
pub fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let ends = matches!(c, '.' | '!' | '?' | '\n');
        let next_is_space = chars.peek().is_none_or(|(_, next)| next.is_whitespace());
        if ends && next_is_space {
            sentences.push(text[start..at + c.len_utf8()].trim());
            start = at + c.len_utf8();
        }
    }
    sentences.push(text[start..].trim());
    sentences.retain(|sentence| sentence.chars().any(char::is_alphanumeric));
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golds(golds: &[&str]) -> Vec<String> {
        golds.iter().map(|gold| (*gold).to_owned()).collect()
    }

    #[test]
    fn short_metrics_by_hand() {
        let gold = golds(&["The Amazon River", "true"]);
        assert_eq!(matches(&gold, "It is The Amazon River."), 1.0);
        assert_eq!(matches(&gold, "it is the amazon river"), 0.0, "as it is");
        assert_eq!(matches(&gold, "The claim is SUPPORTSed"), 1.0, "SUPPORTS becomes true");
        assert_eq!(matches(&golds(&["false"]), "REFUTES"), 1.0);
        assert_eq!(accuracy(&golds(&["A", "B"]), " A\n"), 1.0);
        assert_eq!(accuracy(&golds(&["A", "B"]), "B"), 0.0, "the first counts");
        assert_eq!(exact(&gold, "an amazon, river!"), 1.0);
        assert_eq!(exact(&gold, "amazon"), 0.0);
        // Normalised: "amazon river" against "amazon is amazon": one of two, one of three.
        let expected = 2.0 * (1.0 / 3.0) * 0.5 / (1.0 / 3.0 + 0.5);
        assert!((f1(&gold, "Amazon is Amazon") - expected).abs() < 1e-12);
        assert_eq!(f1(&gold, "nothing"), 0.0);
        assert_eq!(f1(&gold, ""), 0.0);
    }

    #[test]
    fn asqa_metrics_by_hand() {
        let pairs = vec![golds(&["Paris", "Lyon"]), golds(&["the Loire"]), golds(&["1789"])];
        assert!((str_em(&pairs, "It was LYON, on the loire.") - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(without_citations("One [1]. Two [2][13]. [x] a[] [3"), "One. Two. [x] a[] [3");
        assert_eq!(cited_numbers("One [1]. Two [2][13]. [x] a[] [3"), [1, 2, 13]);
        let found = citations("One [1]. Two. Three [3]!", 2);
        assert_eq!((found["cited"], found["citations_valid"]), (2.0 / 3.0, 0.5));
        assert!(citations("", 2).is_empty());
        assert_eq!(sentences("It is 3.5 m. Yes! \n ... No"), ["It is 3.5 m.", "Yes!", "No"]);
    }

    /// 7313 retrievals are "914.125" in the released code's output.
    #[test]
    fn retrieval_frequencies() {
        assert_eq!(retrieval_frequency(7313, 7313, true), 914.125);
        assert_eq!(retrieval_frequency(3, 12, false), 0.25);
        assert_eq!(retrieval_frequency(0, 0, false), 0.0);
    }

    #[test]
    fn means_of_what_is_there() {
        let one = Metrics::from([("a".to_owned(), 1.0), ("b".to_owned(), 0.5)]);
        let two = Metrics::from([("a".to_owned(), 0.0)]);
        assert_eq!(means([&one, &two]), BTreeMap::from([("a".to_owned(), 0.5), ("b".to_owned(), 0.5)]));
    }
}
