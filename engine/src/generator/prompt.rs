//! A question and a passage as tokens, exactly as Self-RAG was trained (released code, `PROMPT_DICT`).
//!
//! ```text
//! ### Instruction:\n{question}\n\n### Response:\n                        the prompt
//! `[Retrieval]`<paragraph>{title}\n{text}</paragraph>                      then, with a passage
//! `[No Retrieval]`                                                         or without
//! ```
//!
//! Reflection tokens are put in as ids; question, title and text are encoded as text that can spell none.

use crate::{
    Error, Result,
    retriever::Passage,
    tokenizer::{EncodeOptions, ReflectionTokens, SegmentPrefix, Tokenizer},
};

/// `prompt_no_input`.
pub fn instruction(question: &str) -> String {
    format!("### Instruction:\n{question}\n\n### Response:\n")
}

/// `prompt_input`: only training data has inputs.
pub fn instruction_with_input(question: &str, input: &str) -> String {
    format!("### Instruction:\n{question}\n\n### Input:\n{input}\n\n### Response:\n")
}

/// The prompt's tokens, BOS first where the vocabulary asks for it.
pub fn prompt(tokenizer: &Tokenizer, question: &str) -> Result<Vec<u32>> {
    tokenizer.encode(&instruction(question), EncodeOptions::START)
}

/// A passage's tokens with their markup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassageTokens {
    /// From `[Retrieval]` to `</paragraph>`.
    pub tokens: Vec<u32>,
    /// How many tokens of the passage did not fit.
    pub cut: usize,
}

/// What follows the prompt when there is a passage, at most `max_tokens` long: the end of the passage's text is cut.
pub fn passage(
    tokenizer: &Tokenizer,
    reflection: &ReflectionTokens,
    passage: &Passage,
    prefix: SegmentPrefix,
    max_tokens: usize,
) -> Result<PassageTokens> {
    // [Retrieval], <paragraph>, </paragraph>.
    const MARKUP: usize = 3;
    let room = max_tokens.saturating_sub(MARKUP);
    if room == 0 {
        return Err(Error::ContextFull { needed: MARKUP + 1, available: max_tokens });
    }
    let text = format!("{}\n{}", passage.title, passage.text);
    let options = EncodeOptions { space_prefix: prefix == SegmentPrefix::Every, ..EncodeOptions::CONTINUE };
    let mut text = tokenizer.encode(&text, options)?;
    let cut = text.len().saturating_sub(room);
    text.truncate(room);
    let mut tokens = vec![reflection.retrieval, reflection.paragraph_open];
    tokens.append(&mut text);
    tokens.push(reflection.paragraph_close);
    Ok(PassageTokens { tokens, cut })
}

/// What to tell where a passage was cut.
pub fn cut_message(passage: &Passage, cut: usize) -> String {
    format!("passage {:?} is too long for the context: {cut} tokens left out", passage.id)
}
