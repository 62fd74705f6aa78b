//! The folder in which the steps leave what they made: a file a step, restartable.
//!
//! A pass is a journal: a header with all that its records depend on, then a record for each item, in the items' order. It is written a
//! batch at a time; what a killed run left of a batch is cut off and done again, for a GPU's last digits depend on what else is in the
//! batch. A whole file is skipped.

use std::{io::Write, ops::Range, path::PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Error, Result, data::write_whole_with, json_journal::JsonJournal};

/// A folder of steps.
#[derive(Debug, Clone)]
pub struct Work {
    /// The folder; it is there.
    pub folder: PathBuf,
    /// Begin every step anew.
    pub overwrite: bool,
}

/// A record with the item that it is about.
#[derive(Debug, Serialize, Deserialize)]
struct Line<R> {
    id: String,
    #[serde(flatten)]
    record: R,
}

/// What a pass is about.
pub struct Pass<'a> {
    /// Its name, and its file's.
    pub step: &'static str,
    /// Who answers, and every setting that changes what is answered.
    pub by: Value,
    /// Each item's id.
    pub ids: &'a [String],
    /// All that is asked about an item.
    pub asked: &'a dyn Fn(usize) -> String,
    /// Items that are asked about at once.
    pub batch: usize,
}

impl Work {
    fn path(&self, step: &str) -> PathBuf {
        self.folder.join(format!("{step}.jsonl"))
    }

    /// What a pure step made, for whoever looks. It is written whole or not at all.
    pub fn write<T: Serialize>(&self, step: &str, rows: &[T]) -> Result<()> {
        write_whole_with(&self.path(step), |file| {
            for row in rows {
                serde_json::to_writer(&mut *file, row)?;
                file.write_all(b"\n")?;
            }
            Ok(())
        })
    }

    /// A pass's records, one for each item: those of the file, and what `run` gives for the items that are missing. `progress` gets how
    /// many items are done of how many.
    pub fn pass<R: Serialize + DeserializeOwned>(
        &self,
        pass: &Pass<'_>,
        run: &mut dyn FnMut(Range<usize>) -> Result<Vec<R>>,
        progress: &mut dyn FnMut(&'static str, usize, usize),
    ) -> Result<Vec<R>> {
        let (ids, path) = (pass.ids, self.path(pass.step));
        let name = path.display().to_string();
        let mut hash = Sha256::new();
        for (at, id) in ids.iter().enumerate() {
            let asked = (pass.asked)(at);
            // Lengths keep what is one item from looking like two.
            hash.update(format!("{}\0{id}\0{}\0{asked}", id.len(), asked.len()));
        }
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let header = json!({"header": "selfrag data generator", "step": pass.step, "by": pass.by, "batch": pass.batch,
            "items": ids.len(), "sha256": hash});
        let mut records: Vec<R> = Vec::new();
        let mut journal = JsonJournal::open(&path, &header, self.overwrite, &mut |line, bytes| {
            let bad = |problem: String| Error::input(&name, format!("line {line}"), problem);
            let found: Line<R> = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
            match ids.get(records.len()) {
                Some(id) if *id == found.id => records.push(found.record),
                Some(id) => return Err(bad(format!("a record of {:?}, {id:?} expected", found.id))),
                None => return Err(bad(format!("one record too many: {} items", ids.len()))),
            }
            Ok(())
        })?;
        if records.len() < ids.len() {
            records.truncate(records.len() / pass.batch * pass.batch);
            journal.truncate(records.len())?;
        }
        progress(pass.step, records.len(), ids.len());
        while records.len() < ids.len() {
            let range = records.len()..ids.len().min(records.len() + pass.batch);
            let made = run(range.clone())?;
            assert_eq!(made.len(), range.len(), "a record for each item");
            let lines = ids[range].iter().zip(made).map(|(id, record)| Line { id: id.clone(), record });
            let lines: Vec<Line<R>> = lines.collect();
            journal.append_all(&lines)?;
            records.extend(lines.into_iter().map(|line| line.record));
            progress(pass.step, records.len(), ids.len());
        }
        journal.sync()?;
        Ok(records)
    }
}
