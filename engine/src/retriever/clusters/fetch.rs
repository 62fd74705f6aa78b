//! Ranges of a store's files, counted; from storage where they were kept; whole files where a host has no ranges.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use futures_util::future::try_join_all;

use super::{
    kept::{self, Kept},
    plan::{Read, total},
};
use crate::{
    Error, Result,
    retriever::{files::Files, manifest::FileInfo},
};

/// A file of at most so many bytes is fetched whole from a host without ranges.
pub(super) const MAX_WHOLE: u64 = 16 << 20;
/// Requests under way at a time: a question's fit, and opening a store of many files does not start a thread for each.
const AT_ONCE: usize = 32;
/// Bytes of such files that are kept.
const KEEP_WHOLE: u64 = 128 << 20;

/// Reads files and counts what that takes.
pub(super) struct Fetch {
    pub(super) files: Box<dyn Files>,
    kept: Option<Kept>,
    /// Cleared where the host was seen to ignore them.
    ranges: Cell<bool>,
    whole: RefCell<BTreeMap<String, Rc<Vec<u8>>>>,
}

/// What reads took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// From where the store is.
    pub(super) bytes: u64,
    pub(super) requests: usize,
    /// Bytes from storage.
    pub(super) kept: u64,
}

impl Taken {
    pub(super) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.requests += other.requests;
        self.kept += other.kept;
    }
}

/// Takes in a range that was read, if it is right.
pub(super) type Parse<'a> = &'a mut dyn FnMut(&Read, &[u8]) -> Result<()>;

impl Fetch {
    pub(super) async fn new(files: Box<dyn Files>) -> Self {
        let kept = match files.storage() {
            Some(storage) => Some(Kept::open(storage, kept::LIMIT).await),
            None => None,
        };
        Self { files, kept, ranges: Cell::new(true), whole: RefCell::default() }
    }

    /// Ranges of files, all at once; `infos` by the numbers in the reads. What `parse` refuses of storage is read anew, and what it
    /// takes is kept.
    pub(super) async fn read(
        &self,
        infos: &[&FileInfo],
        reads: &[Read],
        taken: &mut Taken,
        parse: Parse<'_>,
    ) -> Result<()> {
        let mut reads = reads.to_vec();
        loop {
            let (mut answers, mut missing) = (Vec::new(), Vec::new());
            for Read { file, bytes } in &reads {
                let (content, gaps) = match &self.kept {
                    Some(kept) => kept.read(infos[*file], bytes).await,
                    None => (Vec::new(), vec![bytes.clone()]),
                };
                // One request for all gaps: what lies between them was worth reading once.
                let bounds = gaps.first().zip(gaps.last()).map_or(0..0, |(first, last)| first.start..last.end);
                missing.push(Read { file: *file, bytes: bounds });
                answers.push(content);
            }
            let wanted: Vec<Read> = missing.iter().filter(|read| !read.bytes.is_empty()).cloned().collect();
            let (fetched, cost) = self.ranges(infos, &wanted).await?;
            taken.add(Taken { kept: total(&reads) - total(&wanted), ..cost });
            let (mut fetched, mut damaged) = (fetched.into_iter(), Vec::new());
            for ((read, missing), mut bytes) in reads.iter().zip(missing).zip(answers) {
                if missing.bytes == read.bytes {
                    bytes = fetched.next().unwrap_or_default();
                } else if !missing.bytes.is_empty() {
                    let fetched = fetched.next().unwrap_or_default();
                    let at = (missing.bytes.start - read.bytes.start) as usize;
                    bytes[at..at + fetched.len()].copy_from_slice(&fetched);
                }
                let (parsed, info) = (parse(read, &bytes), infos[read.file]);
                match (&self.kept, parsed) {
                    (None, parsed) => parsed?,
                    // Storage that is full, or refuses, is no reason to have no answer.
                    (Some(kept), Ok(())) => drop(kept.keep(info, &read.bytes, &bytes).await),
                    (Some(kept), Err(error)) => match kept.forget(info, &read.bytes).await {
                        true => {
                            // None of that was of use.
                            taken.kept -= total(std::slice::from_ref(read)) - total(&[missing]);
                            damaged.push(read.clone());
                        }
                        false => return Err(error),
                    },
                }
            }
            if damaged.is_empty() {
                return Ok(());
            }
            reads = damaged;
        }
    }

    /// What is kept of these ranges; none where nothing is ever kept.
    pub(super) fn kept_parts(&self, infos: &[&FileInfo], reads: &[Read]) -> Option<Vec<Read>> {
        let kept = self.kept.as_ref()?;
        let parts = |read: &Read| kept.parts(infos[read.file], &read.bytes);
        let read =
            |read: &Read| parts(read).into_iter().map(|bytes| Read { file: read.file, bytes }).collect::<Vec<_>>();
        Some(reads.iter().flat_map(read).collect())
    }

    /// Writes down what was used.
    pub(super) async fn save(&self) {
        if let Some(kept) = &self.kept {
            kept.save().await;
        }
    }

    /// Ranges of files from where the store is.
    async fn ranges(&self, infos: &[&FileInfo], reads: &[Read]) -> Result<(Vec<Vec<u8>>, Taken)> {
        if self.ranges.get() {
            match self.some_ranges(infos, reads).await {
                Err(Error::NoRanges { .. }) => {}
                answers => {
                    let taken = Taken { bytes: total(reads), requests: reads.len(), kept: 0 };
                    return Ok((answers?, taken));
                }
            }
        }
        let (mut answers, mut taken) = (Vec::new(), Taken::default());
        // One after the other: the second read of a file finds it there.
        for read in reads {
            let file = self.whole(infos[read.file], &mut taken).await?;
            answers.push(file[read.bytes.start as usize..read.bytes.end as usize].to_vec());
        }
        // Only now: one whole answer among ranges, a proxy's say, must not make large files unreadable for good.
        self.ranges.set(false);
        Ok((answers, taken))
    }

    async fn some_ranges(&self, infos: &[&FileInfo], reads: &[Read]) -> Result<Vec<Vec<u8>>> {
        let mut answers = Vec::new();
        for reads in reads.chunks(AT_ONCE) {
            answers.extend(try_join_all(reads.iter().map(|read| self.range(infos[read.file], read))).await?);
        }
        Ok(answers)
    }

    async fn range(&self, info: &FileInfo, read: &Read) -> Result<Vec<u8>> {
        // A source of its own for each range: one that is shared may read ahead.
        let source = self.files.open(&info.file, Some(info.bytes)).await?;
        if source.size() != info.bytes {
            let problem = format!("{} bytes, {} expected", source.size(), info.bytes);
            return Err(Error::input(source.name(), "size", problem));
        }
        source.read(read.bytes.start, (read.bytes.end - read.bytes.start) as usize).await
    }

    /// A file from a host without ranges.
    async fn whole(&self, info: &FileInfo, taken: &mut Taken) -> Result<Rc<Vec<u8>>> {
        if let Some(file) = self.whole.borrow().get(&info.file) {
            return Ok(file.clone());
        }
        if info.bytes > MAX_WHOLE {
            let hint = "cluster the store again with --part-mb 16 or less, or use a host with range requests";
            let problem =
                format!("the host has no range requests, and the file's {} bytes are too many: {hint}", info.bytes);
            return Err(Error::Network { url: format!("{}: {}", self.files.name(), info.file), problem });
        }
        let file = Rc::new(self.file(info).await?);
        taken.add(Taken { bytes: info.bytes, requests: 1, kept: 0 });
        if let Some(kept) = &self.kept {
            let _ = kept.keep(info, &(0..info.bytes), &file).await;
        }
        let mut whole = self.whole.borrow_mut();
        if whole.values().map(|file| file.len() as u64).sum::<u64>() + info.bytes > KEEP_WHOLE {
            whole.clear();
        }
        whole.insert(info.file.clone(), file.clone());
        Ok(file)
    }

    /// A whole file, checked.
    pub(super) async fn file(&self, info: &FileInfo) -> Result<Vec<u8>> {
        let all = Read { file: 0, bytes: 0..info.bytes };
        let bytes = self.range(info, &all).await?;
        info.verify(&info.file, &bytes)?;
        Ok(bytes)
    }
}
