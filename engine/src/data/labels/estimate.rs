//! What asking will cost, before it begins.

use super::{
    ask::Options,
    item::{Job, Question},
    wording,
};

/// Characters of a token, for English and today's vocabularies.
const CHARS: usize = 4;
/// Tokens that a chat's form adds to each message.
const FORM: usize = 4;

/// What is asked, in numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Estimate {
    /// Questions of each job.
    pub questions: std::collections::BTreeMap<&'static str, usize>,
    /// Tokens of all messages, at four characters a token.
    pub input_tokens: usize,
    /// Tokens of all answers, at most.
    pub output_tokens: usize,
    /// Both by their prices, at most; none without prices.
    pub cost: Option<f64>,
}

impl Estimate {
    /// Of questions that are each answered at once; `prices` for a million tokens in and out, in whatever currency.
    pub fn new<'a>(
        questions: impl IntoIterator<Item = &'a Question>,
        options: &Options,
        prices: Option<[f64; 2]>,
    ) -> Self {
        let mut estimate = Self::default();
        for question in questions {
            *estimate.questions.entry(Job::name(question.job)).or_default() += 1;
            for message in wording::messages(question.job, &question.item, 0) {
                let chars = message["content"].as_str().unwrap_or_default().chars().count();
                estimate.input_tokens += chars.div_ceil(CHARS) + FORM;
            }
            estimate.output_tokens += options.max_tokens as usize;
        }
        let counts = [estimate.input_tokens, estimate.output_tokens];
        estimate.cost = prices.map(|prices| counts.iter().zip(prices).map(|(n, price)| *n as f64 * price / 1e6).sum());
        estimate
    }

    /// How many questions there are.
    pub fn len(&self) -> usize {
        self.questions.values().sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let jobs: Vec<String> = self.questions.iter().map(|(job, n)| format!("{job} {n}")).collect();
        write!(f, "{} questions", self.len())?;
        if !jobs.is_empty() {
            write!(f, " ({})", jobs.join(", "))?;
        }
        write!(f, ": about {} tokens in, at most {} out", self.input_tokens, self.output_tokens)?;
        match self.cost {
            Some(cost) => write!(f, ", at most {cost:.2} by the prices given; questions asked again are not counted"),
            None => write!(f, "; --price-input and --price-output make it a cost"),
        }
    }
}
