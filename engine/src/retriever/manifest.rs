//! `manifest.json`: what a passage store holds, with the size and SHA-256 of every file.
//!
//! ```json
//! { "sha256": "… of \"index\" in compact JSON",
//!   "index": { "format": "selfrag-index", "version": 1, "count": 9097, "dim": 384, "metric": "inner_product",
//!     "encoder": { "name": "all-MiniLM-L6-v2", "sha256": "…", "normalised": true, "max_tokens": 256,
//!                  "query_prefix": "", "passage_prefix": "" },
//!     "shards": [ { "rows": 4096, "vectors": { "int8": { "file": "vectors-00000.int8", "bytes": 1589248, "sha256": "…" } },
//!                   "passages": { … }, "offsets": { … } } ],
//!     "graph": { "file": "graph.hnsw", "bytes": …, "sha256": "…", "recall_at_10": 0.999 } } }
//! ```
//!
//! A manifest is hostile input: [`Manifest::parse`] proves every number against every other before anything is sized by one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{text::TextOptions, vectors::Precision};
use crate::{Error, Result};

/// The file's name.
pub const MANIFEST: &str = "manifest.json";
/// Longest manifest that is read: 21 million passages in shards of 4,096 need 5 MB.
pub const MAX_MANIFEST_BYTES: u64 = 32 << 20;
/// Largest shard file that is read whole; readers hold one at a time.
pub const MAX_SHARD_BYTES: u64 = 256 << 20;
/// Most rows: instant-distance and the GPU number them in 32 bits and keep the last number for "none".
pub const MAX_COUNT: u64 = u32::MAX as u64 - 1;
/// Longest vector.
pub const MAX_DIM: usize = 16_384;
/// Bytes of an entry in an offsets file.
pub const OFFSET_BYTES: u64 = 8;

const FORMAT: &str = "selfrag-index";
const VERSION: u32 = 1;
const METRIC: &str = "inner_product";

/// The description of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `selfrag-index`.
    pub format: String,
    /// 1.
    pub version: u32,
    /// Passages in all shards.
    pub count: u64,
    /// Values of a vector.
    pub dim: usize,
    /// `inner_product`.
    pub metric: String,
    /// What made the vectors; questions must go through the same.
    pub encoder: EncoderInfo,
    /// The parts, in row order.
    pub shards: Vec<Shard>,
    /// The prebuilt HNSW graph over all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<GraphInfo>,
}

/// The encoder that a store belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderInfo {
    /// Shown to people.
    pub name: String,
    /// Of the encoder's file.
    pub sha256: String,
    /// Whether embeddings have length 1.
    pub normalised: bool,
    /// Tokens after which texts were cut.
    pub max_tokens: usize,
    /// Written before questions; empty for Contriever and MiniLM.
    pub query_prefix: String,
    /// Written before passages.
    pub passage_prefix: String,
    /// How texts are prepared before.
    #[serde(default, skip_serializing_if = "TextOptions::is_default")]
    pub text: TextOptions,
}

/// Consecutive rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Number of rows.
    pub rows: u64,
    /// Vectors by precision; at least one, the same ones in every shard.
    pub vectors: BTreeMap<Precision, FileInfo>,
    /// One JSON passage a line.
    pub passages: FileInfo,
    /// Per row: the line's end in the passages file without its line feed (u32), first four bytes of the line's SHA-256.
    pub offsets: FileInfo,
}

/// A file beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileInfo {
    /// Plain name, no folder.
    pub file: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// The HNSW graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphInfo {
    /// Plain name, no folder.
    pub file: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// Recall of the best ten against exact search, on a sample, when it was built.
    pub recall_at_10: f32,
}

/// The manifest with its own hash, as it is on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    sha256: String,
    index: Manifest,
}

impl FileInfo {
    /// Describes bytes that go to `file`.
    pub fn of(file: impl Into<String>, bytes: &[u8]) -> Self {
        Self { file: file.into(), bytes: bytes.len() as u64, sha256: sha256_hex(bytes) }
    }

    /// Checks bytes read from a file, which `name` names in errors.
    pub fn verify(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let found = sha256_hex(bytes);
        if found == self.sha256 {
            return Ok(());
        }
        Err(Error::input(name, "content", format!("SHA-256 {found}, {} expected: the file is damaged", self.sha256)))
    }
}

impl GraphInfo {
    /// The file's description without the recall.
    pub fn file_info(&self) -> FileInfo {
        FileInfo { file: self.file.clone(), bytes: self.bytes, sha256: self.sha256.clone() }
    }
}

impl Manifest {
    /// A manifest of this version without rows.
    pub fn new(dim: usize, encoder: EncoderInfo) -> Self {
        let (format, metric) = (FORMAT.into(), METRIC.into());
        Self { format, version: VERSION, count: 0, dim, metric, encoder, shards: Vec::new(), graph: None }
    }

    /// Precisions that every shard has.
    pub fn precisions(&self) -> BTreeSet<Precision> {
        self.shards.first().map(|shard| shard.vectors.keys().copied().collect()).unwrap_or_default()
    }

    /// The file's text, sealed with its hash.
    pub fn to_json(&self) -> Vec<u8> {
        let sealed = Sealed { sha256: self.seal(), index: self.clone() };
        serde_json::to_vec_pretty(&sealed).expect("a manifest has no map keys but strings")
    }

    /// Reads and checks a manifest; `name` names it in errors.
    pub fn parse(name: &str, json: &[u8]) -> Result<Self> {
        let sealed: Sealed = serde_json::from_slice(json)
            .map_err(|e| Error::input(name, format!("line {} column {}", e.line(), e.column()), e.to_string()))?;
        sealed.index.check(name)?;
        let seal = sealed.index.seal();
        if seal != sealed.sha256 {
            let problem = format!("{:?}, but the content has {seal}: the file is damaged", sealed.sha256);
            return Err(Error::input(name, "sha256", problem));
        }
        Ok(sealed.index)
    }

    fn seal(&self) -> String {
        sha256_hex(&serde_json::to_vec(self).expect("a manifest has no map keys but strings"))
    }

    fn check(&self, name: &str) -> Result<()> {
        let fail = |place: String, problem: String| Err(Error::input(name, place, problem));
        if self.format != FORMAT || self.version != VERSION || self.metric != METRIC {
            let found = format!("{:?} version {} metric {:?}", self.format, self.version, self.metric);
            return fail("format".into(), format!("{found}, {FORMAT:?} version {VERSION} metric {METRIC:?} expected"));
        }
        if self.dim == 0 || self.dim > MAX_DIM {
            return fail("dim".into(), format!("{}, 1 to {MAX_DIM} expected", self.dim));
        }
        if !is_sha256(&self.encoder.sha256) || self.encoder.max_tokens == 0 {
            return fail("encoder".into(), "64 hexadecimal digits and a positive max_tokens expected".into());
        }
        let rows = self.shards.iter().try_fold(0u64, |sum, shard| sum.checked_add(shard.rows));
        if rows != Some(self.count) || self.count > MAX_COUNT {
            return fail("count".into(), format!("{}, the shards have {rows:?} rows; at most {MAX_COUNT}", self.count));
        }
        let mut names = BTreeSet::from([MANIFEST]);
        let precisions = self.precisions();
        for (i, shard) in self.shards.iter().enumerate() {
            if shard.rows == 0 || shard.vectors.is_empty() || !shard.vectors.keys().eq(&precisions) {
                let problem =
                    format!("{} rows in {:?}; rows in {precisions:?} expected", shard.rows, shard.vectors.keys());
                return fail(format!("shards[{i}]"), problem);
            }
            for (precision, file) in &shard.vectors {
                let expected = precision.file_bytes(shard.rows, self.dim as u64);
                check_file(name, &format!("shards[{i}].vectors.{}", precision.name()), file, expected, &mut names)?;
            }
            check_file(name, &format!("shards[{i}].passages"), &shard.passages, None, &mut names)?;
            let offsets = shard.rows.checked_mul(OFFSET_BYTES);
            check_file(name, &format!("shards[{i}].offsets"), &shard.offsets, offsets, &mut names)?;
            // Each line has at least `{"id":"","title":"","text":""}` and a line feed.
            if shard.passages.bytes < shard.rows * 32 {
                return fail(
                    format!("shards[{i}].passages.bytes"),
                    format!("{} for {} rows", shard.passages.bytes, shard.rows),
                );
            }
        }
        if let Some(graph) = &self.graph
            && (!names.insert(graph.file.as_str()) || !is_plain_name(&graph.file) || !is_sha256(&graph.sha256))
        {
            return fail("graph".into(), "a plain, unused file name and 64 hexadecimal digits expected".into());
        }
        Ok(())
    }
}

pub(super) fn check_file<'a>(
    name: &str,
    place: &str,
    info: &'a FileInfo,
    expected: Option<u64>,
    names: &mut BTreeSet<&'a str>,
) -> Result<()> {
    if !is_plain_name(&info.file) || !names.insert(&info.file) {
        let problem = format!("{:?}, an unused name of letters, digits, '-', '_' and '.' expected", info.file);
        return Err(Error::input(name, format!("{place}.file"), problem));
    }
    if info.bytes > MAX_SHARD_BYTES || expected.is_some_and(|expected| expected != info.bytes) {
        let problem = format!("{}, {} expected", info.bytes, expected.unwrap_or(MAX_SHARD_BYTES));
        return Err(Error::input(name, format!("{place}.bytes"), problem));
    }
    if !is_sha256(&info.sha256) {
        return Err(Error::input(name, format!("{place}.sha256"), "64 lower-case hexadecimal digits expected"));
    }
    Ok(())
}

/// A name that cannot leave the store's folder, on any system and in any URL.
fn is_plain_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.bytes().all(plain)
}

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, bytes: u64) -> FileInfo {
        FileInfo { file: name.into(), bytes, sha256: "a".repeat(64) }
    }

    fn manifest() -> Manifest {
        let encoder = EncoderInfo {
            name: "e".into(),
            sha256: "b".repeat(64),
            normalised: true,
            max_tokens: 256,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            text: TextOptions::default(),
        };
        let shard = Shard {
            rows: 3,
            vectors: BTreeMap::from([(Precision::Int8, file("v", 3 * 12)), (Precision::F16, file("w", 3 * 16))]),
            passages: file("p", 200),
            offsets: file("o", 24),
        };
        let graph = Some(GraphInfo { file: "g".into(), bytes: 1, sha256: "c".repeat(64), recall_at_10: 0.9871 });
        Manifest { count: 3, shards: vec![shard], graph, ..Manifest::new(8, encoder) }
    }

    #[test]
    fn a_manifest_round_trips() {
        let manifest = manifest();
        assert_eq!(Manifest::parse("m", &manifest.to_json()).unwrap(), manifest);
    }

    #[test]
    fn how_texts_are_prepared_is_told_only_where_it_is_unusual() {
        let mut manifest = manifest();
        let usual = String::from_utf8(manifest.to_json()).unwrap();
        assert!(!usual.contains("lowercase"), "stores of before stay as they are: {usual}");
        manifest.encoder.text.lowercase = true;
        assert_eq!(Manifest::parse("m", &manifest.to_json()).unwrap(), manifest);
    }

    type Damage = fn(&mut Manifest);

    #[test]
    fn contradictions_are_refused_at_their_place() {
        let cases: [(Damage, &str); 15] = [
            (|m| m.format = "x".into(), "format"),
            (|m| m.version = 2, "format"),
            (|m| m.metric = "cosine".into(), "format"),
            (|m| m.dim = 0, "dim"),
            (|m| m.dim = usize::MAX, "dim"),
            (|m| m.dim = 9, "shards[0].vectors.f16.bytes"),
            (|m| m.count = 4, "count"),
            (|m| m.shards[0].rows = u64::MAX, "count"),
            (|m| (m.shards[0].rows, m.count) = (u64::MAX, u64::MAX), "count"),
            (|m| (m.shards[0].rows, m.count) = (0, 0), "shards[0]"),
            (|m| m.shards[0].passages.file = "../p".into(), "shards[0].passages.file"),
            (|m| m.shards[0].offsets.file = "p".into(), "shards[0].offsets.file"),
            (|m| m.shards[0].passages.bytes = u64::MAX, "shards[0].passages.bytes"),
            (|m| m.shards[0].passages.sha256 = "A".repeat(64), "shards[0].passages.sha256"),
            (|m| m.graph.as_mut().unwrap().file = "manifest.json".into(), "graph"),
        ];
        for (damage, place) in cases {
            let mut manifest = manifest();
            damage(&mut manifest);
            let error = Manifest::parse("m", &manifest.to_json()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("m: {place}: ")), "{error:?} should be about {place}");
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_only_layout() {
        let manifest = manifest();
        let json = manifest.to_json();
        for at in 0..json.len() {
            for bit in 0..8 {
                let mut damaged = json.clone();
                damaged[at] ^= 1 << bit;
                if let Ok(parsed) = Manifest::parse("m", &damaged) {
                    assert_eq!(parsed, manifest, "bit {bit} of byte {at} went unseen");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Manifest::parse("m", &bytes).is_err());
        }
    }
}
