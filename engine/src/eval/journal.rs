//! The records of a run on disk: a header, then a JSON line for each row, appended as soon as it is known.
//!
//! A line is written by one call to the system, so a killed process loses at most the line under way. That torn last line is cut off
//! when the run is taken up again; anything else that is not as it should be is an error, never a guess. A journal is locked while a
//! process appends to it.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions, TryLockError},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use super::record::{Header, Record};
use crate::{Error, Result};

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    name: String,
    file: File,
    done: HashSet<usize>,
}

impl Journal {
    /// Begins a journal, or takes one up that has the same header. `overwrite` begins anew.
    pub fn open(path: &Path, header: &Header, overwrite: bool) -> Result<Self> {
        let name = path.display().to_string();
        let io = |e: std::io::Error| Error::io(&name, e);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        lock(&file, &name)?;
        if overwrite {
            file.set_len(0).map_err(io)?;
        }
        let whole = cut_torn_line(&mut file).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        let mut done = HashSet::new();
        let mut journal = if whole == 0 {
            let mut journal = Self { name, file, done };
            journal.write(&serde_json::to_vec(header).expect("a header is JSON"))?;
            journal
        } else {
            read_lines(&name, &mut file, header, &mut done)?;
            Self { name, file, done }
        };
        journal.file.seek(SeekFrom::End(0)).map_err(|e| Error::io(&journal.name, e))?;
        Ok(journal)
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
        self.write(&serde_json::to_vec(record).expect("a record is JSON"))
    }

    /// Makes sure that everything is on the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io(&self.name, e))
    }

    fn write(&mut self, line: &[u8]) -> Result<()> {
        // One call: a line is there whole, or torn at its end.
        self.file.write_all(&[line, b"\n"].concat()).map_err(|e| Error::io(&self.name, e))
    }
}

/// Tries for a second: a process that was just killed may not be gone yet.
fn lock(file: &File, name: &str) -> Result<()> {
    for _ in 0..100 {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(error)) => return Err(Error::io(name, error)),
        }
    }
    Err(Error::io(name, "another process is writing it"))
}

/// Cuts off what comes after the last line feed and returns what is left.
fn cut_torn_line(file: &mut File) -> std::io::Result<u64> {
    const PIECE: u64 = 1 << 16;
    let mut end = file.seek(SeekFrom::End(0))?;
    let length = end;
    let mut whole = 0;
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        let mut piece = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut piece)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            whole = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if whole < length {
        file.set_len(whole)?;
    }
    Ok(whole)
}

fn read_lines(name: &str, file: &mut File, header: &Header, done: &mut HashSet<usize>) -> Result<()> {
    #[derive(Deserialize)]
    struct Index {
        index: usize,
    }
    for (line, bytes) in BufReader::new(file).split(b'\n').enumerate() {
        let bytes = bytes.map_err(|e| Error::io(name, e))?;
        let bad = |problem: String| Error::input(name, format!("line {}", line + 1), problem);
        if line == 0 {
            let found: Value = serde_json::from_slice(&bytes).map_err(|e| bad(format!("a header expected: {e}")))?;
            check_header(&found, header).map_err(bad)?;
            continue;
        }
        let Index { index } = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if !done.insert(index) {
            return Err(bad(format!("row {index} has a record already")));
        }
    }
    Ok(())
}

/// The first setting that differs, by its path.
fn check_header(found: &Value, header: &Header) -> std::result::Result<(), String> {
    let expected: Value =
        serde_json::from_slice(&serde_json::to_vec(header).expect("a header is JSON")).expect("it was just written");
    match difference("", found, &expected) {
        None => Ok(()),
        Some((at, found, expected)) => Err(format!(
            "this file belongs to another run: {at} is {found} there and {expected} now; name another output, or --overwrite"
        )),
    }
}

fn difference(at: &str, found: &Value, expected: &Value) -> Option<(String, String, String)> {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let get = |map: &serde_json::Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(Value::Null);
            keys.into_iter().find_map(|key| {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                difference(&at, &get(a, key), &get(b, key))
            })
        }
        _ if found == expected => None,
        _ => Some((at.to_owned(), found.to_string(), expected.to_string())),
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
