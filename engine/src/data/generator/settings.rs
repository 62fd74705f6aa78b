//! Every number that changes the rows that critic and retriever make of instructions with answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, sentences::sentences};

/// Whose behaviour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Behaviour {
    /// As the paper describes it.
    #[default]
    Paper,
    /// As the released code does it.
    Compat,
}

/// Which passage a sentence gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The first that is relevant and supports at least partially; else any, at random (the paper's account of its data).
    Supported,
    /// The first that is relevant and supports fully; else, by chance, the first that supports partially, or not; else a random
    /// irrelevant one (`postprocess_data.py`). [`Settings::irrelevant_sets`] get an irrelevant one wherever there is any.
    Released,
}

/// The text around what the critic is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CriticTemplate {
    /// What the critic was trained with.
    Training,
    /// Alpaca's, with its preamble: the released inference (`run_reward_vllm.py`).
    Alpaca,
}

/// How an engine's critic is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// The label of the task with the largest log-probability, its tokens' summed: always a label.
    Logprob,
    /// Fifteen greedy tokens, which may be anything: the released inference.
    Greedy,
}

/// The settings. Sets are told apart by `dataset_name`: nq, wow, fever, asqa, arc_easy, obqa and others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Start of all draws. Each row and purpose has draws of its own.
    pub seed: u64,
    /// Passages retrieved for a sentence (released: 10).
    pub n_docs: usize,
    /// Of them, those that the critic judges (released README: 10).
    pub top_n: usize,
    /// Sentences with fewer characters get no token, where an answer has more than two (released: 30).
    pub min_sentence_chars: usize,
    /// Whether later sentences are judged with `[Continue to Use Evidence]`; the released README's pass has two labels.
    pub three_way: bool,
    /// Whether the instruction's decision is for the first sentence that gets a token; otherwise for the first of all, which may get none.
    pub first_kept: bool,
    /// The text around what the critic is asked.
    pub critic_template: CriticTemplate,
    /// How an engine's critic is read.
    pub critic_reading: Reading,
    /// Whether missing preceding sentences and passages are shown to the critic as the word `None`.
    pub show_none: bool,
    /// Whether labels are cleaned as the released code does: an unknown retrieval label is `[No Retrieval]`, a utility any digit.
    pub lenient_labels: bool,
    /// Whether support is judged for irrelevant passages too.
    pub support_of_irrelevant: bool,
    /// Labels of a pass's last incomplete batch of so many are lost; 0: none (released: 10).
    pub lost_batch: usize,
    /// Pairs beyond a multiple of so many jobs are lost; 0: none (released: 4).
    pub lost_jobs: usize,
    /// Which passage a sentence gets.
    pub selection: Selection,
    /// Chance that an answer whose instruction needs no passages is kept.
    pub keep_no_retrieval: f64,
    /// [`Selection::Released`]: chance that the first partially supporting passage is taken.
    pub keep_partially_supported: f64,
    /// [`Selection::Released`]: chance that the first passage without support is taken.
    pub keep_no_support: f64,
    /// [`Selection::Released`]: chance that nq gets an irrelevant passage in a fully supporting one's place.
    pub irrelevant_for_nq: f64,
    /// [`Selection::Released`]: sets that get a random irrelevant passage wherever there is one.
    pub irrelevant_sets: Vec<String>,
    /// Sets whose relevant passages without support count as irrelevant.
    pub unsupported_is_irrelevant: Vec<String>,
    /// Whether a random place among the irrelevant passages is taken for a place among all: a slip of the released code.
    pub list_index: bool,
    /// Chance that nq's answers with `[No Retrieval]` are dropped.
    pub drop_nq_no_retrieval: f64,
    /// Whether `[Utility:1]` of the answers `true` and `false` becomes `[Utility:5]`.
    pub closed_utility: bool,
    /// Whether text without a token that follows text gets a space in front; the released code joins them.
    pub space_between: bool,
    /// Only answers with an irrelevant passage and without `[No Retrieval]`, of six sets (`--negative_samples`).
    pub negative_samples: bool,
}

impl Settings {
    /// As the paper describes it; what it leaves open is what loses no data.
    pub fn paper() -> Self {
        Self {
            seed: 1,
            n_docs: 10,
            top_n: 10,
            min_sentence_chars: 30,
            three_way: true,
            first_kept: true,
            critic_template: CriticTemplate::Training,
            critic_reading: Reading::Logprob,
            show_none: false,
            lenient_labels: false,
            support_of_irrelevant: false,
            lost_batch: 0,
            lost_jobs: 0,
            selection: Selection::Supported,
            keep_no_retrieval: 1.0,
            keep_partially_supported: 0.7,
            keep_no_support: 0.25,
            irrelevant_for_nq: 0.25,
            irrelevant_sets: Vec::new(),
            unsupported_is_irrelevant: Vec::new(),
            list_index: false,
            drop_nq_no_retrieval: 0.0,
            closed_utility: false,
            space_between: true,
            negative_samples: false,
        }
    }

    /// As the released code does it, slips included; seeded, which it is not.
    pub fn compat() -> Self {
        let sets = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            three_way: false,
            first_kept: false,
            critic_template: CriticTemplate::Alpaca,
            critic_reading: Reading::Greedy,
            show_none: true,
            lenient_labels: true,
            support_of_irrelevant: true,
            lost_batch: 10,
            lost_jobs: 4,
            selection: Selection::Released,
            keep_no_retrieval: 0.4,
            irrelevant_sets: sets(&["nq", "fever"]),
            unsupported_is_irrelevant: sets(&["nq", "fever", "wow"]),
            list_index: true,
            drop_nq_no_retrieval: 0.5,
            closed_utility: true,
            space_between: false,
            ..Self::paper()
        }
    }

    /// The settings of a behaviour with some changed, as `NAME=VALUE`.
    pub fn of(behaviour: Behaviour, changes: &[String]) -> Result<Self> {
        let base = match behaviour {
            Behaviour::Paper => Self::paper(),
            Behaviour::Compat => Self::compat(),
        };
        let mut fields = serde_json::to_value(base).expect("settings are JSON");
        for change in changes {
            let bad = |problem: String| Error::config(change, problem);
            let (name, text) = change.split_once('=').ok_or_else(|| bad("NAME=VALUE expected".into()))?;
            let Some(field) = fields.get_mut(name) else {
                let names: Vec<&String> = fields.as_object().into_iter().flat_map(|fields| fields.keys()).collect();
                return Err(bad(format!("no such setting, one of {names:?} expected")));
            };
            *field = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
            serde_json::from_value::<Self>(fields.clone()).map_err(|e| bad(e.to_string()))?;
        }
        let settings: Self = serde_json::from_value(fields).map_err(|e| Error::config("set", e.to_string()))?;
        settings.check()?;
        Ok(settings)
    }

    /// Refuses numbers that make no sense.
    pub fn check(&self) -> Result<()> {
        let shares = [
            ("keep_no_retrieval", self.keep_no_retrieval),
            ("keep_partially_supported", self.keep_partially_supported),
            ("keep_no_support", self.keep_no_support),
            ("irrelevant_for_nq", self.irrelevant_for_nq),
            ("drop_nq_no_retrieval", self.drop_nq_no_retrieval),
        ];
        if let Some((name, value)) = shares.into_iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return Err(Error::config(name, format!("{value}, a number from 0 to 1 expected")));
        }
        for (name, value) in [("n_docs", self.n_docs), ("top_n", self.top_n)] {
            if value == 0 || value > self.n_docs {
                return Err(Error::config(name, format!("{value}, from 1 to n_docs expected")));
            }
        }
        Ok(())
    }

    /// An answer's sentences, and whether each is too short for a token.
    pub fn split<'a>(&self, output: &'a str) -> Vec<(&'a str, bool)> {
        let ranges = sentences(output);
        let skips = ranges.len() > 2;
        let one = |range: std::ops::Range<usize>| {
            let text = &output[range];
            (text, skips && text.chars().count() < self.min_sentence_chars)
        };
        ranges.into_iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_changed_by_name() {
        let of = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            Settings::of(Behaviour::Compat, &changes).map_err(|e| e.to_string())
        };
        assert_eq!(of(&[]).unwrap(), Settings::compat());
        let changed = of(&["seed=7", "selection=supported", "irrelevant_sets=[\"nq\"]"]).unwrap();
        let expected = Settings {
            seed: 7,
            selection: Selection::Supported,
            irrelevant_sets: vec!["nq".into()],
            ..Settings::compat()
        };
        assert_eq!(changed, expected);
        Settings::paper().check().unwrap();
        for (change, problem) in [
            ("seed", "NAME=VALUE expected"),
            ("sede=1", "no such setting"),
            ("seed=x", "invalid type"),
            ("selection=best", "unknown variant"),
            ("keep_no_support=1.5", "from 0 to 1"),
            ("top_n=11", "from 1 to n_docs"),
            ("n_docs=0", "from 1 to n_docs"),
        ] {
            let error = of(&[change]).unwrap_err();
            assert!(error.contains(problem) && error.contains(change.split('=').next().unwrap()), "{error}");
        }
    }

    #[test]
    fn short_sentences_of_long_answers_get_no_token() {
        let settings = Settings { min_sentence_chars: 6, ..Settings::paper() };
        assert_eq!(settings.split("Yes. It is so."), [("Yes.", false), ("It is so.", false)]);
        assert_eq!(
            settings.split("Éé. It is so. Good day."),
            [("Éé.", true), ("It is so.", false), ("Good day.", false)]
        );
    }
}
