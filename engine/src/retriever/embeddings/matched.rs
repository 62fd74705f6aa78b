//! Files of embeddings, found by passage id: what a store is built of without an encoder at work.
//!
//! Ids are held as texts and one sorted list of row numbers, about 20 bytes a row beside the texts; vectors stay in their files.

use std::{fmt, path::PathBuf};

use sha2::{Digest, Sha256};

use super::Embeddings;
use crate::{
    Error, Result,
    platform::LocalFuture,
    retriever::{
        Passage,
        build::VectorSource,
        manifest::{EncoderInfo, MAX_COUNT},
    },
};

/// Examples that a report names.
const EXAMPLES: usize = 5;
/// Blocks of a file that its fingerprint looks at, and their bytes.
const SAMPLES: (u64, u64) = (64, 4096);

/// How many ids are of some kind, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub count: u64,
    /// The first few.
    pub first: Vec<String>,
}

impl Count {
    /// Counts one more.
    pub fn add(&mut self, id: &str) {
        self.count += 1;
        if self.first.len() < EXAMPLES {
            self.first.push(id.chars().take(60).collect());
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.count as usize > self.first.len() { ", …" } else { "" };
        write!(f, "{} ({}{more})", self.count, self.first.join(", "))
    }
}

/// How ids of embeddings and of passages fit together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// Passages with an embedding.
    pub matched: u64,
    /// Passages without one.
    pub missing: Count,
    /// Embeddings without a passage.
    pub unknown: Count,
    /// Embeddings whose id an earlier one has; the first counts.
    pub repeated: Count,
    /// Ids that are numbers in the files; they count as their digits.
    pub numbers: u64,
}

/// Embeddings by id.
pub struct Matched {
    files: Vec<Embeddings>,
    /// First row of each file.
    starts: Vec<u32>,
    /// All rows by id; of one id, in their order.
    sorted: Vec<u32>,
    info: EncoderInfo,
    fingerprint: String,
}

impl fmt::Debug for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matched({:?})", self.files)
    }
}

impl Matched {
    /// Opens the files; `info` says what made them.
    pub fn open(paths: &[PathBuf], info: EncoderInfo) -> Result<Self> {
        Self::new(paths.iter().map(|path| Embeddings::open(path)).collect::<Result<_>>()?, info)
    }

    fn new(files: Vec<Embeddings>, info: EncoderInfo) -> Result<Self> {
        let (mut starts, mut rows) = (Vec::new(), 0_u64);
        for file in &files {
            if file.dim() != files[0].dim() {
                let problem = format!("{} dimensions, {} has {}", file.dim(), files[0].name(), files[0].dim());
                return Err(Error::input(file.name(), "array", problem));
            }
            starts.push(rows as u32);
            rows += file.len() as u64;
            if rows > MAX_COUNT {
                return Err(Error::config("embeddings", format!("more than {MAX_COUNT} rows")));
            }
        }
        if rows == 0 {
            return Err(Error::config("embeddings", "files with rows expected"));
        }
        let fingerprint = fingerprint(&files)?;
        let mut matched = Self { files, starts, sorted: Vec::new(), info, fingerprint };
        let mut sorted: Vec<u32> = (0..rows as u32).collect();
        sorted.sort_unstable_by(|a, b| matched.id(*a).cmp(matched.id(*b)).then(a.cmp(b)));
        matched.sorted = sorted;
        Ok(matched)
    }

    /// Whether any of the files has more than f16.
    pub fn is_f32(&self) -> bool {
        self.files.iter().any(Embeddings::is_f32)
    }

    /// Values of a vector.
    pub fn dim(&self) -> usize {
        self.files[0].dim()
    }

    /// Rows of all files.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are no rows; never.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// File and row in it.
    fn place(&self, row: u32) -> (usize, usize) {
        let file = self.starts.partition_point(|start| *start <= row) - 1;
        (file, (row - self.starts[file]) as usize)
    }

    fn id(&self, row: u32) -> &str {
        let (file, row) = self.place(row);
        self.files[file].id(row)
    }

    /// The first row with this id, as a place in the sorted list.
    fn find(&self, id: &str) -> Option<usize> {
        let at = self.sorted.partition_point(|row| self.id(*row) < id);
        (self.id(*self.sorted.get(at)?) == id).then_some(at)
    }

    /// Whether a passage has an embedding.
    pub fn has(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    /// Holds all passages against the embeddings. A passage's id that occurs twice is an error.
    pub fn check(&self, passages: impl Iterator<Item = Result<Passage>>) -> Result<Match> {
        let mut found =
            Match { numbers: self.files.iter().map(|file| file.number_ids() as u64).sum(), ..Match::default() };
        let mut is_used = vec![false; self.len()];
        for (number, passage) in passages.enumerate() {
            let passage = passage?;
            match self.find(&passage.id) {
                None => found.missing.add(&passage.id),
                Some(at) if is_used[at] => {
                    let problem = format!("id {:?} was used before", passage.id);
                    return Err(Error::input("passages", format!("passage {}", number + 1), problem));
                }
                Some(at) => {
                    is_used[at] = true;
                    found.matched += 1;
                }
            }
        }
        let mut last = None;
        for (row, is_used) in self.sorted.iter().zip(is_used) {
            let id = self.id(*row);
            if last == Some(id) {
                found.repeated.add(id);
            } else if !is_used {
                found.unknown.add(id);
            }
            last = Some(id);
        }
        Ok(found)
    }

    /// The vectors of passages that all have one: rows that follow one another are read at once.
    pub fn read(&self, passages: &[Passage]) -> Result<Vec<Vec<f32>>> {
        let mut wanted = Vec::new();
        for (index, passage) in passages.iter().enumerate() {
            let at = self.find(&passage.id);
            let at = at.ok_or_else(|| Error::input("embeddings", format!("id {:?}", passage.id), "no such id"))?;
            wanted.push((self.place(self.sorted[at]), index));
        }
        wanted.sort_unstable();
        let follows = |a: &((usize, usize), usize), b: &((usize, usize), usize)| a.0.0 == b.0.0 && a.0.1 + 1 == b.0.1;
        let mut vectors = vec![Vec::new(); passages.len()];
        for run in wanted.chunk_by(follows) {
            let (file, first) = run[0].0;
            let values = self.files[file].rows(first, run.len())?;
            for ((_, index), vector) in run.iter().zip(values.chunks(self.files[file].dim())) {
                vectors[*index] = vector.to_vec();
            }
        }
        Ok(vectors)
    }
}

impl VectorSource for &Matched {
    fn dim(&self) -> usize {
        self.files[0].dim()
    }

    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn origin(&self) -> &str {
        &self.fingerprint
    }

    fn vectors<'a>(&'a mut self, passages: &'a [Passage]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>> {
        Box::pin(std::future::ready(self.read(passages)))
    }
}

/// What tells the files from others of the same names: sizes and some blocks of each.
fn fingerprint(files: &[Embeddings]) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        let (size, (blocks, block)) = (file.bytes(), SAMPLES);
        hash.update(size.to_le_bytes());
        let last = size.saturating_sub(block);
        for at in 0..blocks {
            let start = (u128::from(last) * u128::from(at) / u128::from(blocks - 1)) as u64;
            hash.update(file.sample(start, block.min(size) as usize)?);
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
