//! The files of a clustered store.
//!
//! | file | content |
//! | --- | --- |
//! | `manifest.json` | `{ "sha256": "… of \"clusters\" in compact JSON", "clusters": { … } }`, see [`Manifest`] |
//! | `clusters.bin` | for K clusters: rows (u32 each), bytes of records (u32), first 8 bytes of the code block's SHA-256, share (f32), centroids as an int8 vectors file |
//! | `graph.bin` | where it is there: an HNSW graph of the centroids without their vectors, see [`crate::retriever::hnsw`] |
//! | `codes-00000.bin`, … | a code block for each cluster: for m rows factors (f16 each), lengths of records (u16), codes |
//! | `records-00000.bin`, … | for each row: first 4 bytes of a SHA-256, its number in the flat store (u32), scale (f32), int8 values, the passage as JSON |
//!
//! All numbers are little-endian. Clusters lie in one order in all files, near ones next to each other; part i of codes and of records
//! holds the same clusters. A centroid is the members' mean direction at their mean length, which ranks clusters; codes are of
//! residuals to share · centroid, the mean itself.
//!
//! The manifest has a hash of itself and of `clusters.bin`, and this one has those of code blocks. A record has its own, over the build
//! (the manifest's `build`), its cluster and row, and its content: whatever is read is checked before it is used, and a record of
//! another place or build is not taken for the right one. The hash is not in the code block because round 1 reads a thousand times as
//! many of its rows as records: it finds damage and mixed-up files, but who can write the host's record files can also forge it. Only
//! `verify` holds whole files against the manifest; a flat store's passages are covered by its manifest at every read.

use std::{collections::BTreeSet, ops::Range};

use half::f16;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::codes;
use crate::{
    Error, Result,
    retriever::{
        Passage,
        hnsw::max_bytes as max_graph_bytes,
        manifest::{EncoderInfo, FileInfo, MANIFEST, MAX_COUNT, MAX_DIM, check_file, is_sha256, sha256_hex},
        vectors::{Precision, Vectors},
    },
};

/// Largest code block, in bytes: one is in memory whole.
pub const MAX_BLOCK: u64 = 16 << 20;
/// Longest record.
pub const MAX_RECORD: u64 = u16::MAX as u64;
/// Most clusters.
pub const MAX_CLUSTERS: u64 = 1 << 20;
/// Bytes of a row in a code block beside its code.
const ROW_BYTES: usize = 4;
/// Bytes of a cluster in the table beside its centroid.
const CLUSTER_BYTES: u64 = 20;
/// Bytes of a record beside its vector and passage; a passage has `{"id":"","title":"","text":""}` at least.
const RECORD_BYTES: usize = 12;
const LEAST_PASSAGE: usize = 30;

const FORMAT: &str = "selfrag-clusters";
const VERSION: u32 = 1;
const METRIC: &str = "inner_product";

/// The description of a clustered store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `selfrag-clusters`.
    pub format: String,
    /// 1.
    pub version: u32,
    /// Passages in all clusters.
    pub count: u64,
    /// Values of a vector.
    pub dim: usize,
    /// `inner_product`.
    pub metric: String,
    /// What made the vectors; questions must go through the same.
    pub encoder: EncoderInfo,
    /// A hash of the flat store and of how it was clustered.
    pub build: String,
    /// Bits of a value in codes, 1 to 4.
    pub bits: usize,
    /// Seed of the rotation.
    pub rotation: u64,
    /// Number of clusters.
    pub clusters: u64,
    /// `clusters.bin`.
    pub table: FileInfo,
    /// Files of consecutive clusters.
    pub parts: Vec<Part>,
    /// Clusters that a question wants, unless the reader is told otherwise.
    pub probes: usize,
    /// What questions cost and find, measured when the store was built, by probes.
    pub measured: Vec<Measured>,
    /// A graph of the centroids ([`crate::retriever::hnsw`]), for readers without a GPU; where they are few there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<FileInfo>,
}

/// Consecutive clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Number of clusters.
    pub clusters: u64,
    /// Their code blocks.
    pub codes: FileInfo,
    /// Their records.
    pub records: FileInfo,
}

/// Recall and cost of a number of probes, over a sample of questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Clusters with the best centroids that were wanted.
    pub probes: usize,
    /// Whether all codes were in memory, at no cost to the questions.
    pub preloaded: bool,
    /// What was asked.
    pub sample: Sample,
    /// Number of questions.
    pub questions: usize,
    /// Mean share of the ten best of exact search over the flat store that were found.
    pub recall_at_10: f32,
    /// Mean bytes of a question; nothing else was in memory.
    pub bytes: f32,
    /// Most bytes of a question.
    pub most_bytes: u64,
    /// Mean requests.
    pub requests: f32,
    /// Most requests.
    pub most_requests: usize,
    /// Mean clusters searched, those between wanted ones included.
    pub clusters: f32,
}

/// Where the questions of a measurement come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// Vectors of questions that somebody gave.
    Questions,
    /// Rows of the store itself, each left out of its own results. They lie where passages lie; real questions do not quite.
    Rows,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    sha256: String,
    clusters: Manifest,
}

/// Whether a `manifest.json` describes a clustered store, as far as its outermost keys tell.
pub fn is_clustered(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Keys {
        clusters: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Keys>(json).is_ok_and(|keys| keys.clusters.is_some())
}

impl Manifest {
    /// A manifest of this version without clusters.
    pub fn new(dim: usize, encoder: EncoderInfo, bits: usize, rotation: u64) -> Self {
        let table = FileInfo::of("clusters.bin", &[]);
        let (format, metric) = (FORMAT.into(), METRIC.into());
        Self {
            format,
            version: VERSION,
            count: 0,
            dim,
            metric,
            encoder,
            build: "0".repeat(64),
            bits,
            rotation,
            clusters: 0,
            table,
            parts: Vec::new(),
            probes: 1,
            measured: Vec::new(),
            graph: None,
        }
    }

    /// Names of all files, the manifest included.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let parts = self.parts.iter().flat_map(|part| [&part.codes, &part.records]);
        parts.chain([&self.table]).chain(&self.graph).map(|info| info.file.as_str()).chain([MANIFEST])
    }

    /// Bytes of all code blocks.
    pub fn codes_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.codes.bytes).sum()
    }

    /// The file's text, sealed with its hash.
    pub fn to_json(&self) -> Vec<u8> {
        let sealed = Sealed { sha256: self.seal(), clusters: self.clone() };
        serde_json::to_vec_pretty(&sealed).expect("a manifest has no map keys but strings")
    }

    /// Reads and checks a manifest; `name` names it in errors.
    pub fn parse(name: &str, json: &[u8]) -> Result<Self> {
        let sealed: Sealed = serde_json::from_slice(json)
            .map_err(|e| Error::input(name, format!("line {} column {}", e.line(), e.column()), e.to_string()))?;
        sealed.clusters.check(name)?;
        let seal = sealed.clusters.seal();
        if seal != sealed.sha256 {
            let problem = format!("{:?}, but the content has {seal}: the file is damaged", sealed.sha256);
            return Err(Error::input(name, "sha256", problem));
        }
        Ok(sealed.clusters)
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
        if self.bits == 0 || self.bits > codes::MAX_BITS {
            return fail("bits".into(), format!("{}, 1 to {} expected", self.bits, codes::MAX_BITS));
        }
        if !is_sha256(&self.build) {
            return fail("build".into(), "64 hexadecimal digits expected".into());
        }
        if !is_sha256(&self.encoder.sha256) || self.encoder.max_tokens == 0 {
            return fail("encoder".into(), "64 hexadecimal digits and a positive max_tokens expected".into());
        }
        let clusters = self.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.clusters));
        let fits = self.clusters <= self.count && self.clusters <= MAX_CLUSTERS && self.count <= MAX_COUNT;
        if clusters != Some(self.clusters) || !fits || (self.clusters == 0) != (self.count == 0) {
            let limits = format!("at most {MAX_CLUSTERS} and as many as passages expected");
            let problem = format!("{}, the parts have {clusters:?}, passages {}; {limits}", self.clusters, self.count);
            return fail("clusters".into(), problem);
        }
        let mut names = BTreeSet::from([MANIFEST]);
        let table = self.clusters * (CLUSTER_BYTES + 4 + self.dim as u64);
        check_file(name, "table", &self.table, Some(table), &mut names)?;
        if let Some(graph) = &self.graph {
            check_file(name, "graph", graph, None, &mut names)?;
            if graph.bytes > max_graph_bytes(self.clusters) {
                return fail("graph.bytes".into(), format!("{}: too many for {} clusters", graph.bytes, self.clusters));
            }
        }
        for (i, part) in self.parts.iter().enumerate() {
            if part.clusters == 0 {
                return fail(format!("parts[{i}].clusters"), "0, a part without clusters".into());
            }
            check_file(name, &format!("parts[{i}].codes"), &part.codes, None, &mut names)?;
            check_file(name, &format!("parts[{i}].records"), &part.records, None, &mut names)?;
        }
        if self.probes == 0 {
            return fail("probes".into(), "a positive number expected".into());
        }
        for (i, measured) in self.measured.iter().enumerate() {
            if measured.probes == 0 || !(0.0..=1.0).contains(&measured.recall_at_10) {
                return fail(format!("measured[{i}]"), "positive probes and a recall of 0 to 1 expected".into());
            }
        }
        Ok(())
    }
}

/// Where a cluster's parts are.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Number of its part.
    pub part: usize,
    /// Rows.
    pub rows: usize,
    /// Its code block in the part's codes.
    pub codes: Range<u64>,
    /// Its records in the part's records.
    pub records: Range<u64>,
    /// First bytes of the code block's SHA-256.
    pub check: [u8; 8],
    /// The mean is this times the centroid.
    pub share: f32,
}

/// `clusters.bin`.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// In the order of the files.
    pub clusters: Vec<Cluster>,
    /// (clusters, dim), int8
    pub centroids: Vectors,
}

impl Table {
    /// The file's bytes; only builds write.
    #[cfg(feature = "cli")]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for cluster in &self.clusters {
            bytes.extend((cluster.rows as u32).to_le_bytes());
        }
        for cluster in &self.clusters {
            bytes.extend(((cluster.records.end - cluster.records.start) as u32).to_le_bytes());
        }
        for cluster in &self.clusters {
            bytes.extend(cluster.check);
        }
        for cluster in &self.clusters {
            bytes.extend(cluster.share.to_le_bytes());
        }
        bytes.extend(self.centroids.to_bytes());
        bytes
    }

    /// Reads the file, whose hash the caller has checked, and proves its numbers against those of the manifest.
    pub fn parse(manifest: &Manifest, bytes: &[u8]) -> Result<Self> {
        let name = &manifest.table.file;
        let fail = |place: String, problem: String| Err(Error::input(name, place, problem));
        let n = manifest.clusters as usize;
        if bytes.len() as u64 != manifest.table.bytes || bytes.len() < n * CLUSTER_BYTES as usize {
            return fail("size".into(), format!("{} bytes, {} expected", bytes.len(), manifest.table.bytes));
        }
        let (rows, rest) = bytes.split_at(n * 4);
        let (records, rest) = rest.split_at(n * 4);
        let (checks, rest) = rest.split_at(n * 8);
        let (shares, centroids) = rest.split_at(n * 4);
        let row_bytes = block_bytes(1, manifest.dim, manifest.bits);
        let least_record = (RECORD_BYTES + manifest.dim + LEAST_PASSAGE) as u64;
        let mut clusters = Vec::with_capacity(n);
        let mut count = 0;
        for (i, part) in manifest.parts.iter().enumerate() {
            let (mut codes, mut of_records) = (0u64, 0u64);
            for _ in 0..part.clusters {
                let at = clusters.len();
                let (rows, bytes) = (u32_at(rows, at), u64::from(u32_at(records, at)));
                let block = u64::from(rows) * row_bytes;
                if rows == 0 || block > MAX_BLOCK || bytes < u64::from(rows) * least_record {
                    return fail(format!("cluster {at}"), format!("{rows} rows with {bytes} bytes of records"));
                }
                let share = f32::from_bits(u32_at(shares, at));
                if !share.is_finite() {
                    return fail(format!("cluster {at}"), "a share that is infinite or not a number".into());
                }
                let check = checks[at * 8..at * 8 + 8].try_into().expect("eight bytes");
                let (from, records_from) = (codes, of_records);
                (codes, of_records) = (codes + block, of_records + bytes);
                let (codes, records) = (from..codes, records_from..of_records);
                clusters.push(Cluster { part: i, rows: rows as usize, codes, records, check, share });
                count += u64::from(rows);
            }
            if codes != part.codes.bytes || of_records != part.records.bytes {
                let found = format!("{codes} bytes of codes and {of_records} of records");
                let problem = format!("{found}, the manifest has {} and {}", part.codes.bytes, part.records.bytes);
                return fail(format!("part {i}"), problem);
            }
        }
        if count != manifest.count {
            return fail("rows".into(), format!("{count}, {} expected", manifest.count));
        }
        let centroids = Vectors::from_bytes(name, Precision::Int8, n, manifest.dim, centroids)?;
        Ok(Self { clusters, centroids })
    }
}

/// Bytes of a code block.
pub fn block_bytes(rows: usize, dim: usize, bits: usize) -> u64 {
    rows as u64 * (ROW_BYTES + codes::code_bytes(dim, bits)) as u64
}

/// A cluster's code block.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Factor of each row's estimate.
    pub factors: Vec<f32>,
    /// Where each row's record ends, from the start of the cluster's records.
    pub ends: Vec<u32>,
    /// (rows, bytes of a code)
    pub codes: Vec<u8>,
}

impl Block {
    /// First bytes of a block's SHA-256.
    pub fn check(bytes: &[u8]) -> [u8; 8] {
        Sha256::digest(bytes)[..8].try_into().expect("eight of 32 bytes")
    }

    /// Where the columns of a row begin in a block of so many rows: factor, length, code.
    pub fn columns(rows: usize, row: usize, code_bytes: usize) -> [u64; 3] {
        [2 * row as u64, 2 * (rows + row) as u64, (ROW_BYTES * rows + code_bytes * row) as u64]
    }

    /// Reads and checks the block of a cluster; `name` names its file in errors.
    pub fn parse(name: &str, cluster: &Cluster, dim: usize, bits: usize, bytes: &[u8]) -> Result<Self> {
        let place = |row: usize| format!("the block at byte {}, row {row}", cluster.codes.start);
        if bytes.len() as u64 != block_bytes(cluster.rows, dim, bits) || Self::check(bytes) != cluster.check {
            let problem = "the code block's SHA-256 differs from the table's: the file is damaged or another build's";
            return Err(Error::input(name, format!("byte {}", cluster.codes.start), problem));
        }
        let (factors, rest) = bytes.split_at(cluster.rows * 2);
        let (lengths, codes) = rest.split_at(cluster.rows * 2);
        let factors: Vec<f32> = factors.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect();
        if let Some(row) = factors.iter().position(|x| !x.is_finite()) {
            return Err(Error::input(name, place(row), "a factor that is infinite or not a number"));
        }
        let (mut end, mut ends) = (0, Vec::with_capacity(cluster.rows));
        for (row, length) in lengths.as_chunks::<2>().0.iter().enumerate() {
            let length = u16::from_le_bytes(*length);
            if usize::from(length) < RECORD_BYTES + dim + LEAST_PASSAGE {
                return Err(Error::input(name, place(row), format!("a record of {length} bytes")));
            }
            // No more than a block's bytes times 2^16 / 5.
            end += u64::from(length);
            ends.push(end as u32);
        }
        let records = cluster.records.end - cluster.records.start;
        if end != records {
            let problem = format!("records end at {end}, the table has {records} bytes");
            return Err(Error::input(name, place(cluster.rows), problem));
        }
        Ok(Self { factors, ends, codes: codes.to_vec() })
    }

    /// Where a row's record lies in the part's file.
    pub fn record(&self, cluster: &Cluster, row: usize) -> Range<u64> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        cluster.records.start + u64::from(start)..cluster.records.start + u64::from(self.ends[row])
    }
}

/// A passage with its vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Row in the flat store.
    pub row: u32,
    /// One row, int8.
    pub vector: Vectors,
    /// The passage.
    pub passage: Passage,
}

/// Which record is meant.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The manifest's build.
    pub build: &'a str,
    /// Number of its cluster.
    pub cluster: usize,
    /// Its row within the cluster.
    pub row: usize,
}

impl Place<'_> {
    /// First bytes of the SHA-256 of the place and what is there.
    fn check(self, content: &[u8]) -> [u8; 4] {
        let mut hash = Sha256::new_with_prefix(self.build);
        hash.update((self.cluster as u32).to_le_bytes());
        hash.update((self.row as u32).to_le_bytes());
        hash.update(content);
        hash.finalize()[..4].try_into().expect("four of 32 bytes")
    }
}

/// A record's bytes from its row in the flat store, its int8 vector and its passage's JSON.
#[cfg(feature = "cli")]
pub fn record_bytes(place: Place, row: u32, vector: &Vectors, passage: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(row.to_le_bytes());
    bytes.extend(vector.to_bytes());
    bytes.extend(passage);
    let check = place.check(&bytes[4..]);
    bytes[..4].copy_from_slice(&check);
    bytes
}

/// Bytes of a record.
#[cfg(feature = "cli")]
pub fn record_length(dim: usize, passage: usize) -> usize {
    RECORD_BYTES + dim + passage
}

impl Record {
    /// Reads and checks a record, at byte `start` of the file that `name` names in errors, of a store of `count` rows.
    pub fn parse(name: &str, start: u64, place: Place, dim: usize, count: u64, bytes: &[u8]) -> Result<Self> {
        let fail = |problem: String| Err(Error::input(name, format!("byte {start}"), problem));
        if bytes.len() < RECORD_BYTES + dim || place.check(&bytes[4..]) != bytes[..4] {
            return fail("the record's SHA-256 is another: the file is damaged or another build's".into());
        }
        let (head, passage) = bytes.split_at(RECORD_BYTES + dim);
        let row = u32_at(head, 1);
        if u64::from(row) >= count {
            return fail(format!("row {row} of {count}"));
        }
        let vector = Vectors::from_bytes(name, Precision::Int8, 1, dim, &head[8..])?;
        match serde_json::from_slice(passage) {
            Ok(passage) => Ok(Self { row, vector, passage }),
            Err(error) => fail(error.to_string()),
        }
    }
}

fn u32_at(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes[index * 4..index * 4 + 4].try_into().expect("four bytes"))
}
