//! What was wrong with the data and what was left out on purpose: counted, named, never silent.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Error;

/// What is said about the data while training rows are made of it.
#[derive(Debug, Default)]
pub struct Notes {
    /// Bad data by its reason, with file, place and expectation; `--strict` refuses it.
    pub problems: Vec<(&'static str, Error)>,
    /// Good data that gives no row, by the reason.
    pub left_out: BTreeMap<&'static str, usize>,
}

impl Notes {
    /// Bad data: `file` at `place`, with what was found and expected.
    pub fn problem(&mut self, reason: &'static str, file: &str, place: &str, problem: impl Into<String>) {
        self.problems.push((reason, Error::input(file, place, problem)));
    }

    /// Something that gives no row.
    pub fn left_out(&mut self, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
    }

    /// How many problems there are of each kind.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        self.problems.iter().for_each(|(reason, _)| *counts.entry(*reason).or_default() += 1);
        counts
    }
}

impl Serialize for Notes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let texts: Vec<String> = self.problems.iter().map(|(_, error)| error.to_string()).collect();
        let parts = serde_json::json!({"problems": self.counts(), "left_out": self.left_out, "where": texts});
        parts.serialize(serializer)
    }
}
