//! Counts a download's bytes and measures its speed over the last seconds.

use std::collections::VecDeque;

use super::{Phase, Progress};
use crate::platform::now_ms;

/// The speed is the mean over this window.
const WINDOW_MS: f64 = 3000.0;
/// Progress is told at most this often; a page repaints no faster.
const INTERVAL_MS: f64 = 100.0;

pub(super) struct Meter {
    total: u64,
    done: u64,
    /// When bytes arrived, and how many.
    arrivals: VecDeque<(f64, usize)>,
    told_ms: f64,
}

impl Meter {
    pub(super) fn new(total: u64) -> Self {
        Self { total, done: 0, arrivals: VecDeque::new(), told_ms: f64::NEG_INFINITY }
    }

    /// Bytes came over the network.
    pub(super) fn arrived(&mut self, n_bytes: usize) {
        let now = now_ms();
        self.arrivals.push_back((now, n_bytes));
        while self.arrivals.front().is_some_and(|(at, _)| now - at > WINDOW_MS) {
            self.arrivals.pop_front();
        }
    }

    /// A file is complete.
    pub(super) fn file_done(&mut self, n_bytes: u64) {
        self.done += n_bytes;
    }

    /// The progress with `position` bytes of the current file; none when the last one was told a moment ago and this is not
    /// the `last` of its kind.
    pub(super) fn progress(&mut self, file: &str, phase: Phase, position: u64, last: bool) -> Option<Progress> {
        let now = now_ms();
        if now - self.told_ms < INTERVAL_MS && !last {
            return None;
        }
        self.told_ms = now;
        let bytes_per_second = match (phase, self.arrivals.front()) {
            (Phase::Downloading, Some((first, _))) => {
                let n_bytes: usize = self.arrivals.iter().map(|(_, n)| n).sum();
                n_bytes as f64 * 1e3 / (now - first).max(50.0)
            }
            _ => 0.0,
        };
        let bytes = (self.done + position).min(self.total);
        Some(Progress { file: file.to_owned(), phase, bytes, total: self.total, bytes_per_second })
    }
}
