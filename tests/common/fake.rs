//! An embedder that needs no model.

#![allow(dead_code, reason = "each test uses its part")]

use selfrag::{
    Error, Result,
    ops::self_test::Random,
    platform::LocalFuture,
    retriever::{Embedder, manifest::EncoderInfo, text::TextOptions},
};

/// Repeatable vectors from texts; fails after so many of them. A byte is a token.
pub(crate) struct Fake {
    pub(crate) seed: u64,
    pub(crate) left: usize,
    pub(crate) max_tokens: usize,
}

impl Fake {
    pub(crate) const DIM: usize = 20;

    pub(crate) fn new() -> Self {
        Self { seed: 1, left: usize::MAX, max_tokens: 512 }
    }

    pub(crate) fn vector(&self, text: &str) -> Vec<f32> {
        let bytes = text.bytes().take(self.max_tokens);
        let seed = bytes.fold(self.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        Random::new(seed).values(Self::DIM)
    }
}

impl Embedder for Fake {
    fn dim(&self) -> usize {
        Self::DIM
    }

    fn info(&self) -> EncoderInfo {
        EncoderInfo {
            name: format!("fake {}", self.seed),
            sha256: format!("{:064x}", self.seed),
            normalised: false,
            max_tokens: self.max_tokens,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            text: TextOptions::default(),
        }
    }

    fn limit_tokens(&mut self, most: usize) {
        self.max_tokens = most;
    }

    fn embed<'a>(&'a mut self, texts: &'a [String]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>> {
        let result = match self.left.checked_sub(texts.len()) {
            Some(left) => {
                self.left = left;
                Ok(texts.iter().map(|text| self.vector(text)).collect())
            }
            None => Err(Error::Stopped),
        };
        Box::pin(std::future::ready(result))
    }
}
