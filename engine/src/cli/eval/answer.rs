//! Rows → answers → output file, with what is told meanwhile and in the end.

use std::{fmt::Write, path::Path};

use anyhow::bail;

use super::{
    options::{Common, Told},
    progress::Progress,
    records_of,
};
use crate::{
    cli::{load, terminal},
    engine::Engine,
    eval::{
        evaluate::{self, Plan},
        journal::{Journal, Records},
        metrics, output,
        record::{Header, Method, Metrics, Outcome, Record, VERSION},
        recording::Recorder,
        rows::{Rows, Schema},
    },
    generator::remote::RemoteOptions,
    self_rag::{Mode, Stop},
};

/// Unusable rows that are named one by one.
const NAMED: usize = 20;

/// Answers what the output lacks, and writes it.
pub(super) fn run(common: &Common, told: Told) -> anyhow::Result<()> {
    let Told { method, metric } = told;
    if common.shard_id >= common.num_shards {
        bail!("--shard-id: {} found, 0 to --num-shards - 1 expected", common.shard_id);
    }
    let uses_passages = match &method {
        Method::Baseline(prompt, _) => prompt.retrieves(),
        method => method.base().mode != Mode::Never,
    };
    let searches = uses_passages && (common.search || common.model.names_index());
    let rows = Rows::open(&common.input)?;
    let plan = Plan {
        task: common.task,
        method: &method,
        schema: Schema {
            task: common.task,
            passages_optional: searches || !uses_passages,
            n_docs: if uses_passages { method.base().n_docs } else { 0 },
            compat: common.is_compat(),
        },
        batch: common.batch.max(1),
        shard: (common.shard_id, common.num_shards),
        search: common.search && uses_passages,
    };
    check_rows(&rows, &plan, common.strict)?;

    let records = records_of(&common.output);
    let header = Header {
        selfrag_eval: VERSION,
        task: common.task,
        method: method.clone(),
        compat_rows: plan.schema.compat,
        input: common.input.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: rows.sha256().to_owned(),
        rows: rows.len(),
        shard: plan.shard,
        batch: plan.batch,
        generator: generator(common)?,
        index: if searches { Some(common.model.index_name()?) } else { None },
        search: plan.search,
    };
    let mut journal = Journal::open(&records, &header, common.overwrite)?;
    if common.record.is_some() && !journal.is_empty() {
        bail!("{}: a recording needs the whole run: name another output, or --overwrite", records.display());
    }
    let total = plan.range(&rows).len();
    if journal.len() < total {
        answer(common, &rows, &plan, &header, &mut journal, metric, searches)?;
    }
    drop(journal);
    output::write(&records, &common.output, metric)?;
    print!("{}", summary(&records)?);
    Ok(())
}

/// Says what is wrong with the file before anything is loaded.
fn check_rows(rows: &Rows, plan: &Plan<'_>, strict: bool) -> anyhow::Result<()> {
    let problems = evaluate::check(rows, plan);
    for problem in problems.iter().take(NAMED) {
        eprintln!("{}", terminal::safe_line(&problem.to_string(), 300));
    }
    if problems.len() > NAMED {
        eprintln!("… and {} more", problems.len() - NAMED);
    }
    let total = plan.range(rows).len();
    if strict && !problems.is_empty() {
        bail!("{}: {} unusable of {total} rows, refused by --strict", rows.name(), problems.len());
    }
    if problems.len() >= total {
        bail!("{}: no usable rows for --task {}", rows.name(), plan.task.name());
    }
    if !problems.is_empty() {
        eprintln!("{} unusable of {total} rows, skipped", problems.len());
    }
    Ok(())
}

fn answer(
    common: &Common,
    rows: &Rows,
    plan: &Plan<'_>,
    header: &Header,
    journal: &mut Journal,
    metric: &'static str,
    searches: bool,
) -> anyhow::Result<()> {
    let mut progress = Progress::new(metric, journal.len(), plan.range(rows).len())?;
    let value = |record: &Record| record.metrics().and_then(|metrics| metrics.get(metric).copied());
    for record in Records::open(&records_of(&common.output))? {
        progress.earlier(value(&record?));
    }
    let mut engine = engine(common, plan, searches)?;
    let mut recorder = None;
    if let Some(path) = &common.record {
        let (started, watched) = Recorder::start(path, engine, header)?;
        (recorder, engine) = (Some(started), watched);
    }
    let on_record = &mut |record: &Record| {
        // Unusable rows were named before.
        if let Outcome::Failed(problem) = &record.outcome {
            eprintln!("line {}: {}", record.line, terminal::safe_line(problem, 300));
        }
        progress.row(value(record));
    };
    evaluate::run(&mut engine, rows, plan, journal, recorder.as_mut(), &Stop::default(), on_record)?;
    progress.finish();
    Ok(())
}

/// What generates, for the header.
fn generator(common: &Common) -> anyhow::Result<String> {
    Ok(match &common.remote.generator {
        // Not its address: the same model may be served elsewhere tomorrow.
        Some(_) => format!("served: {}", common.model.served_name().unwrap_or_default()),
        None => common.model.generator()?,
    })
}

fn engine(common: &Common, plan: &Plan<'_>, searches: bool) -> anyhow::Result<Engine> {
    let remote = &common.remote;
    let (Some(address), Some(tokenizer)) = (&remote.generator, &remote.tokenizer) else {
        return Ok(load::engine(&common.model, searches, false)?);
    };
    let base = plan.method.base();
    let options = RemoteOptions {
        model: common.model.served_name().map(str::to_owned),
        api_key: std::env::var("OPENAI_API_KEY").ok().filter(|key| !key.is_empty()),
        concurrency: remote.concurrency,
        logprobs: remote.logprobs,
        read_ahead: base.max_new_tokens,
        retries: remote.retries,
        decides: base.mode == Mode::Adaptive && !matches!(plan.method, Method::Baseline(..)),
        ..RemoteOptions::new(address)
    };
    Ok(load::remote_engine(&common.model, options, tokenizer, searches)?)
}

/// The means of a run's metrics, as a table of one line.
pub(super) fn summary(records: &Path) -> anyhow::Result<String> {
    let records = Records::open(records)?;
    let header = records.header.clone();
    let (mut all, mut retrieved, mut failed, mut unusable): (Vec<Metrics>, _, _, _) = (Vec::new(), 0, 0, 0);
    for record in records {
        match record?.outcome {
            Outcome::Answered { metrics, retrieved: used, .. } => {
                all.push(metrics);
                retrieved += usize::from(used);
            }
            Outcome::Failed(_) => failed += 1,
            Outcome::Unusable(_) => unusable += 1,
        }
    }
    let means = metrics::means(&all);
    let (mut names, mut rule, mut values) =
        (String::from("| task | answered |"), String::from("| --- | --- |"), String::new());
    write!(values, "| {} | {} |", header.task.name(), all.len())?;
    for (name, mean) in &means {
        write!(names, " {name} |")?;
        rule += " --- |";
        write!(values, " {mean:.4} |")?;
    }
    let frequency = metrics::retrieval_frequency(retrieved, all.len(), header.compat_rows);
    let mut out = format!("{names} retrieval frequency |\n{rule} --- |\n{values} {frequency:.4} |\n");
    if failed + unusable > 0 {
        writeln!(out, "\nnot scored: {unusable} unusable rows, {failed} that the model could not answer")?;
    }
    Ok(out)
}
