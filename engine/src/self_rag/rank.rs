//! Candidates → the chosen one. Pure.

use super::config::{Config, Task};

/// Index of the chosen candidate, of those with `texts` and segment `scores`; none without candidates. Ties go to the first.
pub fn best(config: &Config, texts: &[&str], scores: &[f32]) -> Option<usize> {
    assert_eq!(texts.len(), scores.len(), "one segment score for each text");
    match config.task {
        Task::Open => argmax(scores),
        Task::Closed { ignore_case } => {
            let keys: Vec<String> =
                texts.iter().map(|text| answer_key(text, config.trim_answer, ignore_case)).collect();
            let mut totals: Vec<(&str, f32)> = Vec::new();
            for (key, &score) in keys.iter().zip(scores) {
                match totals.iter_mut().find(|(known, _)| known == key) {
                    Some((_, total)) => *total += score,
                    None => totals.push((key, score)),
                }
            }
            let sums: Vec<f32> = totals.iter().map(|&(_, total)| total).collect();
            let (winner, _) = totals[argmax(&sums)?];
            // The passage cited is the best of those that led to this text.
            let among: Vec<usize> = (0..keys.len()).filter(|&index| keys[index] == winner).collect();
            let scores: Vec<f32> = among.iter().map(|&index| scores[index]).collect();
            argmax(&scores).map(|position| among[position])
        }
    }
}

/// The first of the largest.
fn argmax(scores: &[f32]) -> Option<usize> {
    let larger = |best: usize, index: usize| if scores[index] > scores[best] { index } else { best };
    (0..scores.len()).reduce(larger)
}

/// What closed answers are compared by: the released code's `clean_closed`, then trimming and case where asked.
pub fn answer_key(text: &str, trim: bool, ignore_case: bool) -> String {
    let mut key = text.replace("</s>", "").replace('\n', "").replace("<|endoftext|>", "");
    if trim {
        key = key.trim().to_owned();
    }
    if ignore_case { key.to_lowercase() } else { key }
}

/// The answer's text: a leading `#` or `:` goes, as in the released code.
pub fn clean(text: &str, trim: bool) -> String {
    let text = if trim { text.trim() } else { text };
    let text = text.strip_prefix(['#', ':']).unwrap_or(text);
    if trim { text.trim().to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_takes_the_highest_and_the_first_of_equals() {
        let config = Config::paper();
        assert_eq!(best(&config, &["a", "b", "c"], &[1.0, 2.5, 2.5]), Some(1));
        assert_eq!(best(&config, &["a", "b"], &[-1.0, -2.0]), Some(0));
        assert_eq!(best(&config, &[], &[]), None);
    }

    #[test]
    fn closed_sums_by_text() {
        let texts = ["true", "false", "True ", "false"];
        let scores = [1.0, 1.6, 1.5, 0.5];
        let paper = Config { task: Task::Closed { ignore_case: true }, ..Config::paper() };
        assert_eq!(best(&paper, &texts, &scores), Some(2), "true: 2.5, false: 2.1; the better of the two cites");
        let compat = Config { task: Task::Closed { ignore_case: false }, ..Config::compat() };
        assert_eq!(best(&compat, &texts, &scores), Some(1), "false: 2.1, True: 1.5, true: 1.0");
    }

    #[test]
    fn cleaning() {
        assert_eq!(clean(" : Paris. ", true), "Paris.");
        assert_eq!(clean("#Paris ", false), "Paris ");
        assert_eq!(clean("", true), "");
    }
}
