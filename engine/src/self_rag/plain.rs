//! Plain continuation of plain prompts: what the baselines are made of. No reflection, no retrieval.

use super::{
    Config, Stop,
    sequences::Sequences,
    writing::{Ends, Rules, Writing},
};
use crate::{
    Error, Result,
    generator::Generator,
    tokenizer::{EncodeOptions, ReflectionTokens, Tokenizer},
};

/// A plain continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// Its tokens, the end included.
    pub tokens: Vec<u32>,
    /// Whether the token limit ended it.
    pub truncated: bool,
}

/// Continues prompts as one batch by at most `config.max_new_tokens` each, sampled as `config.sampling` says.
pub async fn complete(
    generator: &mut dyn Generator,
    (tokenizer, reflection): (&Tokenizer, &ReflectionTokens),
    prompts: &[String],
    config: &Config,
    stop: &Stop,
) -> Result<Vec<Completion>> {
    config.check()?;
    generator.watch(&reflection.watched());
    generator.set_sampling(config.sampling)?;
    let available = generator.context_length();
    let rules = Rules { tokenizer, reflection, config, ends: Ends::Never };
    let mut sequences = Sequences::new(generator);
    let mut writings = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        let tokens = tokenizer.encode(prompt, EncodeOptions::START)?;
        if tokens.len() + 1 > available {
            return Err(Error::ContextFull { needed: tokens.len() + 1, available });
        }
        let room = config.max_new_tokens.min(available - tokens.len());
        writings.push(Writing::new(index, index, sequences.start()?, None, tokens, room));
    }
    while sequences.step(&mut writings, &rules, stop, &mut |_, _| {}).await? {}
    // The sequences go with `sequences`.
    let completion = |writing: Writing| {
        let candidate = writing.into_candidate(config);
        Completion { text: candidate.text, tokens: candidate.tokens, truncated: candidate.truncated }
    };
    Ok(writings.into_iter().map(completion).collect())
}
