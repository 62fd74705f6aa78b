//! Records → the files that the original's tools read.
//!
//! | form | layout |
//! | --- | --- |
//! | short, baselines | one JSON object: `preds`, `prompts`, `metric_results`, `all_results`, `golds`, `metric`, `metric_mean`, `scores` |
//! | ASQA, ELI5 | ALCE's: `{"data": [item with output, docs, intermediate], "args": [], …}`, for its `eval.py --f` |
//! | FactScore | JSON lines: `input`, `output`, `topic`, `cat`, `intermediate` |
//!
//! Always made from a journal on disk, so that an interrupted run writes the same bytes as one that was not.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::{
    journal::Records,
    metrics,
    record::{Outcome, Record, Written},
    task::{Form, Task},
};
use crate::{Error, Result, self_rag::Answer};

/// Writes a journal's records to `output` in the layout of their task; `metric` is what the short form's file is scored by.
pub fn write(journal: &Path, output: &Path, metric: &str) -> Result<()> {
    let records = Records::open(journal)?;
    let task = records.header.task;
    let records: Vec<Record> = records.collect::<Result<_>>()?;
    let name = output.display().to_string();
    let bytes = match (task, task.form()) {
        (Task::Factscore, _) => factscore(&records),
        (_, Form::Long) => alce(&records).to_string().into_bytes(),
        (_, Form::Short) => short(&records, metric).to_string().into_bytes(),
    };
    // Whole or not at all: a reader never sees half a file.
    let part = PathBuf::from(format!("{name}.part"));
    let write = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(&part)?);
        file.write_all(&bytes)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&part, output)
    };
    write().map_err(|e| Error::io(name, e))
}

/// `run_short_form.py`'s file. `golds` and `scores` are empty there too.
pub fn short(records: &[Record], metric: &str) -> Value {
    let (mut preds, mut prompts, mut results, mut all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for record in records {
        let Outcome::Answered { prediction, metrics, written, .. } = &record.outcome else { continue };
        preds.push(json!(prediction));
        prompts.push(json!(crate::generator::prompt::instruction(&record.prompt)));
        let value = metrics.get(metric).copied().unwrap_or(0.0);
        // 0 and 1 are integers there.
        results.push(if value.fract() == 0.0 { json!(value as u8) } else { json!(value) });
        all.push(match written {
            Written::Short(answer) => all_results(answer),
            Written::Plain { text, .. } => json!({"no_retrieval": text}),
            Written::Long(_) => Value::Null,
        });
    }
    let mean = results.iter().filter_map(Value::as_f64).sum::<f64>() / results.len().max(1) as f64;
    json!({
        "preds": preds,
        "prompts": prompts,
        "metric_results": results,
        "all_results": all,
        "golds": [],
        "metric": metric,
        "metric_mean": mean,
        "scores": [],
    })
}

fn all_results(answer: &Answer) -> Value {
    let mut results = Map::new();
    for (index, candidate) in answer.candidates.iter().enumerate() {
        match &candidate.hit {
            None => results.insert("no_retrieval".into(), json!(candidate.text)),
            Some(hit) => {
                let result = json!({"pred": candidate.text, "score": candidate.scores.segment, "ctx": hit.passage});
                results.insert(format!("retrieval_{index}"), result)
            }
        };
    }
    Value::Object(results)
}

/// ALCE's file.
pub fn alce(records: &[Record]) -> Value {
    let item = |record: &Record| {
        let Outcome::Answered { prediction, output, cited, written, .. } = &record.outcome else { return None };
        let mut item = record.item.clone();
        item.insert("output".into(), json!(output.as_ref().unwrap_or(prediction)));
        item.insert("docs".into(), json!(cited));
        item.insert("intermediate".into(), json!(intermediate(written)));
        Some(Value::Object(item))
    };
    let data: Vec<Value> = records.iter().filter_map(item).collect();
    json!({"data": data, "args": [], "total_cost": 0.0, "azure_filter_fail": ""})
}

/// FactScore's lines. Citations would count as facts, so the text without them.
pub fn factscore(records: &[Record]) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in records {
        let Outcome::Answered { prediction, written, .. } = &record.outcome else { continue };
        let field = |name: &str| record.item.get(name).cloned().unwrap_or(Value::Null);
        let line = json!({
            "input": field("input"),
            "output": metrics::without_citations(prediction),
            "topic": field("topic"),
            "cat": field("cat"),
            "intermediate": intermediate(written),
        });
        lines.extend_from_slice(line.to_string().as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// The raw segments, the question's `[Retrieval]` first.
fn intermediate(written: &Written) -> Vec<String> {
    match written {
        Written::Long(answer) => {
            let retrieved = answer.retrieved.then(|| crate::tokenizer::reflection::NAMES[1].to_owned());
            let raw = answer.path.iter().filter_map(|&node| Some(answer.tree.nodes.get(node)?.raw.clone()));
            retrieved.into_iter().chain(raw).collect()
        }
        Written::Plain { text, .. } => vec![text.clone()],
        Written::Short(answer) => vec![answer.text.clone()],
    }
}
