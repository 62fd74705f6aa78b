//! A file of JSON lines that grows while its lines become known: a header, then a line for each record.
//!
//! Lines are written by one call to the system, so a killed process loses at most the line under way. That torn last line is cut off
//! when the file is taken up again; anything else that is not as it should be is an error, never a guess. The file is locked while a
//! process appends to it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
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
    /// Where it stands is the end.
    file: File,
    /// What went wrong when records were appended.
    failed: Option<String>,
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
        let first = lines(std::slice::from_ref(header));
        // Nothing is cut before the file is known to be this journal.
        let (mut reader, mut bytes, mut whole) = (BufReader::new(&file), Vec::new(), 0);
        for line in 1.. {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes).map_err(io)? as u64;
            let bad = |problem: String| Error::input(&name, format!("line {line}"), problem);
            match bytes.pop() {
                Some(b'\n') => whole += length,
                // The header itself was torn, or there is no header yet.
                Some(last) if line == 1 => {
                    bytes.push(last);
                    if !first.starts_with(&bytes) {
                        return Err(bad("a header expected: this file is no journal of this run".to_owned()));
                    }
                    break;
                }
                _ => break,
            }
            if line > 1 {
                read(line, &bytes)?;
                continue;
            }
            let found: Value = serde_json::from_slice(&bytes).map_err(|e| bad(format!("a header expected: {e}")))?;
            check_header(&found, header).map_err(bad)?;
        }
        file.set_len(whole).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let mut journal = Self { name, file, failed: None };
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

    /// Appends records by one call: they are there whole, or, of a process that was killed, torn at their end. After a failure nothing is
    /// appended any more.
    pub fn append_all(&mut self, records: &[impl Serialize]) -> Result<()> {
        if let Some(failed) = &self.failed {
            return Err(Error::io(&self.name, format!("nothing more is appended after a failure: {failed}")));
        }
        let appended = self.file.stream_position().and_then(|end| {
            self.file.write_all(&lines(records)).inspect_err(|_| {
                // What was written of them would be one line with the next record; if this fails too, it is cut off later.
                let _ = self.file.set_len(end);
            })
        });
        appended.map_err(|e| {
            self.failed = Some(e.to_string());
            Error::io(&self.name, e)
        })
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

/// Records as they stand in a file.
fn lines(records: &[impl Serialize]) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in records {
        serde_json::to_writer(&mut lines, record).expect("a record is JSON");
        lines.push(b'\n');
    }
    lines
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("selfrag-json-journal-{name}-{}", std::process::id())))
        }

        fn open(&self, bytes: &str) -> (Result<JsonJournal>, usize) {
            std::fs::write(&self.0, bytes).unwrap();
            let mut records = 0;
            let opened = JsonJournal::open(&self.0, &json!({"header": "test"}), false, &mut |_, _| {
                records += 1;
                Ok(())
            });
            (opened, records)
        }

        fn text(&self) -> String {
            std::fs::read_to_string(&self.0).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    const HEADER: &str = "{\"header\":\"test\"}\n";

    #[test]
    fn only_its_own_torn_line_is_cut_off() {
        let scratch = Scratch::new("torn");
        for foreign in
            ["no line feed", "one\ntwo", "{\"header\":\"other\"}\n{\"torn", "{\"header\":\"tests", "{\"a\":1}", "\n"]
        {
            let (opened, _) = scratch.open(foreign);
            assert!(opened.unwrap_err().to_string().contains("line 1"), "{foreign}");
            assert_eq!(scratch.text(), foreign, "nothing is lost");
        }
        for torn in ["", "{", &HEADER[..HEADER.len() - 1]] {
            assert_eq!(scratch.open(torn).1, 0);
            assert_eq!(scratch.text(), HEADER);
        }
        let (opened, records) = scratch.open(&format!("{HEADER}1\n2\n[3"));
        opened.unwrap().append(&4).unwrap();
        assert_eq!((scratch.text(), records), (format!("{HEADER}1\n2\n4\n"), 2));
    }

    #[test]
    fn after_a_failure_nothing_is_appended() {
        let scratch = Scratch::new("failure");
        let (opened, _) = scratch.open(HEADER);
        let mut journal = opened.unwrap();
        let good = std::mem::replace(&mut journal.file, File::open(&scratch.0).unwrap());
        assert!(journal.append(&1).is_err(), "it is open for reading only");
        journal.file = good;
        assert!(journal.append(&2).unwrap_err().to_string().contains("nothing more is appended after a failure"));
        assert_eq!(scratch.text(), HEADER);
    }
}
