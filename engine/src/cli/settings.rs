//! The settings of an answer, as options.

use crate::{
    Result,
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
    /// Behaviour to start from.
    #[arg(long, value_enum, default_value = "paper")]
    config: Behaviour,
}

/// A threshold or none. Not an `Option`, which clap would take for an optional argument.
#[derive(Debug, Clone, Copy)]
struct Threshold(Option<f32>);

fn parse_threshold(text: &str) -> std::result::Result<Threshold, String> {
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
        let threshold = self.threshold.0;
        let config = Config { mode, threshold, n_docs: self.n_docs, max_new_tokens: self.max_new_tokens, ..base };
        config.check()?;
        Ok(config)
    }
}
