//! The tasks: what a question is made of, and the published command of each (paper, §4; released code, README).

use serde::{Deserialize, Serialize};

use crate::self_rag::{Config, LongConfig, Mode, Task as Choice};

/// Which algorithm answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One passage for the whole answer.
    Short,
    /// Segment by segment.
    Long,
}

/// A task of the paper's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Task {
    /// Questions about rare entities.
    Popqa,
    /// Trivia questions.
    Triviaqa,
    /// Claims about health, true or false; the original calls it `fever`.
    #[value(alias = "fever")]
    Pubhealth,
    /// ARC-Challenge: four choices.
    ArcC,
    /// Ambiguous questions, long answers with citations.
    Asqa,
    /// Biographies.
    Factscore,
    /// Explanations in simple words.
    Eli5,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Popqa, Self::Triviaqa, Self::Pubhealth, Self::ArcC, Self::Asqa, Self::Factscore, Self::Eli5];

    /// As the user writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Popqa => "popqa",
            Self::Triviaqa => "triviaqa",
            Self::Pubhealth => "pubhealth",
            Self::ArcC => "arc_c",
            Self::Asqa => "asqa",
            Self::Factscore => "factscore",
            Self::Eli5 => "eli5",
        }
    }

    /// The algorithm that the paper uses for it.
    pub const fn form(self) -> Form {
        match self {
            Self::Popqa | Self::Triviaqa | Self::Pubhealth | Self::ArcC => Form::Short,
            Self::Asqa | Self::Factscore | Self::Eli5 => Form::Long,
        }
    }

    /// The field with the passages: `ctxs`, or ALCE's `docs`.
    pub const fn passages_field(self) -> &'static str {
        match self {
            Self::Asqa | Self::Eli5 => "docs",
            _ => "ctxs",
        }
    }

    /// `TASK_INST`, word for word.
    pub const fn instruction(self) -> Option<&'static str> {
        match self {
            Self::Pubhealth => Some(
                "Is the following statement correct or not? Say true if it's correct; otherwise say false.",
            ),
            Self::ArcC => Some("Given four answer candidates, A, B, C and D, choose the best answer choice."),
            Self::Asqa => Some(
                "Answer the following question. The question may be ambiguous and have multiple correct answers, and in that case, you have to provide a long-form answer including all correct answers.",
            ),
            Self::Eli5 => {
                Some("Provide a paragraph-length response using simple words to answer the following question.")
            }
            Self::Popqa | Self::Triviaqa | Self::Factscore => None,
        }
    }

    /// Task and question as the model is asked; `choices` begin with a line feed. Each task has its own way of joining them.
    pub fn ask(self, question: &str, choices: &str) -> String {
        match (self, self.instruction()) {
            (Self::Pubhealth, Some(instruction)) => format!("{instruction}\n\n## Input:\n\n{question}"),
            (Self::ArcC, Some(instruction)) => format!("{instruction}\n\n### Input:\n{question}{choices}"),
            (_, Some(instruction)) => format!("{instruction}## Input:\n\n{question}"),
            (_, None) => question.to_owned(),
        }
    }

    /// The same for the baselines.
    pub fn ask_baseline(self, question: &str, choices: &str) -> String {
        match (self, self.instruction()) {
            (Self::Pubhealth | Self::ArcC, Some(instruction)) => {
                format!("{instruction}\n\n### Input:\n{question}{choices}")
            }
            _ => self.ask(question, choices),
        }
    }

    /// The answers a closed task knows.
    pub const fn choices(self) -> &'static [&'static str] {
        match self {
            Self::Pubhealth => &["true", "false"],
            Self::ArcC => &["A", "B", "C", "D"],
            _ => &[],
        }
    }

    /// Settings of the short form for this task, over `base` (paper or compat).
    pub fn short(self, base: Config) -> Config {
        let is_compat = !base.trim_answer;
        let task = match self {
            // The paper lower-cases fact-check predictions; the released code does not.
            Self::Pubhealth => Choice::Closed { ignore_case: !is_compat },
            Self::ArcC => Choice::Closed { ignore_case: false },
            _ => Choice::Open,
        };
        let (max_new_tokens, n_docs) = match task {
            Choice::Open => (100, 10),
            Choice::Closed { .. } => (50, 5),
        };
        Config { task, max_new_tokens, n_docs, ..base }
    }

    /// Settings of the long form for this task, over `base`.
    pub fn long(self, base: LongConfig) -> LongConfig {
        let mut config = base;
        config.base.n_docs = 5;
        if config.probe_decision {
            // The published commands: 300 tokens; no depth is given for ELI5, and the default is 2.
            config.base.max_new_tokens = 300;
            config.max_depth = if self == Self::Eli5 { 2 } else { 7 };
            if self == Self::Asqa {
                config.base.mode = Mode::Always;
            }
        } else if matches!(self, Self::Asqa | Self::Eli5) {
            // ALCE always wants citations: δ = 0 (paper, appendix B.2).
            config.base.threshold = Some(0.0);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_word_for_word() {
        assert_eq!(Task::Popqa.ask("Q?", ""), "Q?");
        assert!(Task::Pubhealth.ask("C.", "").ends_with("otherwise say false.\n\n## Input:\n\nC."));
        assert!(Task::ArcC.ask("Q?", "\nA: x").ends_with("choice.\n\n### Input:\nQ?\nA: x"));
        assert!(Task::Asqa.ask("Q?", "").ends_with("all correct answers.## Input:\n\nQ?"), "nothing before ##");
        assert!(Task::Pubhealth.ask_baseline("C.", "").ends_with("say false.\n\n### Input:\nC."));
    }

    #[test]
    fn published_settings() {
        let arc = Task::ArcC.short(Config::compat());
        assert_eq!((arc.max_new_tokens, arc.n_docs, arc.w_use), (50, 5, 1.0));
        let popqa = Task::Popqa.short(Config::paper());
        assert_eq!((popqa.max_new_tokens, popqa.n_docs, popqa.w_use), (100, 10, 0.5));
        let asqa = Task::Asqa.long(LongConfig::compat());
        assert_eq!((asqa.base.mode, asqa.max_depth, asqa.base.max_new_tokens), (Mode::Always, 7, 300));
        assert_eq!(Task::Asqa.long(LongConfig::paper()).base.threshold, Some(0.0));
        for task in Task::ALL {
            task.short(Config::paper()).check().unwrap();
            task.long(LongConfig::compat()).check().unwrap();
            assert_eq!(<Task as clap::ValueEnum>::from_str(task.name(), false), Ok(task));
        }
    }
}
