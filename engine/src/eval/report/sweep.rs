//! What other thresholds would have given, from runs over one file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::{Run, chart};
use crate::eval::{
    metrics,
    record::{Method, Outcome, Written},
};

/// Thresholds from 0 to 1.
const STEPS: usize = 20;

/// What is known of a question from all runs over its file.
#[derive(Default, Clone, Copy)]
struct Known {
    probability: Option<f32>,
    with: Option<f64>,
    without: Option<f64>,
}

/// At one threshold: the share that retrieves; the mean over those whose answer is known, and how many those are.
struct Point {
    threshold: f32,
    frequency: f64,
    mean: Option<f64>,
    n_known: usize,
}

/// The sweep of each file over which an adaptive run was made.
pub(super) fn of(runs: &[Run]) -> String {
    let is_reflective = |run: &&Run| !matches!(run.header.method, Method::Baseline(..));
    let key = |run: &Run| {
        let form = matches!(run.header.method, Method::Long(_));
        (run.header.task.name(), run.header.sha256.clone(), form)
    };
    let files: BTreeSet<_> = runs.iter().filter(is_reflective).map(key).collect();
    let mut out = String::new();
    for file in files {
        let mut known: BTreeMap<usize, Known> = BTreeMap::new();
        let own = runs.iter().filter(is_reflective).filter(|run| key(run) == file);
        for run in own {
            collect(run, &mut known);
        }
        known.retain(|_, known| known.probability.is_some());
        if let Some(points) = points(&known) {
            out += &show(file.0, &points, known.len());
        }
    }
    out
}

fn collect(run: &Run, known: &mut BTreeMap<usize, Known>) {
    let headline = metrics::headline(run.header.task);
    for record in &run.records {
        let Outcome::Answered { metrics, retrieved, written, .. } = &record.outcome else { continue };
        let known = known.entry(record.index).or_default();
        let probability = match written {
            Written::Short(answer) => answer.probability,
            Written::Long(answer) => answer.probability,
            Written::Plain { .. } => None,
        };
        known.probability = known.probability.or(probability);
        let value = metrics.get(headline).copied();
        if *retrieved {
            known.with = known.with.or(value);
        } else {
            known.without = known.without.or(value);
        }
    }
}

fn points(known: &BTreeMap<usize, Known>) -> Option<Vec<Point>> {
    if known.is_empty() {
        return None;
    }
    let at = |step: usize| {
        let threshold = step as f32 / STEPS as f32;
        let retrieves = |known: &&Known| known.probability.is_some_and(|probability| probability > threshold);
        let value = |known: &Known| if retrieves(&known) { known.with } else { known.without };
        let values: Vec<f64> = known.values().filter_map(value).collect();
        Point {
            threshold,
            frequency: known.values().filter(retrieves).count() as f64 / known.len() as f64,
            mean: (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64),
            n_known: values.len(),
        }
    };
    Some((0..=STEPS).map(at).collect())
}

fn show(task: &str, points: &[Point], total: usize) -> String {
    let headline = metrics::headline(
        super::super::task::Task::ALL.into_iter().find(|known| known.name() == task).expect("a task"),
    );
    let mut out = format!("<h3>{task}</h3>\n<div class=\"charts\">");
    let frequency = points.iter().map(|point| (point.threshold, Some(point.frequency))).collect();
    let mut lines = vec![chart::Line { colour: "var(--b)", points: frequency }];
    // Words of an answer have no place between 0 and 1.
    if headline != "words" {
        let points = points.iter().map(|point| (point.threshold, point.mean)).collect();
        lines.push(chart::Line { colour: "var(--a)", points });
    }
    out += &chart::lines(&format!("over δ: {headline} (blue), retrieval frequency (orange)"), &lines);
    let _ = writeln!(
        out,
        "<table><tr><th>δ</th><th>retrieval frequency</th><th>{headline}</th><th>questions known of {total}</th></tr>"
    );
    for point in points.iter().step_by(2) {
        let mean = point.mean.map_or("–".into(), |mean| format!("{mean:.4}"));
        let _ = writeln!(
            out,
            "<tr><td class=\"n\">{:.1}</td><td class=\"n\">{:.4}</td><td class=\"n\">{mean}</td><td class=\"n\">{}</td></tr>",
            point.threshold, point.frequency, point.n_known
        );
    }
    out + "</table></div>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_by_hand() {
        let known = |probability, with, without| Known { probability: Some(probability), with, without };
        let all = BTreeMap::from([
            (0, known(0.9, Some(1.0), Some(0.0))),
            (1, known(0.3, Some(0.0), Some(1.0))),
            (2, known(0.1, Some(1.0), None)),
        ]);
        let points = points(&all).unwrap();
        let at = |step: usize| (points[step].frequency, points[step].mean, points[step].n_known);
        assert_eq!(at(0), (1.0, Some(2.0 / 3.0), 3), "all retrieve");
        assert_eq!(at(4), (2.0 / 3.0, Some(0.5), 2), "δ 0.2: what the third would say without is not known");
        assert_eq!(at(10), (1.0 / 3.0, Some(1.0), 2), "δ 0.5");
        assert_eq!(at(20).0, 0.0);
    }
}
