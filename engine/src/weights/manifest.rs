//! `manifest.json`: the files of a downloadable model with their sizes and hashes.
//!
//! ```json
//! { "format": 1, "name": "Demo", "licence": "Apache-2.0",
//!   "files": [ { "url": "demo-00001-of-00005.gguf", "bytes": 33554432, "sha256": "…64 hex digits…", "role": "generator" },
//!              { "url": "encoder.gguf", "bytes": 24000000, "sha256": "…", "role": "encoder" } ] }
//! ```
//!
//! URLs are relative to the manifest's own and stay beneath it. The manifest is hostile input: sizes are only used after the
//! server's answer agrees, names become file names in browser storage only when they are harmless.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Manifests longer than this are refused.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;
/// The version written and read.
const FORMAT: u32 = 1;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Part of the language model (all splits, in order).
    Generator,
    /// Part of the question and passage encoder.
    Encoder,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Relative to the manifest.
    pub url: String,
    /// Exact size.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// What it is for.
    pub role: Role,
}

impl ManifestFile {
    /// The last part of the URL: the file's name in browser storage.
    pub fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }
}

/// A downloadable model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// Shown to the user, and the key in browser storage.
    pub name: String,
    /// Licence of the weights, shown to the user.
    #[serde(default)]
    pub licence: String,
    /// Every file; splits in order.
    pub files: Vec<ManifestFile>,
}

impl Manifest {
    /// Reads and checks a manifest; `url` is used in messages.
    pub fn parse(url: &str, json: &[u8]) -> Result<Self> {
        if json.len() > MAX_MANIFEST_BYTES {
            return Err(Error::input(
                url,
                "size",
                format!("{} bytes, at most {MAX_MANIFEST_BYTES} expected", json.len()),
            ));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(|e| {
            Error::input(url, format!("line {} column {}", e.line(), e.column()), format!("not a model manifest: {e}"))
        })?;
        manifest.check(url)?;
        Ok(manifest)
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    fn check(&self, url: &str) -> Result<()> {
        let fail = |place: String, problem: String| Err(Error::input(url, place, problem));
        if self.format != FORMAT {
            return fail("format".into(), format!("{}, {FORMAT} expected", self.format));
        }
        if self.name.is_empty() || self.name.len() > 200 {
            return fail("name".into(), "1 to 200 bytes expected".into());
        }
        if self.files.is_empty() {
            return fail("files".into(), "at least one expected".into());
        }
        let mut names = BTreeSet::new();
        for (i, file) in self.files.iter().enumerate() {
            let place = |field: &str| format!("files[{i}].{field}");
            if !file.url.split('/').all(is_harmless_name) {
                return fail(place("url"), format!("{:?} is not a plain relative path", file.url));
            }
            if !names.insert(file.name()) {
                return fail(place("url"), format!("the name {:?} is there twice", file.name()));
            }
            if file.bytes == 0 {
                return fail(place("bytes"), "0, a size expected".into());
            }
            if !is_sha256(&file.sha256) {
                return fail(place("sha256"), format!("{:?}, 64 lower-case hexadecimal digits expected", file.sha256));
            }
        }
        Ok(())
    }
}

/// The address of `relative` for something loaded from `base`.
pub fn join_url(base: &str, relative: &str) -> String {
    let base = base.split(['?', '#']).next().unwrap_or(base);
    match base.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{relative}"),
        None => relative.to_owned(),
    }
}

/// A file or folder name that means nothing but itself: no separators, no `..`, nothing hidden.
pub fn is_harmless_name(name: &str) -> bool {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    (1..=200).contains(&name.len()) && !name.starts_with('.') && name.chars().all(harmless)
}

/// Any text made into a harmless file name; different texts get different names.
pub fn harmless_name(text: &str) -> String {
    if is_harmless_name(text) {
        return text.to_owned();
    }
    let kept = text.chars().rev().take(80).map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' });
    let kept: String = kept.collect::<Vec<_>>().into_iter().rev().collect();
    use sha2::{Digest, Sha256};
    let hash = hex(&Sha256::digest(text.as_bytes()));
    format!("{}-{}", kept.trim_start_matches(['.', '-']), &hash[..8]).trim_start_matches('-').to_owned()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(url: &str, bytes: &str, sha256: &str) -> String {
        format!(
            r#"{{"format":1,"name":"Demo","files":[{{"url":{url:?},"bytes":{bytes},"sha256":{sha256:?},"role":"generator"}}]}}"#
        )
    }

    fn problem(json: &str) -> String {
        Manifest::parse("m/manifest.json", json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_good_manifest_is_read() {
        let hash = "0".repeat(64);
        let manifest = Manifest::parse("m", json("parts/a-00001-of-00002.gguf", "7", &hash).as_bytes()).unwrap();
        assert_eq!(manifest.files[0].name(), "a-00001-of-00002.gguf");
        assert_eq!(manifest.files[0].role, Role::Generator);
        assert_eq!(manifest.total_bytes(), 7);
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        let hash = "0".repeat(64);
        for url in ["../a", "/a", "a//b", "https://example.org/a", "a\\b", ".hidden", "", "a?b", "a b", "ä"] {
            assert!(problem(&json(url, "7", &hash)).contains("files[0].url"), "{url:?} was accepted");
        }
    }

    #[test]
    fn each_field_is_checked_by_name() {
        assert!(problem(&json("a", "0", &"0".repeat(64))).contains("files[0].bytes"));
        assert!(problem(&json("a", "-1", &"0".repeat(64))).contains("line 1"));
        assert!(problem(&json("a", "7", "0")).contains("files[0].sha256"));
        assert!(problem(&json("a", "7", &"G".repeat(64))).contains("files[0].sha256"));
        assert!(problem(r#"{"format":2,"name":"x","files":[]}"#).contains("format"));
        assert!(problem(r#"{"format":1,"name":"x","files":[]}"#).contains("files"));
        assert!(problem("<html>").contains("not a model manifest"));
    }

    #[test]
    fn urls_are_joined_to_the_manifests_folder() {
        assert_eq!(join_url("https://h/models/manifest.json?v=1", "a/b.gguf"), "https://h/models/a/b.gguf");
        assert_eq!(join_url("models/manifest.json", "b.gguf"), "models/b.gguf");
        assert_eq!(join_url("manifest.json", "b.gguf"), "b.gguf");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_manifest_or_an_error(bytes: Vec<u8>) {
            let _ = Manifest::parse("m", &bytes);
        }

        #[test]
        fn any_text_becomes_a_harmless_name(text: String) {
            proptest::prop_assert!(is_harmless_name(&harmless_name(&text)), "{:?}", harmless_name(&text));
        }
    }

    #[test]
    fn different_texts_get_different_names() {
        assert_ne!(harmless_name("https://a/x.gguf"), harmless_name("https://b/x.gguf"));
        assert_eq!(harmless_name("x.gguf"), "x.gguf");
    }
}
