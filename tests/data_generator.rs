//! The promise: `selfrag data generator` makes a generator's rows of instructions with answers; killed anywhere it goes on to the same
//! bytes and asks nothing twice; bad sources are told.

#[path = "common/scratch.rs"]
mod scratch;

use std::{collections::BTreeMap, fs, path::Path};

use scratch::Scratch;
use selfrag::{
    Error, Result,
    data::{
        critic::Judgement,
        from_qa::json_lines,
        generator::{
            critic::{Critic, Verdict, prompt},
            settings::{CriticTemplate, Settings},
            sources::{self, SourceFile},
            steps::Steps,
            work::Work,
        },
        lexical::LexicalRetriever,
        notes::Notes,
        report::report,
        rows::TrainingFile,
    },
    platform::LocalFuture,
    retriever::{Hit, Passage, Retriever},
};
use serde_json::{Value, json};

/// A critic of rules: poems need no passages, a sentence with `also` goes on, a passage about dens helps with foxes.
fn verdict(judgement: Judgement<'_>) -> &'static str {
    let about_dens = |text: &str| text.contains("dens");
    match judgement {
        Judgement::Retrieval { instruction } if instruction.contains("poem") => "[No Retrieval]",
        Judgement::Retrieval { .. } => "[Retrieval]",
        Judgement::NextRetrieval { output, three_way, .. } if output.contains("also") => match three_way {
            true => "[Continue to Use Evidence]",
            false => "[No Retrieval]",
        },
        Judgement::NextRetrieval { .. } => "[Retrieval]",
        Judgement::Relevance { evidence, .. } if about_dens(evidence) => "[Relevant]",
        Judgement::Relevance { .. } => "[Irrelevant]",
        Judgement::Support { evidence, output, .. } if about_dens(evidence) && about_dens(output) => {
            "[Fully supported]"
        }
        Judgement::Support { .. } => "[No support / Contradictory]",
        Judgement::Utility { .. } => "[Utility:5]",
    }
}

/// What was asked of the critic, and when it dies.
#[derive(Default)]
struct Rules {
    asked: Vec<String>,
    calls: usize,
    fail_at: Option<usize>,
}

impl Critic for Rules {
    fn name(&self) -> String {
        "rules".into()
    }

    fn judge(&mut self, asked: &[Judgement<'_>]) -> Result<Vec<Verdict>> {
        self.calls += 1;
        if self.fail_at == Some(self.calls) {
            return Err(Error::input("critic", "call", "killed"));
        }
        self.asked.extend(asked.iter().map(|judgement| prompt(*judgement, CriticTemplate::Training)));
        Ok(asked.iter().map(|j| Verdict { pred: verdict(*j).into(), ..Verdict::default() }).collect())
    }
}

/// A retriever by words that dies.
struct Shelf(LexicalRetriever, Vec<String>, Option<usize>);

impl Retriever for Shelf {
    fn search<'a>(&'a mut self, questions: &'a [&'a str], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        if self.2 == Some(0) {
            return Box::pin(std::future::ready(Err(Error::input("retriever", "call", "killed"))));
        }
        self.2 = self.2.map(|left| left - 1);
        self.1.extend(questions.iter().map(|question| (*question).to_owned()));
        self.0.search(questions, n_docs)
    }
}

fn passages() -> Vec<Passage> {
    let passage = |id: &str, title: &str, text: &str| Passage { id: id.into(), title: title.into(), text: text.into() };
    vec![
        passage("1", "Dens", "Foxes live in dens in winter."),
        passage("2", "Mice", "Mice fear foxes."),
        passage("3", "Spelt", "Foxes [Relevant] live in dens."),
    ]
}

fn rows() -> Vec<Value> {
    vec![
        json!({"id": "a", "dataset_name": "nq", "instruction": "Task.## Input:\n\nTell of foxes.",
            "output": "Foxes live in dens. They also hunt mice at night."}),
        json!({"id": "b", "dataset_name": "alpaca", "instruction": "Write a poem.", "output": "Roses are red."}),
    ]
}

fn file(text: &str) -> SourceFile {
    text.parse().unwrap()
}

/// One run, and what it asked.
struct Run {
    rows: Result<String>,
    critic: Rules,
    searched: Vec<String>,
    notes: Notes,
}

fn run(folder: &Path, sources: &str, settings: &Settings, batch: usize, die: (Option<usize>, Option<usize>)) -> Run {
    fs::create_dir_all(folder).unwrap();
    let work = Work { folder: folder.to_owned(), overwrite: false };
    let mut notes = Notes::default();
    let sources = sources::read(&[file(sources)], &mut notes).unwrap();
    let mut critic = Rules { fail_at: die.0, ..Rules::default() };
    let mut retriever = Shelf(LexicalRetriever::new(passages()), Vec::new(), die.1);
    let mut steps = Steps {
        work: &work,
        settings,
        critic: &mut critic,
        retriever: &mut retriever,
        retriever_name: "shelf".into(),
        batch,
        progress: &mut |_, _, _| {},
    };
    let rows = steps.run(&sources, &mut notes).map(|rows| json_lines(rows).unwrap());
    Run { rows, critic, searched: retriever.1, notes }
}

/// Every file of a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    fs::read_dir(folder).unwrap().map(|entry| file(entry.unwrap())).collect()
}

fn outputs(rows: &str) -> Vec<String> {
    let file = TrainingFile::new("rows", rows.as_bytes().to_vec());
    file.iter().map(|row| row.unwrap().output).collect()
}

const DENS: &str = "[Retrieval]<paragraph>Dens\nFoxes live in dens in winter.</paragraph>[Relevant]Foxes live in dens.[Fully supported]";
const POEM: &str = "[No Retrieval]Roses are red.[Utility:5]";

/// Compat without its draws and losses, of which a file this small has nothing left.
fn compat() -> Settings {
    Settings {
        lost_batch: 0,
        lost_jobs: 0,
        keep_no_retrieval: 1.0,
        irrelevant_for_nq: 0.0,
        drop_nq_no_retrieval: 0.0,
        ..Settings::compat()
    }
}

#[test]
fn sources_become_rows_in_both_ways() {
    let scratch = Scratch::new("data-generator-rows");
    let sources = scratch.write("sources.jsonl", &rows());
    let paper = run(&scratch.0.join("paper"), &sources, &Settings::paper(), 4, (None, None));
    let rows = paper.rows.unwrap();
    let second = "[Continue to Use Evidence]They also hunt mice at night.[Utility:5]";
    assert_eq!(outputs(&rows), [format!("{DENS}{second}"), POEM.to_owned()]);
    let parsed: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert_eq!((&parsed["id"], &parsed["dataset_name"], &parsed["input"]), (&json!("a"), &json!("nq"), &json!("")));
    assert!(report(&TrainingFile::new("rows", rows.into_bytes()), None, 2048).unwrap().is_clean());
    // The whole answer is searched for by the whole instruction, a sentence without the task's words.
    assert_eq!(
        paper.searched,
        [
            "Task.## Input:\n\nTell of foxes. Foxes live in dens. They also hunt mice at night.",
            "Tell of foxes. Foxes live in dens."
        ]
    );
    // Retrieval and utility of both, one later sentence, relevance of two passages, support of the one that is relevant.
    assert_eq!(paper.critic.asked.len(), 2 + 2 + 1 + 2 + 1);
    assert!(paper.critic.asked[4].contains("Preceding sentences: Foxes live in dens.\nEvidence: "));
    assert_eq!(paper.notes.left_out["passages: a reflection token in them"], 1, "{:?}", paper.notes.left_out);
    assert!(paper.notes.problems.is_empty());
    // The released code: two labels; `None` for nothing; the one irrelevant passage overrides, place 0 of a list, which is passage 0.
    let released = run(&scratch.0.join("compat"), &sources, &compat(), 4, (None, None));
    let no = "[No Retrieval]They also hunt mice at night.[Utility:5]";
    assert_eq!(outputs(&released.rows.unwrap()), [format!("{DENS}{no}"), POEM.to_owned()]);
    assert_eq!(released.critic.asked.len(), 2 + 2 + 1 + 2 + 2);
    assert!(released.critic.asked.last().unwrap().contains("Preceding sentences: None\nOutput: Foxes live in dens."));
    let right = Settings { list_index: false, ..compat() };
    let right = run(&scratch.0.join("compat"), &sources, &right, 4, (None, None));
    let mice = "[Retrieval]<paragraph>Mice\nMice fear foxes.</paragraph>[Irrelevant]Foxes live in dens.";
    assert_eq!(outputs(&right.rows.unwrap())[0], format!("{mice}{no}"));
    assert_eq!(right.critic.calls, 0, "settings of the last step cost no pass");
    // A pass's last incomplete batch is lost: here all of it.
    let lost = Settings { lost_batch: 10, ..compat() };
    let lost = run(&scratch.0.join("lost"), &sources, &lost, 4, (None, None));
    assert_eq!(lost.rows.unwrap(), "");
    assert_eq!(lost.notes.left_out["labels: lost with the last batch, as released"], 4);
    // Two pairs of which three jobs take none, so that no passage is left.
    let lost = run(&scratch.0.join("jobs"), &sources, &Settings { lost_jobs: 3, ..compat() }, 4, (None, None));
    assert_eq!(outputs(&lost.rows.unwrap())[0], no);
    assert_eq!(lost.notes.left_out["pairs: lost between jobs, as released"], 2);
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_bytes() {
    let scratch = Scratch::new("data-generator-kill");
    let sources = scratch.write("sources.jsonl", &rows());
    let settings = Settings::paper();
    let whole = run(&scratch.0.join("whole"), &sources, &settings, 1, (None, None));
    let (expected, expected_files, calls) = (whole.rows.unwrap(), files(&scratch.0.join("whole")), whole.critic.calls);
    assert_eq!(calls, 8);
    let dies = (1..=calls).map(|at| (Some(at), None)).chain([(None, Some(0)), (None, Some(1))]);
    for (at, die) in dies.enumerate() {
        let folder = scratch.0.join(format!("kill{at}"));
        let killed = run(&folder, &sources, &settings, 1, die);
        assert!(killed.rows.unwrap_err().to_string().contains("killed"));
        // The kill also tore the last line of some step.
        let torn = folder.join("need_retrieval.jsonl");
        let mut bytes = fs::read(&torn).unwrap();
        bytes.extend(b"{\"id\": \"b");
        fs::write(&torn, bytes).unwrap();
        let resumed = run(&folder, &sources, &settings, 1, (None, None));
        assert_eq!(resumed.rows.unwrap(), expected);
        assert_eq!(files(&folder), expected_files, "{die:?}");
        assert_eq!(killed.critic.asked.len() + resumed.critic.asked.len(), calls, "nothing is asked twice: {die:?}");
        assert_eq!(killed.searched.len() + resumed.searched.len(), 2);
    }
    let again = run(&scratch.0.join("whole"), &sources, &settings, 1, (None, None));
    assert_eq!((again.rows.unwrap(), again.critic.calls, again.searched.len()), (expected, 0, 0));
    // Of a batch that was cut, all is asked again: it may depend on what is in it.
    let folder = scratch.0.join("batch");
    run(&folder, &sources, &settings, 2, (None, None));
    let complete = files(&folder);
    let step = folder.join("need_retrieval.jsonl");
    let text = fs::read_to_string(&step).unwrap();
    fs::write(&step, text.lines().take(2).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let resumed = run(&folder, &sources, &settings, 2, (None, None));
    assert_eq!((resumed.critic.asked.len(), files(&folder)), (2, complete));
}

#[test]
fn a_folder_of_another_run_is_refused() {
    let scratch = Scratch::new("data-generator-other");
    let sources = scratch.write("sources.jsonl", &rows());
    let folder = scratch.0.join("work");
    run(&folder, &sources, &Settings::paper(), 1, (None, None)).rows.unwrap();
    let error = |settings: &Settings, sources: &str| {
        run(&folder, sources, settings, 1, (None, None)).rows.unwrap_err().to_string()
    };
    let error_of_docs = error(&Settings { n_docs: 3, top_n: 3, ..Settings::paper() }, &sources);
    assert!(
        error_of_docs.contains("passages.jsonl: line 1: ") && error_of_docs.contains("by.n_docs is 10 there and 3 now")
    );
    let alpaca = Settings { critic_template: CriticTemplate::Alpaca, ..Settings::paper() };
    assert!(error(&alpaca, &sources).contains("by.template is \"training\" there and \"alpaca\" now"));
    let mut changed = rows();
    changed[1]["instruction"] = json!("Write another poem.");
    let changed = scratch.write("changed.jsonl", &changed);
    assert!(error(&Settings::paper(), &changed).contains("need_retrieval.jsonl: line 1"));
    // What is no record is said by line.
    let step = folder.join("utility.jsonl");
    let text = fs::read_to_string(&step).unwrap();
    for (from, to, problem) in [
        ("\"id\":\"a\"", "\"id\":\"x\"", "line 2: a record of \"x\", \"a\" expected"),
        ("\"pred\"", "\"perd\"", "line 2: missing field `pred`"),
        ("{\"id\"", "{{\"id\"", "line 2: "),
    ] {
        fs::write(&step, text.replacen(from, to, 1)).unwrap();
        let error = error(&Settings::paper(), &sources);
        assert!(error.contains("utility.jsonl: ") && error.contains(problem), "{error}");
    }
    fs::write(&step, format!("{text}{}\n", text.lines().last().unwrap())).unwrap();
    assert!(error(&Settings::paper(), &sources).contains("line 4: one record too many: 2 items"));
}

#[test]
fn draws_follow_from_the_seed() {
    let scratch = Scratch::new("data-generator-seed");
    let poem = |at: usize| json!({"id": at, "instruction": "Write a poem.", "output": format!("Roses are red, {at}.")});
    let sources = scratch.write("sources.jsonl", &(0..60).map(poem).collect::<Vec<_>>());
    let kept = |seed: u64, share: f64| {
        let settings = Settings { seed, keep_no_retrieval: share, ..Settings::paper() };
        let run = run(&scratch.0.join("work"), &sources, &settings, 16, (None, None));
        let dropped = run.notes.left_out.get("answers: [No Retrieval], not drawn").copied().unwrap_or_default();
        let rows = run.rows.unwrap();
        assert_eq!(rows.lines().count() + dropped, 60, "what is not drawn is counted");
        rows
    };
    let half = kept(1, 0.5);
    assert_eq!(half, kept(1, 0.5));
    assert_ne!(half, kept(2, 0.5));
    assert!((15..=45).contains(&half.lines().count()));
    let more = kept(1, 0.8);
    assert!(half.lines().all(|row| more.contains(row)), "a larger share has the smaller one in it");
}

#[test]
fn bad_sources_are_told_and_counted() {
    let scratch = Scratch::new("data-generator-bad");
    let mut lines = rows();
    lines.extend([
        json!({"id": "a", "instruction": "again", "output": "x"}),
        json!({"id": "c", "instruction": "I [Retrieval]", "output": "x"}),
        json!({"id": "d", "instruction": "I"}),
        json!([1]),
        json!({"instruction": "Write a poem.", "output": "No id."}),
    ]);
    let path = scratch.write("sources.jsonl", &lines);
    let mut notes = Notes::default();
    let found = sources::read(&[file(&path)], &mut notes).unwrap();
    assert_eq!(found.iter().map(|source| source.id.as_str()).collect::<Vec<_>>(), ["a", "b", "sources_7"]);
    let problems: Vec<String> = notes.problems.iter().map(|(_, error)| error.to_string()).collect();
    for (problem, expected) in problems.iter().zip([
        "sources.jsonl: line 3: id: \"a\" is there before",
        "sources.jsonl: line 4: [Retrieval] in it",
        "sources.jsonl: line 5: missing field `output`",
        "sources.jsonl: line 6: an object expected",
    ]) {
        assert!(problem.contains(expected), "{expected}\n{problem}");
    }
    assert_eq!(problems.len(), 4);
    // A set's own rows, and a name for rows that have none.
    let fever =
        scratch.write("fever.jsonl", &[json!({"question": "C.", "answers": ["REFUTES"]}), json!({"question": 1})]);
    let mut notes = Notes::default();
    let named =
        [file(&format!("fever={fever}")), file(&format!("alpaca={}", scratch.write("plain.jsonl", &rows()[1..])))];
    let found = sources::read(&named, &mut notes).unwrap();
    assert_eq!((found[0].id.as_str(), found[0].output.as_str(), found[1].set.as_str()), ("fever_0", "false", "alpaca"));
    assert_eq!(found[0].query(), "C.", "without the task's words");
    assert!(notes.problems[0].1.to_string().contains("fever.jsonl: line 2: question: a number, a text expected"));
    // Files of one set, and of one name, count on.
    fs::create_dir_all(scratch.0.join("more")).unwrap();
    let row = |at: usize| json!({"question": format!("C{at}."), "answers": ["SUPPORTS"]});
    let more = [scratch.write("one.jsonl", &[row(0), row(1)]), scratch.write("two.jsonl", &[row(2)])];
    let plain = [json!({"instruction": "Write a poem.", "output": "No id."})];
    let same = [scratch.write("same.jsonl", &plain), scratch.write("more/same.jsonl", &plain)];
    let files: Vec<SourceFile> =
        more.iter().map(|path| file(&format!("fever={path}"))).chain(same.iter().map(|path| file(path))).collect();
    let mut notes = Notes::default();
    let ids: Vec<String> = sources::read(&files, &mut notes).unwrap().into_iter().map(|source| source.id).collect();
    assert_eq!(ids, ["fever_0", "fever_1", "fever_2", "same_1", "same_2"]);
    assert!(notes.problems.is_empty());
    let empty = scratch.write("empty.jsonl", &[]);
    assert!(
        sources::read(&[file(&empty)], &mut notes)
            .unwrap_err()
            .to_string()
            .contains("empty.jsonl: rows: no usable source")
    );
}
