//! A file of JSON lines that grows while its lines become known: a header, then a line for each record.
//!
//! Lines are written by one call to the system, so a killed process loses at most the line under way. That torn last line is cut off
//! when the file is taken up again; anything else that is not as it should be is an error, never a guess. The file is locked while a
//! process appends to it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;

use crate::{Error, Result};

/// A journal that can be appended to.
#[derive(Debug)]
pub struct JsonJournal {
    name: String,
    file: File,
}

impl JsonJournal {
    /// Begins a journal, or takes one up that has the same header: `read` then gets each record's line number, counted from 1, and bytes.
    /// `overwrite` begins anew.
    pub fn open(
        path: &Path,
        header: &impl Serialize,
        overwrite: bool,
        read: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<Self> {
        let name = path.display().to_string();
        let io = |e: std::io::Error| Error::io(&name, e);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        lock(&file, &name)?;
        if overwrite {
            file.set_len(0).map_err(io)?;
        }
        let whole = cut_torn_line(&mut file).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        if whole > 0 {
            for (line, bytes) in BufReader::new(&file).split(b'\n').enumerate() {
                let bytes = bytes.map_err(io)?;
                if line > 0 {
                    read(line + 1, &bytes)?;
                    continue;
                }
                let bad = |problem: String| Error::input(&name, "line 1", problem);
                let found: Value =
                    serde_json::from_slice(&bytes).map_err(|e| bad(format!("a header expected: {e}")))?;
                check_header(&found, header).map_err(bad)?;
            }
        }
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let mut journal = Self { name, file };
        if whole == 0 {
            journal.append(header)?;
        }
        Ok(journal)
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Appends a record.
    pub fn append(&mut self, record: &impl Serialize) -> Result<()> {
        self.append_all(std::slice::from_ref(record))
    }

    /// Appends records by one call: they are there whole, or torn at their end.
    pub fn append_all(&mut self, records: &[impl Serialize]) -> Result<()> {
        let mut lines = Vec::new();
        for record in records {
            serde_json::to_writer(&mut lines, record).expect("a record is JSON");
            lines.push(b'\n');
        }
        self.file.write_all(&lines).map_err(|e| Error::io(&self.name, e))
    }

    /// Keeps the header and the first `records` lines after it.
    pub fn truncate(&mut self, records: usize) -> Result<()> {
        let io = |e: std::io::Error| Error::io(&self.name, e);
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        let (mut reader, mut end, mut line) = (BufReader::new(&self.file), 0, Vec::new());
        for _ in 0..=records {
            line.clear();
            end += reader.read_until(b'\n', &mut line).map_err(io)? as u64;
        }
        self.file.set_len(end).map_err(io)?;
        self.file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(())
    }

    /// Makes sure that everything is on the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io(&self.name, e))
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

/// The first setting that differs, by its path.
pub fn check_header(found: &Value, header: &impl Serialize) -> std::result::Result<(), String> {
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
