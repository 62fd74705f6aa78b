//! `selfrag data from-qa SET… --output FILE [--critic FILE] [--instructions FILE] [--exclude-questions FILE] [--index DIR] …`

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use super::{refuse, tell, write_rows};
use crate::{
    Error, Result,
    cli::{files::check_outputs, load, search::SearchArgs},
    data::{
        from_qa, instructions,
        notes::Notes,
        sets::{Corpus, Exclusion},
        settings::Settings,
    },
    platform::block_on,
};

/// Makes training files for generator and critic from annotated questions, without a language model.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Annotated questions in SQuAD's format (1.1, 2.0, SQuADShifts) or DPR's; .gz is unpacked.
    #[arg(required = true, value_name = "SET")]
    sets: Vec<PathBuf>,
    /// The generator's training file to write: JSON lines.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The critic's training file to write: a JSON list, or JSON lines where the name ends in .jsonl.
    #[arg(long, value_name = "FILE")]
    critic: Option<PathBuf>,
    /// Plain instructions for `[No Retrieval]`: one a line, an answer after a tab if it is known; or JSON with `instruction`, and
    /// optionally `input` and `output`.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    instructions: Vec<PathBuf>,
    /// Articles that must not appear: titles, or files with one a line.
    #[arg(long, num_args = 1.., value_name = "TITLE|FILE")]
    exclude_titles: Vec<String>,
    /// Held-out questions: neither they nor their passages' articles appear. In SQuAD's format, DPR's, or rows with `ctxs`.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    exclude_questions: Vec<PathBuf>,
    /// The other way round: of the sets only what is held out gives rows, for measuring with `eval labels`. Instructions are taken as given: name
    /// others than in training.
    #[arg(long)]
    held_out: bool,
    /// Where hard negatives are searched; without an index the sets' own passages are searched by their words.
    #[command(flatten)]
    search: SearchArgs,
    /// The encoder that made the index [default: models/encoder.gguf].
    #[arg(long, value_name = "GGUF|DIR", requires = "index")]
    encoder: Option<PathBuf>,
    /// Write settings, sources, counts and every problem as JSON.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Refuse data that has problems, instead of leaving it out.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    settings: Settings,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    args.settings.check()?;
    let outputs: Vec<&PathBuf> =
        [Some(&args.output), args.critic.as_ref(), args.summary.as_ref()].into_iter().flatten().collect();
    let read: Vec<&PathBuf> = [&args.sets, &args.instructions, &args.exclude_questions].into_iter().flatten().collect();
    check_outputs(&read, &outputs)?;
    let (mut corpus, mut notes, mut exclusion) = (Corpus::default(), Notes::default(), Exclusion::default());
    exclusion.inverted = args.held_out;
    let excludes = !(args.exclude_titles.is_empty() && args.exclude_questions.is_empty());
    anyhow::ensure!(excludes || !args.held_out, "--held-out: --exclude-titles or --exclude-questions expected");
    for excluded in &args.exclude_titles {
        match Path::new(excluded) {
            path if path.is_file() => exclusion.titles_of(path)?,
            _ => exclusion.title(excluded, &format!("--exclude-titles {excluded}")),
        }
    }
    for path in &args.exclude_questions {
        exclusion.questions_of(path)?;
    }
    for path in &args.sets {
        corpus.read(path, &mut exclusion, &mut notes)?;
    }
    exclusion.check()?;
    let mut plain = Vec::new();
    for path in &args.instructions {
        plain.extend(instructions::read(path, &mut notes)?);
    }
    args.search.check_named()?;
    if args.search.index.is_some() {
        search(args, &mut corpus, &mut exclusion, &mut notes)?;
    }
    let samples = from_qa::samples(&corpus, &plain, &args.settings, &mut notes);
    let critic = match &args.critic {
        Some(_) => from_qa::judgements(&corpus, &samples, &args.settings, &mut notes),
        None => Vec::new(),
    };
    tell(&notes);
    refuse(&notes, args.strict)?;
    anyhow::ensure!(!samples.is_empty(), "no rows: no set has a usable question, and there are no instructions");
    let generator = from_qa::json_lines(samples.iter().map(|sample| sample.row(&corpus.passages)))?;
    write(&args.output, &generator)?;
    if let Some(path) = &args.critic {
        let n = critic.len();
        write_rows(path, &critic)?;
        eprintln!("{n} judgements: {}", path.display());
    }
    if let Some(path) = &args.summary {
        let (settings, sources) = (&args.settings, &corpus.sources);
        let counts = from_qa::counts(&samples);
        let summary = serde_json::json!({"settings": settings, "sources": sources, "rows": counts, "notes": notes});
        write(path, &format!("{}\n", serde_json::to_string_pretty(&summary)?))?;
    }
    let counts: Vec<String> = from_qa::counts(&samples).iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    eprintln!("{} rows of {} questions: {}", samples.len(), corpus.questions.len(), counts.join(", "));
    println!("{}", args.output.display());
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| Error::io(path.display().to_string(), e))
}

/// What the index finds for each question that has an answer.
fn search(args: &Args, corpus: &mut Corpus, exclusion: &mut Exclusion, notes: &mut Notes) -> Result<()> {
    /// Questions that are embedded at once.
    const BATCH: usize = 64;
    let mut retriever = load::open_retriever(args.encoder.as_deref(), &args.search)?;
    // Some of what is found answers; it is left out.
    let n_docs = args.settings.hard_pool * 3;
    let answerable: Vec<usize> =
        (0..corpus.questions.len()).filter(|at| !corpus.questions[*at].answers.is_empty()).collect();
    let bar = ProgressBar::new(answerable.len() as u64).with_message("searching");
    for batch in answerable.chunks(BATCH) {
        let texts: Vec<&str> = batch.iter().map(|at| corpus.questions[*at].text.as_str()).collect();
        let hits = block_on(retriever.search(&texts, n_docs))?;
        for (at, hits) in batch.iter().zip(hits) {
            corpus.add_hits(*at, hits.into_iter().map(|hit| hit.passage).collect(), exclusion, notes);
        }
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}
