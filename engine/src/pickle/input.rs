//! A pickle's bytes, read through a window: what it stores raw may be larger than memory, and is passed over.

use crate::{
    Error, Result,
    platform::{ByteSource, block_on},
};

/// Bytes in memory at a time, and the longest piece that is looked at.
pub(super) const WINDOW: usize = 64 << 10;

/// Part of a file, from `start` on.
pub(super) struct Input<'a> {
    source: &'a dyn ByteSource,
    start: u64,
    size: u64,
    /// What is written behind a place in messages.
    inside: &'static str,
    pub(super) at: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl<'a> Input<'a> {
    pub(super) fn new(source: &'a dyn ByteSource, start: u64, size: u64, inside: &'static str) -> Self {
        Self { source, start, size, inside, at: 0, window: Vec::new(), window_start: 0 }
    }

    /// Bytes that follow.
    pub(super) fn left(&self) -> u64 {
        self.size - self.at
    }

    /// The file's place of a place in the pickle.
    pub(super) fn place(&self, at: u64) -> u64 {
        self.start + at
    }

    /// The next `len` bytes, at most [`WINDOW`].
    pub(super) fn take(&mut self, len: usize) -> Result<&[u8]> {
        let at = self.at;
        self.skip(len as u64)?;
        self.peek(at, len)
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, len: u64) -> Result<()> {
        if len > self.left() {
            return Err(self.bad(&format!("{len} bytes expected, {} left", self.left())));
        }
        self.at += len;
        Ok(())
    }

    /// Bytes that were passed over, at most [`WINDOW`].
    pub(super) fn peek(&mut self, at: u64, len: usize) -> Result<&[u8]> {
        self.check(len)?;
        let end = at + len as u64;
        if at < self.window_start || end > self.window_start + self.window.len() as u64 {
            let size = (self.size - at).min(WINDOW as u64) as usize;
            self.window.resize(size, 0);
            block_on(self.source.read_into(self.start + at, &mut self.window))?;
            self.window_start = at;
        }
        let from = (at - self.window_start) as usize;
        Ok(&self.window[from..from + len])
    }

    /// Bytes from anywhere. The window only goes on, to what is next to it: pieces far apart, asked for in turns, cost what they are long.
    pub(super) fn piece(&mut self, at: u64, len: usize) -> Result<Vec<u8>> {
        let near = self.window_start..=self.window_start + (self.window.len() + WINDOW) as u64;
        if near.contains(&at) {
            return Ok(self.peek(at, len)?.to_vec());
        }
        self.check(len)?;
        block_on(self.source.read(self.start + at, len))
    }

    fn check(&self, len: usize) -> Result<()> {
        if len <= WINDOW {
            return Ok(());
        }
        Err(self.bad(&format!("a piece of {len} bytes, at most {WINDOW} expected")))
    }

    /// A little-endian number of `len` ≤ 8 bytes.
    pub(super) fn unsigned(&mut self, len: usize) -> Result<u64> {
        Ok(self.take(len)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// A line without its end.
    pub(super) fn line(&mut self) -> Result<String> {
        let at = self.at;
        let most = self.left().min(1024) as usize;
        let len = self.peek(at, most)?.iter().position(|&byte| byte == b'\n');
        let len = len.ok_or_else(|| self.bad("a line expected"))?;
        let line = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.skip(1)?;
        Ok(line)
    }

    /// An error here.
    pub(super) fn bad(&self, problem: &str) -> Error {
        self.bad_at(self.at, problem)
    }

    pub(super) fn bad_at(&self, at: u64, problem: &str) -> Error {
        Error::input(self.source.name(), format!("byte {at}{}", self.inside), problem)
    }
}
