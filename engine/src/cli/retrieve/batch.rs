//! A file of questions to a file of questions with passages (upstream Contriever's `passage_retrieval.py`), and recall.
//!
//! While it is made, finished rows lie in `.NAME.journal` beside the output; a run that was killed goes on from there.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::{Args, Opened};
use crate::{
    Error, eval::has_answer::Answers, json_journal::JsonJournal, json_rows::Rows, platform::block_on, retriever::Hit,
};

/// Numbers of passages that recall is told for.
const AT: [usize; 4] = [5, 10, 20, 100];

/// Finds the passages of each row.
pub(super) fn run(opened: &mut Opened, args: &Args, data: &Path, output: &Path) -> anyhow::Result<()> {
    let rows = Rows::open(data)?;
    if let Some(error) = rows.broken() {
        return Err(error.into());
    }
    // All rows first: a bad one at the end should not cost a run.
    let questions: Vec<(Map<String, Value>, String)> =
        (0..rows.len()).map(|row| question(&rows, row)).collect::<crate::Result<_>>()?;
    if let Some(folder) = output.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let header = json!({
        "format": "selfrag-retrieve", "data": rows.sha256(), "index": opened.identity, "n_docs": args.n_docs,
        "batch": args.per_gpu_batch_size, "precision": opened.precision.name(),
        "search": opened.search, "max_tokens": args.question_maxlength,
    });
    let journal_path = output.with_file_name(format!(".{}.journal", file_name(output)));
    let mut finished = Vec::new();
    let mut journal = JsonJournal::open(&journal_path, &header, args.overwrite, &mut |line, bytes| {
        let bad = |e: serde_json::Error| {
            Error::input(journal_path.display().to_string(), format!("line {line}"), e.to_string())
        };
        finished.push(first_hit(&serde_json::from_slice(bytes).map_err(bad)?));
        Ok(())
    })?;
    // Batches are the same in every run, so that a resumed one rounds as a whole one.
    finished.truncate(finished.len().min(questions.len()) / args.per_gpu_batch_size * args.per_gpu_batch_size);
    journal.truncate(finished.len())?;
    if !finished.is_empty() {
        eprintln!("going on after {} questions", finished.len());
    }
    let bar = ProgressBar::new(questions.len() as u64)
        .with_style(ProgressStyle::with_template("{spinner} searching {bar:30} {pos}/{len} {per_sec} {eta}")?);
    bar.set_position(finished.len() as u64);
    for batch in questions[finished.len()..].chunks(args.per_gpu_batch_size) {
        let texts: Vec<&str> = batch.iter().map(|(_, question)| question.as_str()).collect();
        let hits = block_on(opened.retriever.search(&texts, args.n_docs))?;
        let found: Vec<Value> = batch.iter().zip(&hits).map(|((row, _), hits)| with_passages(row, hits)).collect();
        journal.append_all(&found)?;
        finished.extend(found.iter().map(first_hit));
        bar.inc(batch.len() as u64);
    }
    journal.sync()?;
    bar.finish_and_clear();
    publish(&journal_path, output).with_context(|| output.display().to_string())?;
    println!("{}", output.display());
    eprintln!("{}", recall(&finished, args.n_docs));
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A row and what to search for: its `question`, else its `instruction`.
fn question(rows: &Rows, row: usize) -> crate::Result<(Map<String, Value>, String)> {
    let object = rows.object(row)?;
    let text = first_known(&object, ["question", "instruction"]).and_then(Value::as_str);
    match text.map(str::to_owned) {
        Some(text) => Ok((object, text)),
        None => {
            let problem = "`question` or `instruction` with a text expected";
            Err(Error::input(rows.name(), format!("line {}", rows.line(row)), problem))
        }
    }
}

/// The row with its passages, best first, each with whether an answer is in it where answers are known.
fn with_passages(row: &Map<String, Value>, hits: &[Hit]) -> Value {
    let mut row = row.clone();
    let mut contexts = contexts(hits);
    if let Some(answers) = answers(&row) {
        for (context, hit) in contexts.iter_mut().zip(hits) {
            context["hasanswer"] = answers.are_in(&hit.passage.text).into();
        }
    }
    row.insert("ctxs".into(), contexts.into());
    Value::Object(row)
}

/// Passages as the original writes them: scores are texts.
pub(super) fn contexts(hits: &[Hit]) -> Vec<Value> {
    let context = |Hit { passage, score }: &Hit| {
        let score = format!("{:?}", score.unwrap_or_default());
        json!({"id": passage.id, "title": passage.title, "text": passage.text, "score": score})
    };
    hits.iter().map(context).collect()
}

/// The first of these keys that has a value.
fn first_known<'a>(row: &'a Map<String, Value>, keys: [&str; 2]) -> Option<&'a Value> {
    keys.iter().filter_map(|key| row.get(*key)).find(|value| !value.is_null())
}

/// `answers`, or `answer`: a text or a list of them; numbers count as their digits.
fn answers(row: &Map<String, Value>) -> Option<Answers> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let texts: Vec<String> = match first_known(row, ["answers", "answer"])? {
        Value::Array(answers) => answers.iter().filter_map(text).collect(),
        answer => vec![text(answer)?],
    };
    Some(Answers::new(texts.iter().map(String::as_str)))
}

/// Of a finished row with answers: the place of the first passage with one, if any has one.
fn first_hit(row: &Value) -> Option<Option<usize>> {
    let contexts = row["ctxs"].as_array()?;
    contexts.iter().any(|context| context["hasanswer"].is_boolean()).then_some(())?;
    Some(contexts.iter().position(|context| context["hasanswer"] == true))
}

/// The journal without its header, whole or not at all.
fn publish(journal: &Path, output: &Path) -> io::Result<()> {
    let part = output.with_file_name(format!(".{}.part", file_name(output)));
    let mut rows = BufReader::new(File::open(journal)?);
    rows.skip_until(b'\n')?;
    let mut out = BufWriter::new(File::create(&part)?);
    io::copy(&mut rows, &mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    std::fs::rename(&part, output)?;
    std::fs::remove_file(journal)
}

/// Shares of the questions with answers of which one is in the first passages.
fn recall(finished: &[Option<Option<usize>>], n_docs: usize) -> String {
    let known: Vec<Option<usize>> = finished.iter().flatten().copied().collect();
    if known.is_empty() {
        return format!("{} questions, none with answers: no recall", finished.len());
    }
    let share = |at: usize| {
        let hits = known.iter().filter(|first| first.is_some_and(|first| first < at)).count();
        format!("R@{at} {:.1} %", hits as f64 / known.len() as f64 * 100.0)
    };
    let shares: Vec<String> = AT.into_iter().filter(|at| *at <= n_docs).map(share).collect();
    let without = match finished.len() - known.len() {
        0 => String::new(),
        n => format!(", {n} without answers left out"),
    };
    format!("{} of {} questions{without}", shares.join("  "), known.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_null_is_not_there_and_numbers_are_digits() {
        let rows = [
            r#"{"question": null, "instruction": "i", "answers": null, "answer": "in 1969"}"#,
            r#"{"question": "q", "instruction": "i", "answers": ["x", 1969]}"#,
            r#"{"question": "q", "answers": 1969}"#,
            r#"{"question": "q", "answers": ["1968", null, {}]}"#,
            r#"{"question": "q", "answers": null}"#,
            r#"{"question": 1, "instruction": null}"#,
        ];
        let rows = Rows::new("r", rows.join("\n").into_bytes());
        let questions: Vec<_> = (0..5).map(|row| question(&rows, row).unwrap()).collect();
        assert_eq!(questions.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["i", "q", "q", "q", "q"]);
        let hit = |row: &Map<String, Value>| answers(row).map(|answers| answers.are_in("It was in 1969."));
        let hits: Vec<_> = questions.iter().map(|(row, _)| hit(row)).collect();
        assert_eq!(hits, [Some(true), Some(true), Some(true), Some(false), None]);
        assert!(question(&rows, 5).unwrap_err().to_string().contains("r: line 6"));
    }

    #[test]
    fn recall_counts_questions_with_answers() {
        let finished = [None, Some(None), Some(Some(0)), Some(Some(9)), Some(Some(19))];
        assert_eq!(
            recall(&finished, 20),
            "R@5 25.0 %  R@10 50.0 %  R@20 75.0 % of 4 questions, 1 without answers left out"
        );
        assert_eq!(recall(&finished[..1], 20), "1 questions, none with answers: no recall");
        assert_eq!(recall(&finished[1..3], 100), "R@5 50.0 %  R@10 50.0 %  R@20 50.0 %  R@100 50.0 % of 2 questions");
    }
}
