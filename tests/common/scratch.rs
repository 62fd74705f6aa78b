//! A temporary folder of a test's own.

#![allow(dead_code, reason = "each test uses its part")]

use std::{fs, path::PathBuf};

/// The folder, empty at first and removed at the end, however the test ends.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    /// `name` tells the tests of all files apart.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("selfrag-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A file of JSON lines; its path.
    pub(crate) fn write(&self, name: &str, rows: &[serde_json::Value]) -> String {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
