//! The folder in which the steps leave what they made: a file a step, restartable.
//!
//! A pass is a journal: a header with all that its records depend on, then a record for each item, in the items' order. It is written a
//! batch at a time; what a killed run left of a batch is cut off and done again, for a GPU's last digits depend on what else is in the
//! batch. A whole file is skipped.

use std::{ops::Range, path::PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Error, Result, data::write_whole, json_journal::JsonJournal};

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
#[derive(Debug)]
pub struct Pass<'a> {
    /// Its name, and its file's.
    pub step: &'static str,
    /// Who answers, and every setting that changes what is answered.
    pub by: Value,
    /// Each item's id, and all that is asked about it.
    pub items: &'a [(String, String)],
    /// Items that are asked about at once.
    pub batch: usize,
}

impl Work {
    fn path(&self, step: &str) -> PathBuf {
        self.folder.join(format!("{step}.jsonl"))
    }

    /// What a pure step made, for whoever looks. It is written whole or not at all.
    pub fn write<T: Serialize>(&self, step: &str, rows: &[T]) -> Result<()> {
        let mut text = String::new();
        for row in rows {
            text += &serde_json::to_string(row).expect("a row is JSON");
            text.push('\n');
        }
        write_whole(&self.path(step), text.as_bytes())
    }

    /// A pass's records, one for each item: those of the file, and what `run` gives for the items that are missing. `progress` gets how
    /// many items are done of how many.
    pub fn pass<R: Serialize + DeserializeOwned>(
        &self,
        pass: &Pass<'_>,
        run: &mut dyn FnMut(Range<usize>) -> Result<Vec<R>>,
        progress: &mut dyn FnMut(&'static str, usize, usize),
    ) -> Result<Vec<R>> {
        let (items, path) = (pass.items, self.path(pass.step));
        let name = path.display().to_string();
        let mut hash = Sha256::new();
        for (id, asked) in items {
            // Lengths keep what is one item from looking like two.
            hash.update(format!("{}\0{id}\0{}\0{asked}", id.len(), asked.len()));
        }
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let header = json!({"header": "selfrag data generator", "step": pass.step, "by": pass.by, "batch": pass.batch,
            "items": items.len(), "sha256": hash});
        let mut records: Vec<R> = Vec::new();
        let mut journal = JsonJournal::open(&path, &header, self.overwrite, &mut |line, bytes| {
            let bad = |problem: String| Error::input(&name, format!("line {line}"), problem);
            let found: Line<R> = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
            match items.get(records.len()) {
                Some((id, _)) if *id == found.id => records.push(found.record),
                Some((id, _)) => return Err(bad(format!("a record of {:?}, {id:?} expected", found.id))),
                None => return Err(bad(format!("one record too many: {} items", items.len()))),
            }
            Ok(())
        })?;
        if records.len() < items.len() {
            records.truncate(records.len() / pass.batch * pass.batch);
            journal.truncate(records.len())?;
        }
        progress(pass.step, records.len(), items.len());
        while records.len() < items.len() {
            let range = records.len()..items.len().min(records.len() + pass.batch);
            let made = run(range.clone())?;
            assert_eq!(made.len(), range.len(), "a record for each item");
            let lines = items[range].iter().zip(made).map(|((id, _), record)| Line { id: id.clone(), record });
            let lines: Vec<Line<R>> = lines.collect();
            journal.append_all(&lines)?;
            records.extend(lines.into_iter().map(|line| line.record));
            progress(pass.step, records.len(), items.len());
        }
        journal.sync()?;
        Ok(records)
    }
}
