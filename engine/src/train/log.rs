//! What a run tells while it goes: log.jsonl, TensorBoard's scalars, and how fast it is.

use std::{
    collections::VecDeque,
    io::Write,
    path::{Path, PathBuf},
};

use super::{events::Events, run::Step};
use crate::{Error, Result, platform::now_ms};

/// Steps over which speed is measured: the first of a GPU compile and tune kernels.
const WINDOW: usize = 16;

/// How fast a run is, over the last steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Tokens a second, padding left out.
    pub tokens_per_second: f64,
    /// 10¹² floating-point operations that the result needs, a second (see [`super::Flops`]).
    pub tflops: f64,
    /// Their part of the devices' peak, where that is known: model FLOPs utilisation.
    pub mfu: Option<f64>,
    /// Until the last step.
    pub eta_seconds: f64,
}

/// Measures a run's pace.
pub(super) struct Clock {
    total_steps: u64,
    peak_tflops: Option<f64>,
    tokens: u64,
    flops: f64,
    /// Milliseconds, tokens and operations after each step.
    times: VecDeque<(f64, u64, f64)>,
}

impl Clock {
    /// `peak_tflops`: of all devices together.
    pub(super) fn start(total_steps: u64, peak_tflops: Option<f64>) -> Self {
        Self { total_steps, peak_tflops, tokens: 0, flops: 0.0, times: VecDeque::from([(now_ms(), 0, 0.0)]) }
    }

    /// The pace after a step.
    pub(super) fn after(&mut self, step: &Step) -> Pace {
        self.tokens += step.tokens;
        self.flops += step.flops;
        let (now, (then, tokens, flops)) = (now_ms(), self.times[0]);
        let seconds = (now - then).max(1e-3) / 1e3;
        let left = self.total_steps.saturating_sub(step.step) as f64;
        let tflops = (self.flops - flops) / seconds / 1e12;
        let pace = Pace {
            tokens_per_second: (self.tokens - tokens) as f64 / seconds,
            tflops,
            mfu: self.peak_tflops.map(|peak| tflops / peak),
            eta_seconds: left * seconds / self.times.len() as f64,
        };
        self.times.push_back((now, self.tokens, self.flops));
        if self.times.len() > WINDOW {
            self.times.pop_front();
        }
        pace
    }
}

/// log.jsonl, a line a step, and TensorBoard's event file.
pub(super) struct Log {
    file: std::fs::File,
    name: String,
    folder: PathBuf,
    /// Begun with the first step: a run that has nothing left to do leaves no empty one.
    events: Option<Events>,
}

impl Log {
    /// Keeps the lines up to `step`: those after it will be written again.
    pub(super) fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join("log.jsonl");
        let name = path.display().to_string();
        let io = |e: std::io::Error| Error::io(&name, e);
        let text = if path.exists() { std::fs::read_to_string(&path).map_err(io)? } else { String::new() };
        let done = |line: &&str| {
            let line: Option<serde_json::Value> = serde_json::from_str(line).ok();
            line.and_then(|line| line["step"].as_u64()).is_some_and(|number| number <= step)
        };
        let kept: String = text.lines().filter(done).flat_map(|line| [line, "\n"]).collect();
        let part = folder.join(".log.jsonl.part");
        std::fs::write(&part, kept).and_then(|()| std::fs::rename(&part, &path)).map_err(io)?;
        let file = std::fs::OpenOptions::new().append(true).open(&path).map_err(io)?;
        Ok(Self { file, name, folder: folder.to_owned(), events: None })
    }

    /// Writes a step down.
    pub(super) fn write(&mut self, step: &Step, pace: Pace) -> Result<()> {
        let mut line = serde_json::to_value(step).expect("plain data");
        line["tokens_per_second"] = pace.tokens_per_second.into();
        line["tflops"] = pace.tflops.into();
        line["eta_seconds"] = pace.eta_seconds.into();
        let mut scalars = vec![
            ("train/loss", step.loss),
            ("train/learning_rate", step.lr),
            ("train/grad_norm", step.grad_norm),
            ("train/epoch", step.epoch),
            ("speed/tokens_per_second", pace.tokens_per_second),
            ("speed/tflops", pace.tflops),
        ];
        if let Some(mfu) = pace.mfu {
            line["mfu"] = mfu.into();
            scalars.push(("speed/mfu", mfu));
        }
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|e| Error::io(&self.name, e))?;
        if self.events.is_none() {
            self.events = Some(Events::create(&self.folder, step.step)?);
        }
        self.events.as_mut().expect("begun above").scalars(step.step, &scalars)
    }
}
