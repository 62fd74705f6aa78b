//! How far a run is: on a terminal a bar, elsewhere a line now and then; always on standard error.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// Rows done, time to go, and the mean of the metric so far.
pub(super) struct Progress {
    bar: ProgressBar,
    metric: &'static str,
    start: Instant,
    told: Instant,
    /// Rows done in this run, and left when it began.
    done: usize,
    left: usize,
    sum: f64,
    scored: usize,
}

impl Progress {
    /// `done` rows of `total` were answered before.
    pub(super) fn new(metric: &'static str, done: usize, total: usize) -> anyhow::Result<Self> {
        let bar = ProgressBar::new(total as u64);
        bar.set_style(ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} {msg}")?);
        bar.set_position(done as u64);
        let now = Instant::now();
        Ok(Self { bar, metric, start: now, told: now, done: 0, left: total - done, sum: 0.0, scored: 0 })
    }

    /// A row that was answered before.
    pub(super) fn earlier(&mut self, value: Option<f64>) {
        self.scored += usize::from(value.is_some());
        self.sum += value.unwrap_or(0.0);
    }

    /// A row that was answered now.
    pub(super) fn row(&mut self, value: Option<f64>) {
        self.earlier(value);
        self.done += 1;
        self.bar.inc(1);
        let line = self.line();
        if !std::io::stderr().is_terminal() && self.told.elapsed() >= PAUSE {
            eprintln!("{}/{} {line}", self.bar.position(), self.bar.length().unwrap_or_default());
            self.told = Instant::now();
        }
        self.bar.set_message(line);
    }

    fn line(&self) -> String {
        let secs = self.start.elapsed().as_secs_f64();
        let left = self.left.saturating_sub(self.done) as f64 * secs / self.done.max(1) as f64;
        let mean = self.sum / self.scored.max(1) as f64;
        format!("{} {mean:.4}, {:.1} questions a minute, {} to go", self.metric, self.per_minute(), clock(left))
    }

    /// Rows a minute in this run.
    fn per_minute(&self) -> f64 {
        self.done as f64 * 60.0 / self.start.elapsed().as_secs_f64().max(1e-3)
    }

    /// Takes the bar away and says how long it took.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
        if self.done > 0 {
            let secs = self.start.elapsed().as_secs_f64();
            eprintln!("{} rows in {}, {:.1} a minute", self.done, clock(secs), self.per_minute());
        }
    }
}

/// 1:02:03, or 2:03.
fn clock(secs: f64) -> String {
    let secs = secs.round() as u64;
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{secs:02}") } else { format!("{minutes}:{secs:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_metric_counts_earlier_rows() {
        let mut progress = Progress::new("match", 1, 4).unwrap();
        progress.earlier(Some(1.0));
        progress.row(Some(0.0));
        progress.row(None);
        assert!(progress.line().starts_with("match 0.5000, "), "{}", progress.line());
        assert_eq!((progress.bar.position(), progress.left), (3, 3));
        assert_eq!((clock(62.6), clock(3723.0)), ("1:03".into(), "1:02:03".into()));
    }
}
