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
            Self::Pubhealth => {
                Some("Is the following statement correct or not? Say true if it's correct; otherwise say false.")
            }
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

    /// How the answer is picked from the candidates.
    fn choice(self, is_compat: bool) -> Choice {
        match self {
            // The paper lower-cases fact-check predictions; the released code does not.
            Self::Pubhealth => Choice::Closed { ignore_case: !is_compat },
            Self::ArcC => Choice::Closed { ignore_case: false },
            _ => Choice::Open,
        }
    }

    /// `base` (paper or compat) for this task in short form.
    pub fn short(self, base: Config) -> Config {
        Config { task: self.choice(!base.trim_answer), ..base }
    }

    /// The same with what the published command says.
    pub fn published_short(self, base: Config) -> Config {
        let config = self.short(base);
        let (max_new_tokens, n_docs) = match config.task {
            Choice::Open => (100, 10),
            Choice::Closed { .. } => (50, 5),
        };
        Config { max_new_tokens, n_docs, threshold: Some(0.2), ..config }
    }

    /// `base` with what the published command says, in long form. None is published for ELI5: ASQA's lengths, the depth left at its
    /// default, and passages wanted as the paper wants them for ALCE's tasks (δ 0, appendix B.2).
    pub fn published_long(self, base: LongConfig) -> LongConfig {
        let mut config = base;
        (config.base.n_docs, config.base.max_new_tokens) = (5, 300);
        config.base.threshold = Some(0.2);
        match self {
            Self::Asqa => config.base.mode = Mode::Always,
            Self::Eli5 if !config.depth_counts_root => config.base.threshold = Some(0.0),
            _ => {}
        }
        // `--max_depth 7` counts the question.
        let depth = if self == Self::Eli5 && config.depth_counts_root { 2 } else { 7 };
        config.max_depth = depth - usize::from(!config.depth_counts_root);
        config.max_total_tokens = config.levels() * config.base.max_new_tokens;
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
        let arc = Task::ArcC.published_short(Config::compat());
        assert_eq!((arc.max_new_tokens, arc.n_docs, arc.w_use), (50, 5, 1.0));
        let popqa = Task::Popqa.published_short(Config::paper());
        assert_eq!((popqa.max_new_tokens, popqa.n_docs, popqa.w_use), (100, 10, 0.5));
        for base in [LongConfig::paper(), LongConfig::compat()] {
            let asqa = Task::Asqa.published_long(base.clone());
            assert_eq!((asqa.base.mode, asqa.levels(), asqa.base.max_new_tokens), (Mode::Always, 6, 300));
            let factscore = Task::Factscore.published_long(base);
            assert_eq!((factscore.base.mode, factscore.base.threshold), (Mode::Adaptive, Some(0.2)));
        }
        assert_eq!(Task::Eli5.published_long(LongConfig::paper()).base.threshold, Some(0.0));
        assert_eq!(Task::Eli5.published_long(LongConfig::compat()).levels(), 1);
        for task in Task::ALL {
            task.published_short(Config::paper()).check().unwrap();
            task.published_long(LongConfig::compat()).check().unwrap();
            task.published_long(LongConfig::paper()).check().unwrap();
            assert_eq!(<Task as clap::ValueEnum>::from_str(task.name(), false), Ok(task));
        }
    }

    /// True and true are one answer in the paper, two in the released code.
    #[test]
    fn closed_tasks() {
        let case = |config: Config| Task::Pubhealth.short(config).task;
        assert_eq!(case(Config::paper()), Choice::Closed { ignore_case: true });
        assert_eq!(case(Config::compat()), Choice::Closed { ignore_case: false });
        assert_eq!(Task::Triviaqa.short(Config::compat()).task, Choice::Open);
    }
}
