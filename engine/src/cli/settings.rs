//! The settings of an answer, as options.

use crate::{
    Result,
    generator::sampler::Sampling,
    self_rag::{Config, Mode},
};

/// Which behaviour to start from.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Behaviour {
    /// What the paper describes.
    Paper,
    /// What the released code does.
    Compat,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ModeArg {
    /// When the model asks for it.
    Adaptive,
    /// For every question.
    Always,
    /// For none.
    Never,
}

/// Options that change answers.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// When to retrieve.
    #[arg(long, value_enum, default_value = "adaptive")]
    mode: ModeArg,
    /// Retrieve when p(Retrieve) is above; `none`: when `[Retrieval]` is the most likely token.
    #[arg(long, default_value = "0.2", value_parser = parse_threshold, allow_hyphen_values = true)]
    threshold: Threshold,
    /// Passages for a question.
    #[arg(long, default_value_t = Config::paper().n_docs)]
    n_docs: usize,
    /// Tokens of an answer.
    #[arg(long, default_value_t = Config::paper().max_new_tokens)]
    max_new_tokens: usize,
    /// Draw tokens instead of taking the most likely: 1 is the model's own distribution, 0 greedy [default: 0].
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Draw only from the most likely tokens that together have this probability [default: 1].
    #[arg(long, value_name = "P", requires = "temperature", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// The same seed gives the same answers for the same questions in a batch [default: 0].
    #[arg(long, value_name = "N", requires = "temperature", allow_negative_numbers = true)]
    seed: Option<u64>,
    /// Behaviour to start from.
    #[arg(long, value_enum, default_value = "paper")]
    config: Behaviour,
}

/// A threshold or none. Not an `Option`, which clap would take for an optional argument.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threshold(pub(super) Option<f32>);

pub(super) fn parse_threshold(text: &str) -> std::result::Result<Threshold, String> {
    match text {
        "none" => Ok(Threshold(None)),
        _ => text.parse().map(|value| Threshold(Some(value))).map_err(|_| "a number or `none` expected".into()),
    }
}

impl Settings {
    /// As the engine takes them, checked.
    pub fn config(&self) -> Result<Config> {
        let base = match self.config {
            Behaviour::Paper => Config::paper(),
            Behaviour::Compat => Config::compat(),
        };
        let mode = match self.mode {
            ModeArg::Adaptive => Mode::Adaptive,
            ModeArg::Always => Mode::Always,
            ModeArg::Never => Mode::Never,
        };
        let Sampling { temperature, top_p, seed } = base.sampling;
        let config = Config {
            mode,
            threshold: self.threshold.0,
            n_docs: self.n_docs,
            max_new_tokens: self.max_new_tokens,
            sampling: Sampling {
                temperature: self.temperature.unwrap_or(temperature),
                top_p: self.top_p.unwrap_or(top_p),
                seed: self.seed.unwrap_or(seed),
            },
            ..base
        };
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(options: &str) -> Result<Config, String> {
        let line = Line::try_parse_from(format!("selfrag {options}").split_whitespace());
        line.map_err(|e| e.to_string())?.settings.config().map_err(|e| e.to_string())
    }

    #[test]
    fn sampling_is_off_unless_asked_for() {
        assert_eq!(parse("").unwrap(), Config::paper());
        let sampling = Sampling { temperature: 0.7, top_p: 0.9, seed: 5 };
        assert_eq!(parse("--temperature 0.7 --top-p 0.9 --seed 5").unwrap().sampling, sampling);
        for (options, named) in [
            ("--temperature -1", "temperature"),
            ("--temperature nan", "temperature"),
            ("--temperature warm", "--temperature"),
            ("--temperature 1 --top-p 0", "top_p"),
            ("--temperature 1 --top-p 1.5", "top_p"),
            ("--temperature 1 --seed -1", "--seed"),
            ("--top-p 0.9", "--temperature"),
            ("--seed 3", "--temperature"),
        ] {
            let error = parse(options).unwrap_err();
            assert!(error.contains(named), "{options}: {error}");
        }
    }
}
