//! A training row as tokens, with what of them is trained: what training sees, and what a trained model's labels are measured on.

use super::rows::{Masking, Template, TrainingRow};
use crate::{
    Result,
    tokenizer::{EncodeOptions, SegmentPrefix, Tokenizer},
};

/// A row as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Tokens.
    pub ids: Vec<u32>,
    /// Whether each counts in the loss.
    pub trained: Vec<bool>,
}

/// How rows become examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// Whose rows they are.
    pub template: Template,
    /// What is left out of the loss.
    pub masking: Masking,
    /// The space in front of text after a special token (SentencePiece).
    pub segment_prefix: SegmentPrefix,
    /// What ends an answer.
    pub end: u32,
    /// Longest example in tokens; what is longer loses its end.
    pub max_length: usize,
}

impl Encoding {
    /// A row's tokens; the mask and the meaning of its text change where [`TrainingRow::spans`] says.
    pub fn encode(&self, tokenizer: &Tokenizer, row: &TrainingRow) -> Result<Example> {
        let mut example = Example { ids: Vec::new(), trained: Vec::new() };
        let mut after_special = false;
        for (index, span) in row.spans(self.template, self.masking).into_iter().enumerate() {
            let start =
                EncodeOptions { special: span.special, segment_prefix: self.segment_prefix, ..EncodeOptions::START };
            let prefix = after_special && self.segment_prefix == SegmentPrefix::Every;
            let options = if index == 0 { start } else { EncodeOptions { bos: false, space_prefix: prefix, ..start } };
            let ids = tokenizer.encode(&span.text, options)?;
            after_special = span.special && span.text.ends_with(['>', ']']);
            example.trained.extend(std::iter::repeat_n(span.trained, ids.len()));
            example.ids.extend(ids);
        }
        example.ids.push(self.end);
        example.trained.push(row.end_trained());
        // The first token is predicted from nothing.
        example.trained[0] = false;
        Ok(example)
    }
}
