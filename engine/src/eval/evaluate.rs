//! Rows → answers → records, a batch at a time.

use super::{
    journal::Journal,
    metrics, prompts,
    record::{Method, Outcome, Record, Written},
    recording::Recorder,
    rows::{Row, Rows, Schema},
    task::{Form, Task},
};
use crate::{
    Error, Result,
    engine::Engine,
    platform::block_on,
    retriever::Passage,
    self_rag::{
        Answer, LongAnswer, LongConfig, Mode, Passages, Question, Stop, long::released_text, plain::Completion,
    },
};

/// What is to be done.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The task.
    pub task: Task,
    /// How questions are answered.
    pub method: &'a Method,
    /// What rows must have.
    pub schema: Schema,
    /// Rows answered at once.
    pub batch: usize,
    /// This shard and how many there are.
    pub shard: (usize, usize),
    /// Whether the retriever is asked also where a row has passages.
    pub search: bool,
}

impl Plan<'_> {
    /// The rows of this shard.
    pub fn range(&self, rows: &Rows) -> std::ops::Range<usize> {
        let (shard, shards) = self.shard;
        rows.len() * shard / shards..rows.len() * (shard + 1) / shards
    }
}

/// Reads every row of the shard, and returns what is wrong with those that are not usable.
pub fn check(rows: &Rows, plan: &Plan<'_>) -> Vec<Error> {
    let unusable = plan.range(rows).filter_map(|index| rows.read(index, plan.schema).err());
    rows.broken().into_iter().chain(unusable).collect()
}

/// Answers what has no record yet. `on_record` gets every new record after it is kept.
///
/// Batches are the same whether a run was interrupted or not: one that lacks a record is answered again as a whole. A row that does
/// not fit the model's context gets a record that says so; any other error ends the run, to be taken up later.
pub fn run(
    engine: &mut Engine,
    rows: &Rows,
    plan: &Plan<'_>,
    journal: &mut Journal,
    mut recorder: Option<&mut Recorder>,
    stop: &Stop,
    on_record: &mut dyn FnMut(&Record),
) -> Result<()> {
    let indices: Vec<usize> = plan.range(rows).collect();
    for batch in indices.chunks(plan.batch.max(1)) {
        if batch.iter().all(|index| journal.has(*index)) {
            continue;
        }
        let read: Vec<(usize, Result<Row>)> =
            batch.iter().map(|index| (*index, rows.read(*index, plan.schema))).collect();
        let usable: Vec<&Row> = read.iter().filter_map(|(_, row)| row.as_ref().ok()).collect();
        let mut outcomes = answer(engine, plan, &usable, stop)?.into_iter();
        if let Some(recorder) = recorder.as_deref_mut() {
            recorder.keep(engine, plan, &usable)?;
        }
        for (index, row) in &read {
            let record = match row {
                Ok(row) => record(plan, row, outcomes.next().expect("one for each usable row")),
                Err(error) => unusable(*index, rows.line(*index), error),
            };
            if !journal.has(*index) {
                journal.append(&record)?;
                on_record(&record);
            }
        }
    }
    journal.sync()
}

fn unusable(index: usize, line: usize, error: &Error) -> Record {
    let outcome = Outcome::Unusable(error.to_string());
    let (question, prompt) = (String::new(), String::new());
    Record { index, line, question, prompt, golds: Vec::new(), item: serde_json::Map::new(), outcome }
}

fn record(plan: &Plan<'_>, row: &Row, outcome: Outcome) -> Record {
    Record {
        index: row.index,
        line: row.line,
        question: row.question.clone(),
        prompt: instruction(plan, row),
        golds: row.golds.clone(),
        item: row.item.clone(),
        outcome,
    }
}

/// What the model is asked about a row.
pub fn instruction(plan: &Plan<'_>, row: &Row) -> String {
    match plan.method {
        Method::Baseline(..) => plan.task.ask_baseline(&row.question, &row.choices),
        _ => plan.task.ask(&row.question, &row.choices),
    }
}

/// A row as the engine takes it.
pub fn question(plan: &Plan<'_>, row: &Row) -> Question {
    let passages = match &row.passages {
        Some(passages) if !plan.search => Passages::Given(passages.clone()),
        _ => Passages::Retrieved,
    };
    Question { text: instruction(plan, row), query: Some(row.question.clone()), passages }
}

/// What became of the rows. A batch that does not fit the cache is halved; a row that does not fit alone has failed.
fn answer(engine: &mut Engine, plan: &Plan<'_>, rows: &[&Row], stop: &Stop) -> Result<Vec<Outcome>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let error = match answer_batch(engine, plan, rows, stop) {
        Err(error @ Error::ContextFull { .. }) => error,
        other => return other,
    };
    if rows.len() == 1 {
        return Ok(vec![Outcome::Failed(error.to_string())]);
    }
    let (first, second) = rows.split_at(rows.len() / 2);
    let mut outcomes = answer(engine, plan, first, stop)?;
    outcomes.extend(answer(engine, plan, second, stop)?);
    Ok(outcomes)
}

fn answer_batch(engine: &mut Engine, plan: &Plan<'_>, rows: &[&Row], stop: &Stop) -> Result<Vec<Outcome>> {
    let questions: Vec<Question> = rows.iter().map(|row| question(plan, row)).collect();
    let silent = &mut |_, _| {};
    let zip = |answers: Vec<Answered>| {
        rows.iter().zip(answers).map(|(row, answered)| answered.outcome(plan, row)).collect::<Vec<Outcome>>()
    };
    Ok(zip(match plan.method {
        Method::Short(config) => {
            let answers = block_on(engine.ask_batch(&questions, config, stop, silent))?;
            answers.into_iter().map(Answered::short).collect()
        }
        Method::Long(config) => {
            let answers = block_on(engine.ask_long_batch(&questions, config, stop, silent))?;
            answers.into_iter().map(|answer| Answered::long(config, answer)).collect()
        }
        Method::Baseline(prompt, config) => {
            let passages = baseline_passages(engine, plan, rows)?;
            let filled = questions.iter().zip(&passages).map(|(question, own)| prompt.fill(&question.text, own));
            let answers = block_on(engine.complete_batch(&filled.collect::<Vec<String>>(), config, stop))?;
            answers.into_iter().zip(passages).map(|(answer, own)| Answered::plain(plan.task, answer, own)).collect()
        }
    }))
}

/// What the methods' answers have in common.
struct Answered {
    prediction: String,
    /// ALCE's text and what it cites, for long tasks.
    output: Option<(String, Vec<Passage>)>,
    retrieved: bool,
    written: Written,
}

impl Answered {
    fn short(answer: Answer) -> Self {
        let (prediction, retrieved) = (answer.text.clone(), answer.retrieved);
        Self { prediction, output: None, retrieved, written: Written::Short(answer) }
    }

    fn long(config: &LongConfig, answer: LongAnswer) -> Self {
        let (text, hits) = released_text(config, &answer);
        let output = Some((text, hits.into_iter().map(|hit| hit.passage).collect()));
        let (prediction, retrieved) = (answer.text.clone(), answer.retrieved);
        Self { prediction, output, retrieved, written: Written::Long(Box::new(answer)) }
    }

    /// A baseline writes its own citations.
    fn plain(task: Task, answer: Completion, passages: Vec<Passage>) -> Self {
        let prediction = prompts::clean(task, &answer.text);
        let retrieved = !passages.is_empty();
        let output = (task.form() == Form::Long).then(|| (prediction.clone(), passages));
        let written = Written::Plain { text: answer.text, tokens: answer.tokens, truncated: answer.truncated };
        Self { prediction, output, retrieved, written }
    }

    fn outcome(self, plan: &Plan<'_>, row: &Row) -> Outcome {
        let Self { mut prediction, output, retrieved, written } = self;
        // The paper lower-cases verdicts; the released code does not.
        if plan.task == Task::Pubhealth && !plan.schema.compat {
            prediction = prediction.to_lowercase();
        }
        let (output, cited) = output.map_or((None, Vec::new()), |(text, cited)| (Some(text), cited));
        let metrics = metrics::of(plan.task, row, &prediction, output.as_deref().unwrap_or(&prediction), cited.len());
        Outcome::Answered { prediction, output, cited, metrics, retrieved, written }
    }
}

/// The passages that go into baselines' prompts: the rows' own, or the retriever's.
fn baseline_passages(engine: &mut Engine, plan: &Plan<'_>, rows: &[&Row]) -> Result<Vec<Vec<Passage>>> {
    let Method::Baseline(prompt, config) = plan.method else { return Ok(vec![Vec::new(); rows.len()]) };
    if !prompt.retrieves() || config.mode == Mode::Never {
        return Ok(vec![Vec::new(); rows.len()]);
    }
    let own = |row: &&Row| {
        let given = row.passages.clone().filter(|_| !plan.search);
        given.map(|all| all.into_iter().take(config.n_docs).collect())
    };
    let mut passages: Vec<Option<Vec<Passage>>> = rows.iter().map(own).collect();
    let missing: Vec<usize> = (0..rows.len()).filter(|&at| passages[at].is_none()).collect();
    if let Some(retriever) = engine.retriever().filter(|_| !missing.is_empty()) {
        let queries: Vec<&str> = missing.iter().map(|&at| rows[at].question.as_str()).collect();
        let found = block_on(retriever.search(&queries, config.n_docs))?;
        for (at, hits) in missing.into_iter().zip(found) {
            passages[at] = Some(hits.into_iter().map(|hit| hit.passage).collect());
        }
    }
    Ok(passages.into_iter().map(Option::unwrap_or_default).collect())
}
