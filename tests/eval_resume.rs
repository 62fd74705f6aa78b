//! The promise: an evaluation that is killed at any point goes on from there, and its output is the same to the byte as that of one
//! that was not: nothing lost, nothing twice.

#[path = "common/script.rs"]
mod script;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use script::World;
use selfrag::{
    Result,
    eval::{
        evaluate::{self, Plan},
        journal::Journal,
        output,
        record::{Header, Method, VERSION},
        rows::{Rows, Schema},
        task::Task,
    },
    generator::{Generator, SeqId, StepOutput},
    platform::LocalFuture,
    self_rag::{Config, Stop},
};

const ROWS: usize = 60;
const BATCH: usize = 4;
const KILLS: usize = 50;
/// What a child is told: where to write.
const TOLD: &str = "SELFRAG_TEST_EVAL_OUTPUT";

/// A model that takes a moment for each pass, so that there is something to interrupt.
struct Slow(Box<dyn Generator>);

impl Generator for Slow {
    fn context_length(&self) -> usize {
        self.0.context_length()
    }

    fn watch(&mut self, tokens: &[u32]) {
        self.0.watch(tokens);
    }

    fn start(&mut self) -> Result<SeqId> {
        self.0.start()
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId> {
        self.0.fork(seq)
    }

    fn free(&mut self, seq: SeqId) {
        self.0.free(seq);
    }

    fn forward<'a>(&'a mut self, batch: &'a [(SeqId, Vec<u32>)]) -> LocalFuture<'a, Result<Vec<StepOutput>>> {
        std::thread::sleep(Duration::from_micros(200));
        self.0.forward(batch)
    }
}

/// Each row has passages of its own, and the model an answer for each; one row in seven is unusable.
fn world() -> (World, Vec<u8>) {
    let mut world = World::new(0.9, 0.1);
    let mut rows = Vec::new();
    for row in 0..ROWS {
        // In letters: the tiny vocabulary spells some digits as bytes.
        let letters: String = row.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
        let mut passages = Vec::new();
        for (at, name) in ["one", "two"].iter().enumerate() {
            // Never 0.5: the script would draw lots.
            let (title, relevant) = (format!("r{letters}{name}"), 0.32 + ((row * 7 + at * 5) % 11) as f32 * 0.05);
            let text = format!("{name} of {letters}");
            let steps = world.graded(&text, relevant, [0.6, 0.3, 0.1], [1e-9, 1e-9, 1e-9, 0.4, 0.6]);
            world.shelve(&title, steps);
            passages.push(serde_json::json!({"title": title, "text": "text"}));
        }
        let answers =
            if row % 7 == 3 { serde_json::json!(row) } else { serde_json::json!([format!("one of {letters}")]) };
        let item = serde_json::json!({"question": format!("Q{row}"), "answers": answers, "ctxs": passages});
        rows.extend(item.to_string().bytes().chain(*b"\n"));
    }
    (world, rows)
}

fn journal_of(output: &Path) -> PathBuf {
    output.with_extension("records.jsonl")
}

fn run(output: &Path, slow: bool) {
    let (world, bytes) = world();
    let rows = Rows::new("rows.jsonl", bytes);
    let method = Method::Short(Config::paper());
    let schema = Schema { task: Task::Popqa, passages_optional: false, n_docs: 5, compat: false };
    let plan = Plan { task: Task::Popqa, method: &method, schema, batch: BATCH, shard: (0, 1), search: false };
    let header = Header {
        selfrag_eval: VERSION,
        task: plan.task,
        method: method.clone(),
        compat_rows: false,
        input: rows.name().into(),
        sha256: rows.sha256().into(),
        rows: rows.len(),
        shard: plan.shard,
        batch: plan.batch,
        generator: "script".into(),
        index: None,
        search: false,
    };
    let mut journal = Journal::open(&journal_of(output), &header, false).unwrap();
    let engine = world.engine();
    let mut engine = if slow { engine.wrap(|inner| Box::new(Slow(inner)), |inner| inner) } else { engine };
    evaluate::run(&mut engine, &rows, &plan, &mut journal, None, &Stop::default(), &mut |_| {}).unwrap();
    output::write(&journal_of(output), output, "match").unwrap();
}

struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("selfrag-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn read(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        let output = self.0.join(name);
        (fs::read(journal_of(&output)).unwrap(), fs::read(output).unwrap())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Not a test of its own: what the next one starts and kills.
#[test]
fn child() {
    if let Some(output) = std::env::var_os(TOLD) {
        run(Path::new(&output), true);
    }
}

fn spawn(output: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--test-threads", "1"])
        .env(TOLD, output)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// An LCG: the same points every time, but for the scheduler.
fn random(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

#[test]
fn killed_at_random_points() {
    let files = Files::new("eval-kill");
    let whole = files.0.join("whole.json");
    let start = Instant::now();
    assert!(spawn(&whole).wait().unwrap().success());
    let micros = start.elapsed().as_micros() as u64;
    let expected = files.read("whole.json");
    assert_eq!(expected.0.iter().filter(|byte| **byte == b'\n').count(), ROWS + 1, "a header and a line a row");
    let output = files.0.join("killed.json");
    let (mut kills, mut finished, mut seed) = (0, 0, 633);
    while kills < KILLS || finished == 0 {
        let mut child = spawn(&output);
        if kills < KILLS {
            std::thread::sleep(Duration::from_micros(random(&mut seed, micros)));
        } else {
            child.wait().unwrap();
        }
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            continue;
        }
        assert!(files.read("killed.json") == expected, "another output after {kills} kills");
        finished += 1;
        fs::remove_file(&output).unwrap();
        fs::remove_file(journal_of(&output)).unwrap();
    }
    println!("{kills} kills, {finished} runs brought to their end");
}

#[test]
fn cut_at_any_byte() {
    let files = Files::new("eval-cut");
    run(&files.0.join("whole.json"), false);
    let expected = files.read("whole.json");
    let answers: serde_json::Value = serde_json::from_slice(&expected.1).unwrap();
    assert_eq!(answers["preds"].as_array().unwrap().len(), ROWS - 9, "all but the unusable rows");
    assert_eq!(answers["preds"][6], "two of h", "{}", answers["preds"]);
    let (output, mut seed) = (files.0.join("cut.json"), 7);
    for round in 0..KILLS {
        // The first round leaves nothing, the second a torn header.
        let at = match round {
            0 => 0,
            1 => 20,
            _ => random(&mut seed, expected.0.len() as u64) as usize,
        };
        fs::write(journal_of(&output), &expected.0[..at]).unwrap();
        run(&output, false);
        assert!(files.read("cut.json") == expected, "another output when cut at byte {at}");
    }
}

#[test]
fn a_journal_that_was_tampered_with_is_refused_by_line() {
    let files = Files::new("eval-tampered");
    let output = files.0.join("whole.json");
    run(&output, false);
    let text = String::from_utf8(files.read("whole.json").0).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let refused = |text: String| {
        fs::write(journal_of(&output), text).unwrap();
        let found = std::panic::catch_unwind(|| run(&output, false)).unwrap_err();
        *found.downcast::<String>().unwrap()
    };
    let twice = refused(format!("{text}{}\n", lines[2]));
    assert!(twice.contains("row 1 has a record already"), "{twice}");
    let broken = refused(text.replacen("{\"index\":2", "{\"index:2", 1));
    assert!(broken.contains("line 4"), "{broken}");
    let other = refused(text.replacen("\"n_docs\":5", "\"n_docs\":6", 1));
    assert!(other.contains("method.short.n_docs is 6 there and 5 now"), "{other}");
}
