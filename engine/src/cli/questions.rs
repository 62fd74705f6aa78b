//! Questions and passages from files.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use serde::Deserialize;

use crate::{Error, Result, retriever::Passage};

/// Longest accepted passage file; a passage is some hundred words.
const MAX_PASSAGE_BYTES: u64 = 1 << 20;

/// A question with its known answers and passages, as in the evaluation files of Self-RAG.
#[derive(Debug, Clone, Deserialize)]
pub struct Labelled {
    /// The question.
    pub question: String,
    /// Any of these is right.
    #[serde(default)]
    pub answers: Vec<String>,
    /// The first is the gold passage.
    #[serde(default)]
    pub ctxs: Vec<Context>,
}

/// A passage of a labelled question.
#[derive(Debug, Clone, Deserialize)]
pub struct Context {
    /// Title of its page.
    #[serde(default)]
    pub title: String,
    /// The text.
    pub text: String,
}

/// The lines of a file that are not empty; `.gz` is unpacked.
pub fn lines(path: &Path) -> Result<Vec<String>> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| Error::io(&name, e))?;
    let reader: Box<dyn Read> =
        if name.ends_with(".gz") { Box::new(flate2::read::GzDecoder::new(file)) } else { Box::new(file) };
    let lines = BufReader::new(reader).lines().enumerate();
    let read =
        lines.map(|(index, line)| line.map_err(|e| Error::input(&name, format!("line {}", index + 1), e.to_string())));
    read.filter(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty())).collect()
}

/// Labelled questions, one JSON object on a line.
pub fn labelled(path: &Path) -> Result<Vec<Labelled>> {
    let name = path.display().to_string();
    let parse = |(index, line): (usize, String)| {
        serde_json::from_str(&line).map_err(|e| Error::input(&name, format!("question {}", index + 1), e.to_string()))
    };
    lines(path)?.into_iter().enumerate().map(parse).collect()
}

/// Questions: plain text, one on a line, or JSON objects with a `question`.
pub fn plain(path: &Path) -> Result<Vec<String>> {
    let name = path.display().to_string();
    if name.ends_with(".jsonl") || name.ends_with(".jsonl.gz") {
        return Ok(labelled(path)?.into_iter().map(|labelled| labelled.question).collect());
    }
    lines(path)
}

/// A passage from a text file, or from standard input for `-`. A first line followed by an empty line is its title.
pub fn passage(path: &Path) -> Result<Passage> {
    let name = path.display().to_string();
    let reader: Box<dyn Read> =
        if name == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(|e| Error::io(&name, e))?) };
    let mut text = String::new();
    reader.take(MAX_PASSAGE_BYTES + 1).read_to_string(&mut text).map_err(|e| Error::io(&name, e))?;
    if text.len() as u64 > MAX_PASSAGE_BYTES {
        return Err(Error::input(name, format!("byte {MAX_PASSAGE_BYTES}"), "a passage of at most 1 MB expected"));
    }
    Ok(match text.split_once("\n\n") {
        Some((title, text)) if !title.contains('\n') => given(name, title.trim(), text.trim()),
        _ => given(name, "", text.trim()),
    })
}

/// A passage that the user gave.
pub fn given(id: impl Into<String>, title: &str, text: &str) -> Passage {
    Passage { id: id.into(), title: title.to_owned(), text: text.to_owned() }
}
