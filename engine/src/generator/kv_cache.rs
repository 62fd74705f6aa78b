//! Which page of the KV cache holds which positions of which sequence. Pure bookkeeping: the keys and values themselves are in GPU
//! buffers that [`super::llama`] owns.
//!
//! A sequence is a list of pages of [`PAGE`] positions. Forks share pages; a shared page that is about to be written is copied
//! first, so a prefix of P tokens under N forks takes P tokens of memory plus at most N pages.

use std::collections::BTreeMap;

use super::SeqId;
use crate::{Error, Result};

/// Positions a page holds. Smaller pages waste less at a fork, larger ones make shorter tables.
pub const PAGE: usize = 16;

/// A page to be copied before a shared one is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageCopy {
    /// Shared page.
    pub from: u32,
    /// The writer's own.
    pub to: u32,
}

/// Pages and sequences.
#[derive(Debug)]
pub struct PageTable {
    /// Sequences that hold each page.
    holders: Vec<u32>,
    free: Vec<u32>,
    sequences: BTreeMap<SeqId, Sequence>,
    next: u32,
    context_length: usize,
}

#[derive(Debug, Clone, Default)]
struct Sequence {
    pages: Vec<u32>,
    length: usize,
}

impl PageTable {
    /// A table of `pages` pages for sequences of at most `context_length` tokens.
    pub fn new(pages: usize, context_length: usize) -> Self {
        Self {
            holders: vec![0; pages],
            free: (0..pages as u32).rev().collect(),
            sequences: BTreeMap::new(),
            next: 0,
            context_length,
        }
    }

    /// An empty sequence.
    pub fn start(&mut self) -> SeqId {
        self.insert(Sequence::default())
    }

    /// A sequence that begins with everything `seq` holds.
    pub fn fork(&mut self, seq: SeqId) -> SeqId {
        let sequence = self.sequence(seq).clone();
        for page in &sequence.pages {
            self.holders[*page as usize] += 1;
        }
        self.insert(sequence)
    }

    /// Forgets a sequence; pages that nobody else holds become free. Unknown sequences are ignored.
    pub fn free(&mut self, seq: SeqId) {
        for page in self.sequences.remove(&seq).unwrap_or_default().pages {
            self.release(page);
        }
    }

    /// Tokens in a sequence.
    pub fn length(&self, seq: SeqId) -> usize {
        self.sequence(seq).length
    }

    /// A sequence's pages, in order of positions.
    pub fn pages(&self, seq: SeqId) -> &[u32] {
        &self.sequence(seq).pages
    }

    /// Where a position is stored.
    pub fn slot(&self, seq: SeqId, position: usize) -> u32 {
        self.sequence(seq).pages[position / PAGE] * PAGE as u32 + (position % PAGE) as u32
    }

    /// Pages that nobody holds.
    pub fn free_pages(&self) -> usize {
        self.free.len()
    }

    /// Makes room for `count` more tokens in each of the sequences, all or nothing, and counts them in. The copies must be made
    /// before anything is written.
    pub fn extend(&mut self, batch: &[(SeqId, usize)]) -> Result<Vec<PageCopy>> {
        let mut needed = 0;
        for (seq, count) in batch {
            let sequence = self.sequence(*seq);
            let length = sequence.length + count;
            if length > self.context_length {
                return Err(Error::ContextFull { needed: length, available: self.context_length });
            }
            needed += length.div_ceil(PAGE) - sequence.pages.len() + usize::from(self.tail_is_shared(sequence));
        }
        if needed > self.free.len() {
            return Err(Error::ContextFull { needed: needed * PAGE, available: self.free.len() * PAGE });
        }
        let mut copies = Vec::new();
        for (seq, count) in batch {
            if *count == 0 {
                continue;
            }
            let mut sequence = self.sequences.remove(seq).expect("looked up above");
            if self.tail_is_shared(&sequence) {
                let to = self.take();
                let tail = sequence.pages.last_mut().expect("a shared tail exists");
                let from = std::mem::replace(tail, to);
                self.release(from);
                copies.push(PageCopy { from, to });
            }
            sequence.length += count;
            while sequence.pages.len() * PAGE < sequence.length {
                sequence.pages.push(self.take());
            }
            self.sequences.insert(*seq, sequence);
        }
        Ok(copies)
    }

    /// Takes the last `count` tokens of a sequence back, and pages that are then empty. Unknown sequences are ignored.
    pub fn retract(&mut self, seq: SeqId, count: usize) {
        let Some(mut sequence) = self.sequences.remove(&seq) else { return };
        sequence.length -= count;
        for page in sequence.pages.split_off(sequence.length.div_ceil(PAGE)) {
            self.release(page);
        }
        self.sequences.insert(seq, sequence);
    }

    /// Whether the next token would be written to a page that another sequence holds too.
    fn tail_is_shared(&self, sequence: &Sequence) -> bool {
        let tail = sequence.pages.last().filter(|_| !sequence.length.is_multiple_of(PAGE));
        tail.is_some_and(|page| self.holders[*page as usize] > 1)
    }

    fn insert(&mut self, sequence: Sequence) -> SeqId {
        let id = SeqId(self.next);
        self.next = self.next.wrapping_add(1);
        self.sequences.insert(id, sequence);
        id
    }

    fn sequence(&self, seq: SeqId) -> &Sequence {
        self.sequences.get(&seq).unwrap_or_else(|| panic!("sequence {} was freed or never started", seq.0))
    }

    fn take(&mut self) -> u32 {
        let page = self.free.pop().expect("counted before");
        self.holders[page as usize] = 1;
        page
    }

    fn release(&mut self, page: u32) {
        let holders = &mut self.holders[page as usize];
        *holders -= 1;
        if *holders == 0 {
            self.free.push(page);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_share_a_prefix_and_copy_only_the_tail() {
        let mut table = PageTable::new(10, 100);
        let root = table.start();
        assert_eq!(table.extend(&[(root, 20)]).unwrap(), []);
        let (a, b) = (table.fork(root), table.fork(root));
        assert_eq!(table.free_pages(), 8, "forks take nothing");
        let copies = table.extend(&[(a, 1), (b, 1)]).unwrap();
        assert_eq!(copies.len(), 2, "the half-full second page is copied for each writer");
        assert_eq!(table.pages(a)[0], table.pages(b)[0], "the full first page stays shared");
        assert_ne!(table.pages(a)[1], table.pages(b)[1]);
        // The root is now alone on its tail and writes without a copy.
        assert_eq!(table.extend(&[(root, 1)]).unwrap(), []);
        for seq in [root, a, b] {
            table.free(seq);
        }
        assert_eq!(table.free_pages(), 10);
    }

    #[test]
    fn what_is_retracted_can_be_written_again() {
        let mut table = PageTable::new(3, 100);
        let seq = table.start();
        table.extend(&[(seq, 16)]).unwrap();
        table.extend(&[(seq, 1)]).unwrap();
        assert_eq!((table.length(seq), table.free_pages()), (17, 1));
        table.retract(seq, 1);
        assert_eq!((table.length(seq), table.free_pages()), (16, 2), "the page that held one token is free");
        table.extend(&[(seq, 2)]).unwrap();
        assert_eq!(table.slot(seq, 17) as usize % PAGE, 1);
        table.free(seq);
        table.retract(seq, 1);
        assert_eq!(table.free_pages(), 3);
    }

    #[test]
    fn the_last_holder_of_a_shared_tail_needs_no_copy() {
        let mut table = PageTable::new(4, 100);
        let root = table.start();
        table.extend(&[(root, 3)]).unwrap();
        let fork = table.fork(root);
        table.free(root);
        assert_eq!(table.extend(&[(fork, 1)]).unwrap(), []);
    }

    #[test]
    fn a_full_cache_changes_nothing() {
        let mut table = PageTable::new(2, 100);
        let (a, b) = (table.start(), table.start());
        let error = table.extend(&[(a, 16), (b, 17)]).unwrap_err();
        assert!(matches!(error, Error::ContextFull { needed: 48, available: 32 }), "{error}");
        assert_eq!((table.length(a), table.length(b), table.free_pages()), (0, 0, 2));
        let error = table.extend(&[(a, 101)]).unwrap_err();
        assert!(matches!(error, Error::ContextFull { needed: 101, available: 100 }), "{error}");
    }
}
