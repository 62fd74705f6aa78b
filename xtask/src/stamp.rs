//! Skipping what is done: a step runs when an output is missing, its command has changed, or an input is newer than its stamp.
//!
//! The stamp is written after the outputs, so a step that was interrupted has none. It holds the step's key: the command
//! with its versions, or the hash of what was fetched.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::run::{Result, at, root, scratch};

/// One skippable step.
pub(crate) struct Step<'a> {
    /// File name of its stamp.
    pub(crate) name: &'a str,
    /// Everything but the inputs that its result depends on.
    pub(crate) key: String,
    /// Files and folders it reads, relative to the root.
    pub(crate) inputs: &'a [&'a str],
    /// Files and folders it makes, relative to the root.
    pub(crate) outputs: &'a [&'a str],
}

impl Step<'_> {
    /// Runs `work` unless its result is already there; tells whether it ran.
    pub(crate) fn run(&self, work: impl FnOnce() -> Result<()>) -> Result<bool> {
        if self.is_done() {
            return Ok(false);
        }
        let stamp = self.stamp();
        // A failure on the way must not leave the old stamp to vouch for new outputs.
        let _ = std::fs::remove_file(&stamp);
        work()?;
        at(&stamp, std::fs::create_dir_all(scratch()))?;
        at(&stamp, std::fs::write(&stamp, &self.key))?;
        Ok(true)
    }

    fn is_done(&self) -> bool {
        let made = std::fs::metadata(self.stamp()).and_then(|meta| meta.modified());
        let same = std::fs::read_to_string(self.stamp()).is_ok_and(|key| key == self.key);
        let (Ok(made), true) = (made, same) else { return false };
        self.outputs.iter().all(|path| root().join(path).exists())
            && self.inputs.iter().all(|path| newest(&root().join(path)).is_none_or(|changed| changed <= made))
    }

    fn stamp(&self) -> PathBuf {
        scratch().join(format!("{}.stamp", self.name))
    }
}

/// The latest change in a file or folder tree; none when it is not there.
fn newest(path: &Path) -> Option<SystemTime> {
    let meta = std::fs::metadata(path).ok()?;
    if !meta.is_dir() {
        return meta.modified().ok();
    }
    let entries = std::fs::read_dir(path).ok()?;
    entries.filter_map(|entry| newest(&entry.ok()?.path())).max().or(meta.modified().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_runs_once_and_again_when_its_key_input_or_output_changes() {
        let folder = scratch().join("stamp-test");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let (input, output) = (folder.join("in"), folder.join("out"));
        std::fs::write(&input, "1").unwrap();
        let step = |key: &str| {
            let step = Step {
                name: "stamp-test/step",
                key: key.into(),
                inputs: &["target/xtask/stamp-test/in"],
                outputs: &["target/xtask/stamp-test/out"],
            };
            step.run(|| at(&output, std::fs::write(&output, "made"))).unwrap()
        };
        assert!(step("a"), "the first time");
        assert!(!step("a"), "nothing changed");
        assert!(step("b"), "another key");
        std::fs::remove_file(&output).unwrap();
        assert!(step("b"), "the output is gone");
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        std::fs::File::open(&input).unwrap().set_modified(later).unwrap();
        assert!(step("b"), "a newer input");
    }

    #[test]
    fn a_step_that_fails_leaves_no_stamp() {
        let step = Step { name: "stamp-fails", key: "k".into(), inputs: &[], outputs: &[] };
        assert!(step.run(|| Err(crate::run::Failure::new("no", ""))).is_err());
        assert!(!step.is_done());
    }
}
