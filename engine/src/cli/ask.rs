//! `selfrag ask "When does overfitting occur?" [--mode adaptive|always|never] [--threshold 0.2] [--passage FILE] [--json]`
//!
//! On a terminal the candidates are shown while they are written; the answer goes to standard output, everything else to standard
//! error, so that a pipe gets the answer alone.

use std::{io::IsTerminal, path::PathBuf};

use anyhow::bail;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{
    load::{self, ModelArgs},
    questions,
    settings::Settings,
    terminal,
};
use crate::{
    event::Event,
    platform::block_on,
    retriever::Passage,
    self_rag::{Answer, Mode, Question, Stop},
};

/// Questions that are answered as one batch; each has `n_docs` candidates in the KV cache.
const BATCH: usize = 4;

/// Answers a question, or a file of them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The question or instruction.
    question: Option<String>,
    /// A file with a question on each line, or JSON lines with a `question`.
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// A passage to use instead of the retriever's; `-` reads standard input. May be given several times.
    #[arg(long, value_name = "FILE")]
    passage: Vec<PathBuf>,
    /// A passage's text. May be given several times.
    #[arg(long, value_name = "TEXT")]
    paragraph: Vec<String>,
    /// Print one JSON object for each question.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    settings: Settings,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.settings.config()?;
    let texts = match (&args.question, &args.questions) {
        (Some(question), None) => vec![question.clone()],
        (None, Some(file)) => questions::plain(file)?,
        _ => bail!("give a question, or a file of them with --questions"),
    };
    let passages = given_passages(&args)?;
    let needs_retriever = passages.is_empty() && config.mode != Mode::Never;
    let to_question = |text: String| {
        if passages.is_empty() { Question::new(text) } else { Question::with_passages(text, passages.clone()) }
    };
    let questions: Vec<Question> = texts.into_iter().map(to_question).collect();
    let mut engine = load::engine(&args.model, needs_retriever, true)?;
    let stop = Stop::default();
    for batch in questions.chunks(BATCH) {
        let mut view = Live::new(batch.len() == 1 && !args.json);
        let answers = block_on(engine.ask_batch(batch, &config, &stop, &mut |index, event| view.show(index, event)))?;
        view.clear();
        let told = engine.retriever().and_then(|retriever| retriever.told());
        if let Some(told) = told.filter(|_| answers.iter().any(|answer| answer.retrieved)) {
            eprintln!("passages: {told}");
        }
        for answer in &answers {
            print_answer(answer, args.json, questions.len() > 1)?;
        }
    }
    Ok(())
}

fn given_passages(args: &Args) -> anyhow::Result<Vec<Passage>> {
    let files = args.passage.iter().map(|path| questions::passage(path));
    let mut passages = files.collect::<crate::Result<Vec<_>>>()?;
    passages.extend(
        args.paragraph.iter().enumerate().map(|(i, text)| questions::given(format!("paragraph {}", i + 1), "", text)),
    );
    Ok(passages)
}

fn print_answer(answer: &Answer, json: bool, with_question: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", terminal::answer_json(answer)?);
        return Ok(());
    }
    if with_question {
        eprintln!("\n{}", terminal::safe_line(&answer.question, 200));
    }
    eprintln!("\n{}", terminal::table(answer));
    if let Some(notice) = terminal::relevance_notice(answer) {
        eprintln!("{notice}");
    }
    println!("{}", terminal::cited(answer));
    Ok(())
}

/// What is shown while an answer is written: a line for each candidate. Draws on standard error, and only if that is a terminal.
struct Live {
    on: bool,
    lines: MultiProgress,
    candidates: Vec<(ProgressBar, String)>,
    titles: Vec<String>,
}

impl Live {
    fn new(on: bool) -> Self {
        Self { on, lines: MultiProgress::new(), candidates: Vec::new(), titles: Vec::new() }
    }

    fn show(&mut self, index: usize, event: Event) {
        match event {
            Event::Warning { message } => {
                self.say(&format!("question {}: {}", index + 1, terminal::safe_line(&message, 200)))
            }
            _ if !self.on => {}
            Event::Decision { probability, threshold, retrieve } => {
                self.say(&terminal::decision(probability, threshold, retrieve));
            }
            Event::Passages { hits } => {
                self.titles = hits.iter().map(|hit| terminal::safe_line(terminal::name(&hit.passage), 24)).collect();
            }
            Event::Text { candidate, text } if std::io::stderr().is_terminal() => self.append(candidate, &text),
            _ => {}
        }
    }

    fn say(&self, line: &str) {
        self.lines.suspend(|| eprintln!("{line}"));
    }

    fn append(&mut self, candidate: usize, text: &str) {
        while self.candidates.len() <= candidate {
            let line = self.lines.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{prefix:24!} {wide_msg}") {
                line.set_style(style);
            }
            line.set_prefix(self.titles.get(self.candidates.len()).cloned().unwrap_or_default());
            self.candidates.push((line, String::new()));
        }
        let (line, so_far) = &mut self.candidates[candidate];
        so_far.push_str(text);
        line.set_message(terminal::safe_line(so_far, 400));
    }

    fn clear(self) {
        self.candidates.iter().for_each(|(line, _)| line.finish_and_clear());
    }
}
