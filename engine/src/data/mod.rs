//! Training data: what a generator and a critic are trained on, and what such a file holds.
//!
//! ```text
//! annotated questions → sets → from_qa → samples → generator's rows (rows) and critic's rows (critic)
//! a training file → rows → parts → report: labels, lengths, broken rows
//! ```
//!
//! [`rows`] is all that a trainer reads: the file format, and a row as text with its training mask; [`encode`] makes tokens of it.

pub mod critic;
pub mod encode;
pub mod from_qa;
pub mod lexical;
pub mod notes;
pub mod parts;
pub mod report;
pub mod rows;
pub mod sample;
pub mod sentences;
pub mod sets;
pub mod settings;
