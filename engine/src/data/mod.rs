//! Training data: what a generator and a critic are trained on, and what such a file holds.
//!
//! ```text
//! [`rows`]    the file format, and a row as text with its training mask: all that a trainer reads
//! ```

pub mod rows;
