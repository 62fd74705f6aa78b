//! The options of `eval short` and `eval long`: the original's names, with `_` or `-`, and what they mean for the settings.

use std::path::PathBuf;

use super::ModelArgs;
use crate::{
    Error, Result,
    cli::settings::{Behaviour, Threshold, parse_threshold},
    eval::{
        prompts::Baseline,
        record::Method,
        task::{Form, Task},
    },
    self_rag::{Config, LongConfig, Mode},
};

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum ModeArg {
    /// When the model asks for it.
    #[value(alias = "default", alias = "adaptive")]
    AdaptiveRetrieval,
    /// For no question.
    #[value(alias = "never")]
    NoRetrieval,
    /// For every question.
    #[value(alias = "always")]
    AlwaysRetrieve,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Preset {
    /// What the published command of the task says.
    #[value(name = "paper-2023")]
    Paper2023,
}

/// What a task's answers may be scored by while it runs and in the output.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Metric {
    Match,
    Accuracy,
    Em,
    F1,
}

/// Options that both forms have.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// The task, which says what rows hold and how they are asked.
    #[arg(long, value_enum)]
    pub(super) task: Task,
    /// Rows: a JSON list or JSON lines; .gz is unpacked.
    #[arg(long, alias = "input_file", value_name = "FILE")]
    pub(super) input: PathBuf,
    /// The file to write in the original's layout, and beside it FILE.records.jsonl.
    #[arg(long, alias = "output_file", value_name = "FILE")]
    pub(super) output: PathBuf,
    /// Settings to start from; other options change them.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Behaviour to start from: `compat` does what the released code does, its slips included.
    #[arg(long, value_enum, default_value = "paper")]
    config: Behaviour,
    /// When to retrieve [default: adaptive_retrieval].
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,
    /// Retrieve when p(Retrieve) is above; `none`: when `[Retrieval]` is the most likely token [default: 0.2].
    #[arg(long, value_parser = parse_threshold, allow_hyphen_values = true)]
    threshold: Option<Threshold>,
    /// Passages of a question, from the front of its list [default: 5].
    #[arg(long, alias = "n-docs", alias = "n_docs", value_name = "N")]
    ndocs: Option<usize>,
    /// Tokens of an answer, in long form of a segment [default: 100, long 200].
    #[arg(long, alias = "max_new_tokens", value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Weight of ISREL [default: 1].
    #[arg(long, alias = "w_rel", value_name = "W", allow_negative_numbers = true)]
    w_rel: Option<f32>,
    /// Weight of ISSUP [default: 1].
    #[arg(long, alias = "w_sup", value_name = "W", allow_negative_numbers = true)]
    w_sup: Option<f32>,
    /// Weight of ISUSE [default: 0.5; 1 in short form with --config compat].
    #[arg(long, alias = "w_use", value_name = "W", allow_negative_numbers = true)]
    w_use: Option<f32>,
    /// Whether the sequence score counts.
    #[arg(long, alias = "use_seqscore", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    use_seqscore: Option<bool>,
    /// Whether ISSUP counts.
    #[arg(long, aliases = ["use_groundness", "use-grounding", "use_grounding"], value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    use_groundness: Option<bool>,
    /// Whether ISUSE counts.
    #[arg(long, alias = "use_utility", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    use_utility: Option<bool>,
    /// Answer with a plain prompt instead: no reflection; those that end in `retrieval` hold the first --ndocs passages.
    #[arg(long, value_enum, value_name = "PROMPT")]
    baseline: Option<Baseline>,
    /// Search the index for all rows; otherwise it is searched, where --index names one, for rows without passages.
    #[arg(long)]
    pub(super) search: bool,
    /// Questions answered at once; each has its candidates in the KV cache.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(super) batch: usize,
    /// Refuse a file that has unusable rows, instead of skipping them.
    #[arg(long)]
    pub(super) strict: bool,
    /// Begin anew where the output exists.
    #[arg(long)]
    pub(super) overwrite: bool,
    /// Which part of the rows to answer, counted from 0.
    #[arg(long, alias = "shard_id", value_name = "N", default_value_t = 0)]
    pub(super) shard_id: usize,
    /// In how many parts the rows are divided.
    #[arg(long, alias = "num_shards", value_name = "N", default_value_t = 1)]
    pub(super) num_shards: usize,
    /// Write every step of the model, for tests/replay/replay.py; .gz is compressed.
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
}

/// A server that generates, in place of the engine.
#[derive(Debug, clap::Args)]
pub(super) struct RemoteArgs {
    /// An OpenAI-compatible completions server, for instance vLLM, that generates in place of the engine; $OPENAI_API_KEY is sent to
    /// it. `--model` is then the model's name there.
    #[arg(long, value_name = "URL", requires_all = ["tokenizer", "model"])]
    pub(super) generator: Option<String>,
    /// The served model's vocabulary: tokenizer.json, or tokenizer.model, to which Self-RAG's tokens are added, or a GGUF file.
    #[arg(long, value_name = "FILE", requires = "generator")]
    pub(super) tokenizer: Option<PathBuf>,
    /// Requests under way at once; --batch should be no less.
    #[arg(long, value_name = "N", default_value_t = 16, requires = "generator")]
    pub(super) concurrency: usize,
    /// Log-probabilities asked for at each token; vLLM allows more than 20 with --max-logprobs.
    #[arg(long, value_name = "N", default_value_t = 20, requires = "generator")]
    pub(super) logprobs: usize,
    /// How often a request that failed is sent again.
    #[arg(long, value_name = "N", default_value_t = 5, requires = "generator")]
    pub(super) retries: u32,
}

/// Answers a file of questions in short form: one passage for the whole answer.
#[derive(Debug, clap::Args)]
pub(super) struct ShortArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// What is shown while it runs, and what the output is scored by.
    #[arg(long, value_enum, default_value = "match")]
    metric: Metric,
}

/// Answers a file of questions in long form: segment by segment, each with its passage.
#[derive(Debug, clap::Args)]
pub(super) struct LongArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Paths kept after each segment [default: 2].
    #[arg(long, alias = "beam_width", value_name = "N")]
    beam_width: Option<usize>,
    /// Segments of an answer; with --config compat the question counts as one [default: 6, compat 7].
    #[arg(long, alias = "max_depth", value_name = "N")]
    max_depth: Option<usize>,
    /// Tokens of an answer, all segments together [default: 1000].
    #[arg(long, alias = "max_total_tokens", value_name = "N")]
    max_total_tokens: Option<usize>,
    /// Drop candidates that say `[No support / Contradictory]`.
    #[arg(long, alias = "ignore_cont")]
    ignore_cont: bool,
}

/// How to answer, and what that is scored by.
pub(super) struct Told {
    pub(super) method: Method,
    pub(super) metric: &'static str,
}

impl ShortArgs {
    /// What the options say, checked.
    pub(super) fn method(&self) -> Result<Told> {
        let Common { task, preset, config, .. } = &self.common;
        self.common.check_form(Form::Short)?;
        let base = match config {
            Behaviour::Paper => Config::paper(),
            Behaviour::Compat => Config::compat(),
        };
        let base = match preset {
            Some(Preset::Paper2023) => task.published_short(base),
            None => task.short(base),
        };
        let config = self.common.apply(base);
        config.check()?;
        let method = match self.common.baseline {
            Some(prompt) => Method::Baseline(prompt, config),
            None => Method::Short(config),
        };
        let metric = match self.metric {
            Metric::Match => "match",
            Metric::Accuracy => "accuracy",
            Metric::Em => "em",
            Metric::F1 => "f1",
        };
        Ok(Told { method, metric })
    }
}

impl LongArgs {
    /// What the options say, checked.
    pub(super) fn method(&self) -> Result<Told> {
        let Common { task, preset, config, .. } = &self.common;
        self.common.check_form(Form::Long)?;
        let mut config = match config {
            Behaviour::Paper => LongConfig::paper(),
            Behaviour::Compat => LongConfig::compat(),
        };
        if let Some(Preset::Paper2023) = preset {
            config = task.published_long(config);
        }
        config.base = self.common.apply(config.base);
        config.beam_width = self.beam_width.unwrap_or(config.beam_width);
        config.max_depth = self.max_depth.unwrap_or(config.max_depth);
        config.max_total_tokens = self.max_total_tokens.unwrap_or(config.max_total_tokens);
        config.hard.no_support |= self.ignore_cont;
        config.check()?;
        let method = match self.common.baseline {
            Some(prompt) => Method::Baseline(prompt, config.base),
            None => Method::Long(config),
        };
        Ok(Told { method, metric: crate::eval::metrics::headline(*task) })
    }
}

impl Common {
    /// Whether rows are read and answers compared as the released code does.
    pub(super) fn is_compat(&self) -> bool {
        matches!(self.config, Behaviour::Compat)
    }

    fn check_form(&self, form: Form) -> Result<()> {
        if self.task.form() == form {
            return Ok(());
        }
        let other = match self.task.form() {
            Form::Short => "short",
            Form::Long => "long",
        };
        Err(Error::config("task", format!("{} is answered by `selfrag eval {other}`", self.task.name())))
    }

    /// The settings with what the options say.
    fn apply(&self, base: Config) -> Config {
        let mode = self.mode.map(|mode| match mode {
            ModeArg::AdaptiveRetrieval => Mode::Adaptive,
            ModeArg::NoRetrieval => Mode::Never,
            ModeArg::AlwaysRetrieve => Mode::Always,
        });
        Config {
            mode: mode.unwrap_or(base.mode),
            threshold: self.threshold.map_or(base.threshold, |threshold| threshold.0),
            n_docs: self.ndocs.unwrap_or(base.n_docs),
            max_new_tokens: self.max_new_tokens.unwrap_or(base.max_new_tokens),
            w_rel: self.w_rel.unwrap_or(base.w_rel),
            w_sup: self.w_sup.unwrap_or(base.w_sup),
            w_use: self.w_use.unwrap_or(base.w_use),
            use_seqscore: self.use_seqscore.unwrap_or(base.use_seqscore),
            use_groundness: self.use_groundness.unwrap_or(base.use_groundness),
            use_utility: self.use_utility.unwrap_or(base.use_utility),
            ..base
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Short {
        #[command(flatten)]
        args: ShortArgs,
    }

    #[derive(Parser)]
    struct Long {
        #[command(flatten)]
        args: LongArgs,
    }

    fn short(options: &str) -> Result<Config, String> {
        let line = Short::try_parse_from(format!("x --input i --output o {options}").split_whitespace());
        match line.map_err(|e| e.to_string())?.args.method().map_err(|e| e.to_string())?.method {
            Method::Short(config) | Method::Baseline(_, config) => Ok(config),
            Method::Long(_) => Err("long".into()),
        }
    }

    fn long(options: &str) -> Result<LongConfig, String> {
        let line = Long::try_parse_from(format!("x --input i --output o {options}").split_whitespace());
        match line.map_err(|e| e.to_string())?.args.method().map_err(|e| e.to_string())?.method {
            Method::Long(config) => Ok(config),
            _ => Err("not long".into()),
        }
    }

    /// The published commands, word for word but for names of files and `--dtype half`.
    #[test]
    fn the_original_command_lines_are_understood() {
        let popqa = short(
            "--task popqa --mode adaptive_retrieval --max_new_tokens 100 --threshold 0.2 --metric match --ndocs 10 --use_groundness --use_utility --use_seqscore",
        );
        assert_eq!(popqa.unwrap(), Task::Popqa.published_short(Config::paper()));
        let arc = short("--task arc_c --max_new_tokens 50 --threshold 0.2 --metric match --ndocs 5 --use_groundness");
        assert_eq!(arc.unwrap(), Task::ArcC.published_short(Config::paper()));
        let fever = short("--task fever --preset paper-2023 --config compat").unwrap();
        assert_eq!((fever.w_use, fever.max_new_tokens), (1.0, 50));
        let asqa = long(
            "--task asqa --max_new_tokens 300 --threshold 0.2 --use_grounding --use_utility --use_seqscore --ndocs 5 --mode always_retrieve --max_depth 7 --config compat",
        );
        assert_eq!(
            asqa.unwrap(),
            LongConfig { max_total_tokens: 1800, ..Task::Asqa.published_long(LongConfig::compat()) }
        );
    }

    #[test]
    fn options_change_what_they_say() {
        assert_eq!(short("--task popqa").unwrap(), Config::paper());
        assert_eq!(
            short("--task popqa --w-use 2 --use-seqscore=false").unwrap(),
            Config { w_use: 2.0, use_seqscore: false, ..Config::paper() }
        );
        assert_eq!(short("--task popqa --threshold none").unwrap().threshold, None);
        assert_eq!(long("--task eli5 --ignore_cont --beam_width 3").unwrap().beam_width, 3);
        assert!(short("--task popqa --baseline llama_chat_prompt --mode no_retrieval").is_ok());
        for (options, named) in [
            ("--task asqa", "eval long"),
            ("--task wow", "wow"),
            ("--task popqa --w_rel nan", "w_rel"),
            ("--task popqa --ndocs 0", "n_docs"),
            ("--task popqa --config compat --threshold none", "threshold"),
            ("--task popqa --mode sometimes", "sometimes"),
        ] {
            let error = short(options).unwrap_err();
            assert!(error.contains(named), "{options}: {error}");
        }
        assert!(long("--task popqa").unwrap_err().contains("eval short"));
    }
}
