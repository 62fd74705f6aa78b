//! Ranges of a store's files, counted; whole files where a host has no ranges.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use futures_util::future::try_join_all;

use super::plan::Read;
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
    /// Cleared where the host was seen to ignore them.
    ranges: Cell<bool>,
    whole: RefCell<BTreeMap<String, Rc<Vec<u8>>>>,
}

/// What reads took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) bytes: u64,
    pub(super) requests: usize,
}

impl Taken {
    pub(super) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.requests += other.requests;
    }
}

impl Fetch {
    pub(super) fn new(files: Box<dyn Files>) -> Self {
        Self { files, ranges: Cell::new(true), whole: RefCell::default() }
    }

    /// Ranges of files, all at once; `infos` by the numbers in the reads.
    pub(super) async fn ranges(&self, infos: &[&FileInfo], reads: &[Read]) -> Result<(Vec<Vec<u8>>, Taken)> {
        if self.ranges.get() {
            match self.some_ranges(infos, reads).await {
                Err(Error::NoRanges { .. }) => {}
                answers => return Ok((answers?, Taken { bytes: super::plan::total(reads), requests: reads.len() })),
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
        taken.add(Taken { bytes: info.bytes, requests: 1 });
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
