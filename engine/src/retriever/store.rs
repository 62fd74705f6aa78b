//! A passage store, read natively and over HTTP: the manifest at once, vectors shard by shard, passages one by one by range.
//!
//! Every file is checked against the manifest's size before memory is taken for it and against its SHA-256 before it is used; a
//! passage read alone is checked by four bytes of its own SHA-256 in the offsets file.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use futures_util::future::try_join_all;
use sha2::{Digest, Sha256};

use super::{
    Passage,
    files::Files,
    hnsw,
    manifest::{FileInfo, MANIFEST, MAX_MANIFEST_BYTES, Manifest, OFFSET_BYTES},
    vectors::{Precision, Vectors},
};
use crate::{Error, Result, platform::ByteSource};

/// Where a passage's line ends, without its line feed, and the first four bytes of the line's SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) end: u32,
    pub(super) check: [u8; 4],
}

impl Offset {
    /// The entry of a line that ends at `end`.
    pub(super) fn of(end: u32, line: &[u8]) -> Self {
        let hash = Sha256::digest(line);
        Self { end, check: [hash[0], hash[1], hash[2], hash[3]] }
    }

    /// As stored; only builds write.
    #[cfg(feature = "cli")]
    pub(super) fn to_bytes(self) -> [u8; OFFSET_BYTES as usize] {
        let mut bytes = [0; OFFSET_BYTES as usize];
        bytes[..4].copy_from_slice(&self.end.to_le_bytes());
        bytes[4..].copy_from_slice(&self.check);
        bytes
    }
}

/// What is needed to read passages of one shard.
struct PassageShard {
    source: Box<dyn ByteSource>,
    offsets: Vec<Offset>,
}

/// An open store.
pub struct Store {
    files: Box<dyn Files>,
    manifest: Manifest,
    /// First row of each shard.
    first_rows: Vec<u64>,
    passage_shards: RefCell<BTreeMap<usize, Rc<PassageShard>>>,
    preferred: Option<Precision>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({}, {} passages)", self.files.name(), self.manifest.count)
    }
}

impl Store {
    /// Reads and checks the manifest; everything else is read when it is needed.
    pub async fn open(files: Box<dyn Files>) -> Result<Self> {
        let source = files.open(MANIFEST, None).await?;
        if source.size() > MAX_MANIFEST_BYTES {
            let problem = format!("{} bytes, at most {MAX_MANIFEST_BYTES} expected", source.size());
            return Err(Error::input(source.name(), "size", problem));
        }
        let json = source.read(0, source.size() as usize).await?;
        let manifest = Manifest::parse(source.name(), &json)?;
        let starts = manifest.shards.iter().scan(0, |next, shard| {
            let first = *next;
            *next += shard.rows;
            Some(first)
        });
        Ok(Self { first_rows: starts.collect(), files, manifest, passage_shards: RefCell::default(), preferred: None })
    }

    /// What the store holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Folder or URL.
    pub fn name(&self) -> &str {
        self.files.name()
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.manifest.shards.len()
    }

    /// Makes searches use this precision, which the store must have.
    pub fn prefer(&mut self, precision: Precision) -> Result<()> {
        if !self.manifest.precisions().contains(&precision) {
            return Err(self.lacks(precision));
        }
        self.preferred = Some(precision);
        Ok(())
    }

    fn lacks(&self, precision: Precision) -> Error {
        let names: Vec<&str> = self.manifest.precisions().into_iter().map(Precision::name).collect();
        Error::config("vectors", format!("{}, {} has {}", precision.name(), self.name(), names.join(", ")))
    }

    /// The precision to search in: what is preferred, else int8 where there is one, at a quarter of f32's size.
    pub fn precision(&self) -> Precision {
        if let Some(precision) = self.preferred {
            return precision;
        }
        self.manifest.precisions().last().copied().unwrap_or(Precision::Int8)
    }

    /// A shard's vectors.
    pub async fn vectors(&self, shard: usize, precision: Precision) -> Result<Vectors> {
        let shard = &self.manifest.shards[shard];
        let info = shard.vectors.get(&precision).ok_or_else(|| self.lacks(precision))?;
        let bytes = self.whole(info).await?;
        Vectors::from_bytes(&info.file, precision, shard.rows as usize, self.manifest.dim, &bytes)
    }

    /// All vectors in memory.
    pub async fn all_vectors(&self, precision: Precision) -> Result<Vectors> {
        let mut all = Vectors::new(precision, self.manifest.dim);
        for shard in 0..self.shards() {
            all.extend(&self.vectors(shard, precision).await?);
        }
        Ok(all)
    }

    /// The HNSW graph's file, where there is one.
    pub async fn graph(&self) -> Result<Option<Vec<u8>>> {
        let Some(graph) = &self.manifest.graph else { return Ok(None) };
        if graph.bytes > hnsw::max_bytes(self.manifest.count) {
            let problem = format!("{} bytes for {} rows", graph.bytes, self.manifest.count);
            return Err(Error::input(self.name(), "graph.bytes", problem));
        }
        self.whole(&graph.file_info()).await.map(Some)
    }

    /// Passages by row number.
    pub async fn passages(&self, rows: &[u32]) -> Result<Vec<Passage>> {
        try_join_all(rows.iter().map(|row| self.passage(*row))).await
    }

    async fn passage(&self, row: u32) -> Result<Passage> {
        assert!(u64::from(row) < self.manifest.count, "row {row} of {}", self.manifest.count);
        let shard = self.first_rows.partition_point(|first| *first <= u64::from(row)) - 1;
        let place = (u64::from(row) - self.first_rows[shard]) as usize;
        let shard = self.passage_shard(shard).await?;
        let start = if place == 0 { 0 } else { shard.offsets[place - 1].end + 1 };
        let offset = shard.offsets[place];
        let line = shard.source.read(u64::from(start), (offset.end - start) as usize).await?;
        parse_line(shard.source.name(), start, offset, &line)
    }

    /// A shard's offsets, read once.
    async fn passage_shard(&self, index: usize) -> Result<Rc<PassageShard>> {
        if let Some(shard) = self.passage_shards.borrow().get(&index) {
            return Ok(shard.clone());
        }
        let info = &self.manifest.shards[index];
        let source = self.open_checked(&info.passages).await?;
        let offsets = parse_offsets(&info.offsets.file, &self.whole(&info.offsets).await?, info.passages.bytes)?;
        let shard = Rc::new(PassageShard { source, offsets });
        self.passage_shards.borrow_mut().insert(index, shard.clone());
        Ok(shard)
    }

    /// A shard's passages: its text, and where each line lies without its line feed. Every line is a passage.
    #[cfg(feature = "cli")]
    pub(super) async fn lines(&self, shard: usize) -> Result<(Vec<u8>, Vec<std::ops::Range<usize>>)> {
        let info = &self.manifest.shards[shard];
        let text = self.whole(&info.passages).await?;
        let offsets = parse_offsets(&info.offsets.file, &self.whole(&info.offsets).await?, info.passages.bytes)?;
        let (mut start, mut lines) = (0, Vec::with_capacity(offsets.len()));
        for offset in offsets {
            let line = start as usize..offset.end as usize;
            parse_line(&info.passages.file, start, offset, &text[line.clone()])?;
            lines.push(line);
            start = offset.end + 1;
        }
        Ok((text, lines))
    }

    /// Reads every file and checks everything that can be checked; `progress` hears the bytes of each file.
    pub async fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let mut ids = std::collections::HashSet::new();
        for (i, shard) in self.manifest.shards.iter().enumerate() {
            for (precision, info) in &shard.vectors {
                self.vectors(i, *precision).await?;
                progress(info.bytes);
            }
            let text = self.whole(&shard.passages).await?;
            let offsets = parse_offsets(&shard.offsets.file, &self.whole(&shard.offsets).await?, shard.passages.bytes)?;
            let mut start = 0;
            for offset in offsets {
                let line = &text[start as usize..offset.end as usize];
                let passage = parse_line(&shard.passages.file, start, offset, line)?;
                if let Some(twice) = ids.replace(passage.id) {
                    let problem = format!("id {twice:?} is there twice");
                    return Err(Error::input(&shard.passages.file, format!("byte {start}"), problem));
                }
                start = offset.end + 1;
            }
            progress(shard.passages.bytes + shard.offsets.bytes);
        }
        if let Some(bytes) = self.graph().await? {
            let vectors = std::sync::Arc::new(self.all_vectors(self.precision()).await?);
            progress(bytes.len() as u64);
            hnsw::Graph::load("graph", bytes, vectors, hnsw::EF_SEARCH)?;
        }
        Ok(())
    }

    async fn open_checked(&self, info: &FileInfo) -> Result<Box<dyn ByteSource>> {
        let source = self.files.open(&info.file, Some(info.bytes)).await?;
        if source.size() != info.bytes {
            let problem = format!("{} bytes, {} expected", source.size(), info.bytes);
            return Err(Error::input(source.name(), "size", problem));
        }
        Ok(source)
    }

    async fn whole(&self, info: &FileInfo) -> Result<Vec<u8>> {
        let source = self.open_checked(info).await?;
        let bytes = source.read(0, info.bytes as usize).await?;
        info.verify(source.name(), &bytes)?;
        Ok(bytes)
    }
}

fn parse_offsets(file: &str, bytes: &[u8], passages_bytes: u64) -> Result<Vec<Offset>> {
    let entry =
        |b: &[u8]| Offset { end: u32::from_le_bytes([b[0], b[1], b[2], b[3]]), check: [b[4], b[5], b[6], b[7]] };
    let offsets: Vec<Offset> = bytes.chunks_exact(OFFSET_BYTES as usize).map(entry).collect();
    // Each line has two bytes at least, its braces; the last one's line feed ends the file.
    let mut start = 0u64;
    for (row, offset) in offsets.iter().enumerate() {
        if u64::from(offset.end) < start + 2 || u64::from(offset.end) >= passages_bytes {
            let problem = format!("a line from {start} to {} in a file of {passages_bytes} bytes", offset.end);
            return Err(Error::input(file, format!("row {row}"), problem));
        }
        start = u64::from(offset.end) + 1;
    }
    if start != passages_bytes {
        return Err(Error::input(file, "size", format!("lines end at {start}, the passages at {passages_bytes}")));
    }
    Ok(offsets)
}

fn parse_line(file: &str, start: u32, offset: Offset, line: &[u8]) -> Result<Passage> {
    let place = format!("byte {start}");
    if Offset::of(offset.end, line) != offset {
        return Err(Error::input(
            file,
            place,
            "the passage's SHA-256 differs from its offset entry: the file is damaged",
        ));
    }
    serde_json::from_slice(line).map_err(|e| Error::input(file, place, e.to_string()))
}
