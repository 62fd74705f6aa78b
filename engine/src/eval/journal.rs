//! The records of a run on disk: a header, then a JSON line for each row, appended as soon as it is known.
//!
//! [`JsonJournal`] says what a kill costs and what is an error.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::record::{Header, Record};
use crate::{
    Error, Result,
    json_journal::{JsonJournal, check_header},
};

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    lines: JsonJournal,
    done: HashSet<usize>,
}

impl Journal {
    /// Begins a journal, or takes one up that has the same header. `overwrite` begins anew.
    pub fn open(path: &Path, header: &Header, overwrite: bool) -> Result<Self> {
        #[derive(Deserialize)]
        struct Index {
            index: usize,
        }
        let (name, mut done) = (path.display().to_string(), HashSet::new());
        let lines = JsonJournal::open(path, header, overwrite, &mut |line, bytes| {
            let bad = |problem: String| Error::input(&name, format!("line {line}"), problem);
            let Index { index } = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
            match done.insert(index) {
                true => Ok(()),
                false => Err(bad(format!("row {index} has a record already"))),
            }
        })?;
        Ok(Self { lines, done })
    }

    /// Whether a row has its record.
    pub fn has(&self, index: usize) -> bool {
        self.done.contains(&index)
    }

    /// How many rows have.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Appends a row's record.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        assert!(self.done.insert(record.index), "a row is recorded once");
        self.lines.append(record)
    }

    /// Makes sure that everything is on the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.lines.sync()
    }
}

/// A journal to be read.
pub struct Records {
    /// Its header.
    pub header: Header,
    name: String,
    lines: std::io::Split<BufReader<File>>,
    line: usize,
}

impl Records {
    /// Opens a journal; its records follow one by one. A torn last line is left out.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let mut lines = BufReader::new(File::open(path).map_err(|e| Error::io(&name, e))?).split(b'\n');
        let first = lines.next().transpose().map_err(|e| Error::io(&name, e))?.unwrap_or_default();
        let header: Header = serde_json::from_slice(&first)
            .map_err(|e| Error::input(&name, "line 1", format!("a header of `selfrag eval` expected: {e}")))?;
        Ok(Self { header, name, lines, line: 1 })
    }
}

impl Iterator for Records {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = match self.lines.next()? {
            Ok(bytes) => bytes,
            Err(error) => return Some(Err(Error::io(&self.name, error))),
        };
        self.line += 1;
        match serde_json::from_slice(&bytes) {
            Ok(record) => Some(Ok(record)),
            // Torn only if nothing follows.
            Err(error) if error.is_eof() && self.lines.next().is_none() => None,
            Err(error) => Some(Err(Error::input(&self.name, format!("line {}", self.line), error.to_string()))),
        }
    }
}

/// Puts the journals of all shards of a run together, in the order of the rows.
pub fn merge(shards: &[PathBuf], output: &Path) -> Result<Header> {
    let mut found: Vec<(usize, Header, &PathBuf)> = Vec::new();
    for path in shards {
        let header = Records::open(path)?.header;
        found.push((header.shard.0, header, path));
    }
    found.sort_by_key(|(shard, ..)| *shard);
    let name = output.display().to_string();
    let Some((_, first, _)) = found.first() else { return Err(Error::config("shards", "at least one expected")) };
    let expected: Vec<usize> = (0..first.shard.1).collect();
    let there: Vec<usize> = found.iter().map(|(shard, ..)| *shard).collect();
    if there != expected {
        return Err(Error::config("shards", format!("{there:?} given, each of {expected:?} once expected")));
    }
    let header = Header { shard: (0, 1), ..first.clone() };
    let mut merged = Journal::open(output, &header, true)?;
    for (_, own, path) in &found {
        let own = Header { shard: (0, 1), ..own.clone() };
        if own != header {
            let own = serde_json::to_value(&own).expect("a header is JSON");
            let problem = check_header(&own, &header).err().unwrap_or_default();
            return Err(Error::input(path.display().to_string(), "line 1", problem));
        }
        for record in Records::open(path)? {
            let record = record?;
            if merged.has(record.index) {
                return Err(Error::input(
                    path.display().to_string(),
                    format!("row {}", record.index),
                    "is there twice",
                ));
            }
            merged.append(&record)?;
        }
    }
    if merged.len() != header.rows {
        let problem = format!("{} of {} rows: a shard is not finished", merged.len(), header.rows);
        return Err(Error::input(name, "rows", problem));
    }
    merged.sync()?;
    Ok(header)
}
