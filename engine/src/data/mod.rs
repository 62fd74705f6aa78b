//! Training data: what a generator and a critic are trained on, and what such a file holds.
//!
//! ```text
//! annotated questions → sets → from_qa → samples → generator's rows (rows) and critic's rows (critic)
//! rows → labels: a large model's answers → critic's rows
//! instructions with answers → generator: critic, retriever → generator's rows
//! a training file → rows → parts → report: labels, lengths, broken rows
//! ```
//!
//! [`rows`] is all that a trainer reads: the file format, and a row as text with its training mask; [`encode`] makes tokens of it.

pub mod critic;
pub mod draws;
pub mod encode;
pub mod from_qa;
pub mod generator;
pub mod instructions;
pub mod labels;
pub mod lexical;
pub mod notes;
pub mod parts;
pub mod report;
pub mod rows;
pub mod sample;
pub mod sets;
pub mod settings;

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use crate::{Error, Result};

/// Writes a file whole or not at all: under another name first, on the disk, and then renamed.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole_with(path, |file| file.write_all(bytes))
}

/// The same by what `write` does.
pub fn write_whole_with(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let whole = || {
        let mut file = BufWriter::new(File::create(&partial)?);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&partial, path)
    };
    whole().map_err(|e| Error::io(path.display().to_string(), e))
}
