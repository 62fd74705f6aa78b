//! Every number that changes the training rows made from annotated questions.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What an unanswerable question says about its passage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Unanswerable {
    /// With a plausible answer annotated: `[Relevant]`, and that answer `[No support / Contradictory]`. Without: `[Irrelevant]`, for all
    /// that the set says is that the passage does not answer.
    #[default]
    ByAnnotation,
    /// `[Relevant]` in any case, since such questions were written about their passage: a sentence from elsewhere then lacks support.
    Relevant,
    /// `[Irrelevant]` in any case.
    Irrelevant,
}

/// How many rows of each kind are made, and of what. A number of rows for each question may be a fraction: 2.3 are two rows, and a third
/// for three questions in ten. The same settings and files give the same bytes.
///
/// The defaults are the recipe of the demo generator; none is from the paper, whose labels come from a critic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Settings {
    /// Start of all draws. Each question and kind of row has draws of its own, so that one setting leaves the other rows as they are.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Rows for each answerable question with its passage: `[Relevant]`, the sentence that answers, `[Fully supported][Utility:5]`.
    #[arg(long, value_name = "ROWS", default_value_t = 1.0)]
    pub gold: f64,
    /// Rows for each answerable question with a passage that the retriever finds and that has no answer: `[Irrelevant]`.
    #[arg(long, value_name = "ROWS", default_value_t = 0.6)]
    pub hard_negatives: f64,
    /// Rows for each answerable question with a random passage of another article: `[Irrelevant]`.
    #[arg(long, value_name = "ROWS", default_value_t = 0.3)]
    pub random_negatives: f64,
    /// A hard negative is drawn from the first N passages found that have no answer.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub hard_pool: usize,
    /// Share of `[Irrelevant]` rows whose (untrained) text is the right answer, with `[Utility:5]`; the others have a sentence of the
    /// passage, with `[Utility:1]`.
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    pub irrelevant_with_gold: f64,
    /// Rows for each unanswerable question.
    #[arg(long, value_name = "ROWS", default_value_t = 0.5)]
    pub unanswerable: f64,
    /// What an unanswerable question says about its passage.
    #[arg(long, value_enum, value_name = "HOW", default_value = "by_annotation")]
    pub unanswerable_as: Unanswerable,
    /// Rows for each answerable question whose (untrained) text is a sentence of another article: `[No support / Contradictory]`.
    #[arg(long, value_name = "ROWS", default_value_t = 0.25)]
    pub wrong: f64,
    /// Share of those sentences that are taken from a hard negative, the one that shares most words with the question; the others are
    /// random.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub wrong_near: f64,
    /// Rows for each answerable question whose (untrained) text is the right sentence with another answer in it:
    /// `[No support / Contradictory]`.
    #[arg(long, value_name = "ROWS", default_value_t = 0.4)]
    pub swapped: f64,
    /// Share of those other answers that stand elsewhere in the same passage.
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    pub swapped_within: f64,
    /// Rows for each answerable question whose (untrained) text is a sentence of the passage that does not answer:
    /// `[Fully supported][Utility:2]`.
    #[arg(long, value_name = "ROWS", default_value_t = 0.2)]
    pub off_point: f64,
    /// Rows for each answerable question whose (untrained) text is the right sentence and one of another article, in either order:
    /// `[Partially supported][Utility:3]`.
    #[arg(long, value_name = "ROWS", default_value_t = 0.4)]
    pub partial: f64,
    /// Rows for each answerable question asked together with another about the same passage: two segments,
    /// `[Continue to Use Evidence]` between them.
    #[arg(long, value_name = "ROWS", default_value_t = 0.15)]
    pub two_questions: f64,
    /// Rows for each answerable question asked together with one about another passage: two segments, `[Retrieval]` between them.
    #[arg(long, value_name = "ROWS", default_value_t = 0.1)]
    pub two_passages: f64,
    /// Rows for each answerable question that ask for two sentences: the second is the one that follows in the passage, after
    /// `[Continue to Use Evidence]`.
    #[arg(long, value_name = "ROWS", default_value_t = 0.1)]
    pub follow_on: f64,
    /// Whether the segment after `[Continue to Use Evidence]` has its support token, as the paper's algorithm reads one; the released
    /// data has none there.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub continue_support: bool,
    /// Rows for each plain instruction: `[No Retrieval]`.
    #[arg(long, value_name = "ROWS", default_value_t = 1.0)]
    pub instruction_copies: f64,
    /// Fewest words of a sentence that is quoted.
    #[arg(long, value_name = "WORDS", default_value_t = 4)]
    pub min_sentence_words: usize,
    /// Most words of a sentence that is quoted.
    #[arg(long, value_name = "WORDS", default_value_t = 60)]
    pub max_sentence_words: usize,
    /// Most words of a passage that gives rows.
    #[arg(long, value_name = "WORDS", default_value_t = 600)]
    pub max_passage_words: usize,
    /// Share of the rows whose judgements go into the critic's file; repeated judgements are written once.
    #[arg(long, value_name = "SHARE", default_value_t = 0.25)]
    pub critic_share: f64,
    /// Whether rows are shuffled; otherwise they stand in the files' order.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub shuffle: bool,
}

impl Default for Settings {
    /// What the command has where nothing is said: the definitions are in one place, above.
    fn default() -> Self {
        use clap::{Args, Command, FromArgMatches};
        let matches = Self::augment_args(Command::new("settings").no_binary_name(true)).get_matches_from([""; 0]);
        Self::from_arg_matches(&matches).expect("every setting has a default")
    }
}

impl Settings {
    /// Refuses numbers that make no sense.
    pub fn check(&self) -> Result<()> {
        /// Rows of one kind for each question: more is a slip.
        const MOST: f64 = 100.0;
        let rows = [
            ("gold", self.gold),
            ("hard-negatives", self.hard_negatives),
            ("random-negatives", self.random_negatives),
            ("unanswerable", self.unanswerable),
            ("wrong", self.wrong),
            ("swapped", self.swapped),
            ("off-point", self.off_point),
            ("partial", self.partial),
            ("two-questions", self.two_questions),
            ("two-passages", self.two_passages),
            ("follow-on", self.follow_on),
            ("instruction-copies", self.instruction_copies),
        ];
        let shares = [
            ("irrelevant-with-gold", self.irrelevant_with_gold),
            ("wrong-near", self.wrong_near),
            ("swapped-within", self.swapped_within),
            ("critic-share", self.critic_share),
        ];
        for (values, most) in [(rows.as_slice(), MOST), (shares.as_slice(), 1.0)] {
            if let Some((name, value)) = values.iter().find(|(_, value)| !(0.0..=most).contains(value)) {
                return Err(Error::config(*name, format!("{value}, a number from 0 to {most} expected")));
            }
        }
        if self.min_sentence_words > self.max_sentence_words {
            let problem = format!("at least --min-sentence-words ({}) expected", self.min_sentence_words);
            return Err(Error::config("max-sentence-words", problem));
        }
        match self.hard_pool {
            0 => Err(Error::config("hard-pool", "at least 1 expected")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_make_sense_and_nonsense_is_refused() {
        let settings = Settings::default();
        settings.check().unwrap();
        assert_eq!((settings.seed, settings.gold, settings.shuffle), (1, 1.0, true));
        for bad in [
            Settings { gold: -1.0, ..Settings::default() },
            Settings { gold: f64::NAN, ..Settings::default() },
            Settings { swapped_within: 1.5, ..Settings::default() },
            Settings { max_sentence_words: 1, ..Settings::default() },
            Settings { hard_pool: 0, ..Settings::default() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
