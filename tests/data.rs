//! The promise: `selfrag data` makes training rows whose labels are what the annotations say, the same bytes for the same seed, without
//! held-out articles, and its report finds what is broken in a training file, ours or the original's.

#[path = "common/scratch.rs"]
mod scratch;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use scratch::Scratch;
use selfrag::data::{
    from_qa,
    instructions::Instruction,
    notes::Notes,
    parts::{self, Part, parts},
    report::report,
    rows::{Masking, Template, TrainingFile, TrainingRow},
    sample::Sample,
    sets::{Answer, Corpus, Exclusion, contains},
    settings::{Settings, Unanswerable},
};
use serde_json::Value;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/qa").join(name)
}

fn given(name: &str) -> String {
    file(name).to_str().unwrap().to_owned()
}

fn corpus(exclude: bool) -> (Corpus, Notes) {
    let (mut corpus, mut notes, mut exclusion) = (Corpus::default(), Notes::default(), Exclusion::default());
    if exclude {
        exclusion.questions_of(&file("held_out.jsonl")).unwrap();
    }
    for name in ["squad.json", "unanswerable.json", "dpr.json"] {
        corpus.read(&file(name), &mut exclusion, &mut notes).unwrap();
    }
    exclusion.check().unwrap();
    assert!(notes.problems.is_empty(), "{notes:?}");
    (corpus, notes)
}

/// Three rows of every kind for each question.
fn plenty() -> Settings {
    Settings {
        hard_negatives: 3.0,
        random_negatives: 3.0,
        unanswerable: 3.0,
        wrong: 3.0,
        swapped: 3.0,
        off_point: 3.0,
        partial: 3.0,
        two_questions: 3.0,
        two_passages: 3.0,
        follow_on: 1.0,
        critic_share: 1.0,
        ..Settings::default()
    }
}

fn samples(corpus: &Corpus, settings: &Settings) -> Vec<Sample> {
    let plain = |instruction: &str, output: &str| Instruction {
        instruction: instruction.into(),
        input: String::new(),
        output: output.into(),
    };
    let instructions = [plain("Sing.", ""), plain("Two plus two?", "Four.")];
    from_qa::samples(corpus, &instructions, settings, &mut Notes::default())
}

/// A segment as its row says it.
#[derive(Debug, Default)]
struct Said {
    retrieval: Option<usize>,
    passage: Option<String>,
    relevance: Option<usize>,
    text: String,
    support: Option<usize>,
}

fn said(output: &str) -> (Vec<Said>, Option<usize>) {
    let (mut segments, mut utility) = (Vec::<Said>::new(), None);
    for part in parts(output).0 {
        match part {
            Part::Token(token @ parts::NO_RETRIEVAL..=parts::CONTINUE) => {
                // What continues has its passage from before.
                let passage = segments.last().and_then(|said| said.passage.clone());
                segments.push(Said { retrieval: Some(token), passage, ..Said::default() });
            }
            Part::Passage(passage) => segments.last_mut().unwrap().passage = Some(passage.to_owned()),
            Part::Token(token @ parts::IRRELEVANT..=parts::RELEVANT) => {
                segments.last_mut().unwrap().relevance = Some(token);
            }
            Part::Text(text) => segments.last_mut().unwrap().text = text.to_owned(),
            Part::Token(token @ parts::FULLY..) => segments.last_mut().unwrap().support = Some(token),
            Part::Token(token) => utility = Some(token - parts::UTILITY + 1),
        }
    }
    (segments, utility)
}

#[test]
fn labels_are_what_the_annotations_say() {
    let (corpus, _) = corpus(false);
    let answers: BTreeMap<&str, &Vec<Answer>> =
        corpus.questions.iter().map(|question| (question.text.as_str(), &question.answers)).collect();
    let golds: BTreeMap<&str, &str> = corpus
        .questions
        .iter()
        .map(|question| (question.text.as_str(), corpus.passages[question.gold].text.as_str()))
        .collect();
    let mut kinds = BTreeSet::new();
    for unanswerable_as in [Unanswerable::ByAnnotation, Unanswerable::Relevant, Unanswerable::Irrelevant] {
        for sample in samples(&corpus, &Settings { unanswerable_as, ..plenty() }) {
            let row = sample.row(&corpus.passages);
            kinds.insert(sample.kind.name());
            assert_eq!(parts::faults(&row.output, row.pieces.is_some()), [], "{}", row.output);
            let (segments, utility) = said(&row.output);
            let utility = utility.unwrap();
            if sample.kind.name() == "instruction" {
                assert_eq!((segments[0].retrieval, segments[0].support), (Some(parts::NO_RETRIEVAL), None));
                assert_eq!(row.pieces.is_some(), segments[0].text.is_empty(), "without an answer, only the decision");
                continue;
            }
            // The first question of two; the longest that fits, since one may begin as another does.
            let asked = answers.keys().filter(|question| row.instruction.starts_with(**question));
            let asked = *asked.max_by_key(|question| question.len()).unwrap();
            let (right, gold) = (answers[asked], golds[asked]);
            let answers_it = |text: &str| right.iter().any(|answer| contains(text, &answer.text));
            for said in &segments {
                let passage = said.passage.as_deref().unwrap();
                match said.relevance {
                    Some(parts::IRRELEVANT) => {
                        assert!(!answers_it(passage) && said.support.is_none(), "{}", row.output);
                        assert_eq!(answers_it(&said.text), utility == 5, "{}", row.output);
                    }
                    Some(_) => assert!(answers.keys().any(|asked| passage.ends_with(golds[asked]))),
                    None => assert_eq!(said.retrieval, Some(parts::CONTINUE)),
                }
                match said.support {
                    Some(parts::FULLY) => assert!(contains(passage, &said.text), "{}", row.output),
                    Some(parts::PARTIALLY) => {
                        let found = selfrag::sentences::sentences(&said.text);
                        let within =
                            found.iter().filter(|range| contains(passage, &said.text[(*range).clone()])).count();
                        assert!(0 < within && within < found.len(), "{}", row.output);
                        assert!(answers_it(&said.text) && utility == 3);
                    }
                    // A plausible answer stands in the passage and yet answers nothing.
                    Some(_) if sample.kind.name() == "unanswerable" => assert_eq!(utility, 1),
                    Some(_) => assert!(!contains(passage, &said.text) && utility == 1, "{}", row.output),
                    None => assert_eq!(said.relevance, Some(parts::IRRELEVANT)),
                }
            }
            let first = &segments[0];
            let judged = !["gold", "two_questions", "two_passages", "follow_on"].contains(&sample.kind.name());
            if !judged {
                assert!(answers_it(&first.text) && utility == 5 && first.passage.as_deref().unwrap().ends_with(gold));
            } else if !["partial", "hard_negative", "random_negative"].contains(&sample.kind.name()) {
                assert!(right.is_empty() || !answers_it(&first.text), "{}: {}", row.instruction, row.output);
            }
            assert_eq!(
                segments.len(),
                if sample.kind.name().starts_with("two") || sample.kind.name() == "follow_on" { 2 } else { 1 }
            );
            // The mask: of a sentence that is judged its critique alone is trained, and never a passage.
            let spans = row.spans(Template::Generator, Masking::Paper);
            let trained: String = spans.iter().filter(|span| span.trained).map(|span| span.text.as_str()).collect();
            let all: String = spans.iter().skip(1).map(|span| span.text.as_str()).collect();
            assert_eq!((all.as_str(), row.end_trained()), (row.output.as_str(), true));
            assert_eq!(trained.contains(&first.text), !judged, "{trained}");
            assert!(!segments.iter().any(|said| trained.contains(said.passage.as_deref().unwrap())));
            if let Some(pieces) = &row.pieces {
                assert_eq!(pieces.iter().map(|piece| piece.text.as_str()).collect::<String>(), row.output);
            }
        }
    }
    let expected = [
        "follow_on",
        "gold",
        "hard_negative",
        "instruction",
        "off_point",
        "partial",
        "random_negative",
        "swapped",
        "two_passages",
        "two_questions",
        "unanswerable",
        "wrong",
    ];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected, "every kind is tried");
}

#[test]
fn unanswerable_questions_say_what_their_set_says() {
    let (corpus, _) = corpus(false);
    let of = |unanswerable_as: Unanswerable, question: &str| -> Vec<String> {
        let settings = Settings { unanswerable_as, ..plenty() };
        let rows = samples(&corpus, &settings).into_iter().filter(|sample| sample.instruction == question);
        rows.map(|sample| sample.row(&corpus.passages).output.split("</paragraph>").last().unwrap().to_owned())
            .collect()
    };
    let (plausible, bare) = ("When did the town count foxes?", "What do the gulls eat in winter?");
    let expected = "[Relevant]1950[No support / Contradictory][Utility:1]";
    assert_eq!(of(Unanswerable::ByAnnotation, plausible), [expected; 3]);
    assert!(
        of(Unanswerable::ByAnnotation, bare)
            .iter()
            .all(|text| text.starts_with("[Irrelevant]") && text.ends_with("[Utility:1]"))
    );
    assert!(of(Unanswerable::Relevant, bare).iter().all(|text| text.contains("[No support / Contradictory]")));
    assert!(of(Unanswerable::Irrelevant, plausible).iter().all(|text| text.starts_with("[Irrelevant]")));
}

/// Each row draws for itself: another share of one kind leaves the rows of the others as they are.
#[test]
fn settings_do_not_disturb_each_other() {
    let (corpus, _) = corpus(false);
    let rows = |settings: &Settings| -> BTreeMap<String, TrainingRow> {
        let samples = samples(&corpus, settings);
        samples.iter().map(|sample| (sample.id.clone(), sample.row(&corpus.passages))).collect()
    };
    let (all, less) = (rows(&plenty()), rows(&Settings { wrong: 0.0, gold: 2.0, ..plenty() }));
    assert!(all.keys().any(|id| id.contains("wrong")) && !less.keys().any(|id| id.contains("wrong")));
    assert!(less.iter().all(|(id, row)| all.get(id).is_none_or(|same| same == row)));
    assert_ne!(rows(&plenty()), rows(&Settings { seed: 2, ..plenty() }));
}

#[test]
fn critic_rows_are_the_samples_labels() {
    let (corpus, mut notes) = corpus(false);
    let samples = samples(&corpus, &plenty());
    let critic = from_qa::judgements(&corpus, &samples, &plenty(), &mut notes);
    let text = from_qa::json_list(&critic).unwrap();
    let file = TrainingFile::new("critic", text.into_bytes());
    let report = report(&file, None, 2048).unwrap();
    assert!(report.is_clean(), "{:?}", report.places);
    assert_eq!(
        report.sets.keys().collect::<Vec<_>>(),
        ["groudness", "multi_retrieval", "relevance", "retrieval", "utility"]
    );
    let mut asked = BTreeSet::new();
    for row in file.iter() {
        let row = row.unwrap();
        assert!(asked.insert((row.instruction.clone(), row.input.clone())), "asked once: {}", row.input);
        let evidence = row.input.split("\nEvidence: ").nth(1);
        let output = row.input.split("\nOutput: ").nth(1).and_then(|rest| rest.split("\nEvidence: ").next());
        if let (Some("groudness"), Some(evidence), Some(output)) = (row.task.as_deref(), evidence, output) {
            let full = row.output == "[Fully supported]";
            assert!(contains(evidence, output) == full || output == "1950", "{}: {}", row.input, row.output);
        }
    }
}

fn selfrag(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_selfrag")).arg("data").args(args).output().unwrap()
}

/// Standard output of a run that has to go well.
#[track_caller]
fn good(args: &[&str]) -> String {
    let output = selfrag(args);
    assert!(output.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a run that has to fail.
#[track_caller]
fn bad(args: &[&str]) -> String {
    let output = selfrag(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}\n{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// The committed file says what a change of the code changes: made by the command below.
#[test]
fn the_same_seed_gives_the_same_bytes() {
    let scratch = Scratch::new("data-bytes");
    let (squad, unanswerable, dpr) = (given("squad.json"), given("unanswerable.json"), given("dpr.json"));
    let (held_out, instructions) = (given("held_out.jsonl"), given("instructions.txt"));
    let run = |name: &str, seed: &str| {
        let (output, critic, summary) = (
            scratch.path(name),
            scratch.path(&format!("{name}.critic.json")),
            scratch.path(&format!("{name}.summary")),
        );
        let args = [
            "from-qa",
            &squad,
            &unanswerable,
            &dpr,
            "--exclude-questions",
            &held_out,
            "--instructions",
            &instructions,
            "--seed",
            seed,
            "--critic",
            &critic,
            "--critic-share",
            "1",
            "--summary",
            &summary,
            "--strict",
            "--output",
            &output,
        ];
        assert_eq!(good(&args).trim(), output);
        let read = |path: &str| fs::read_to_string(path).unwrap();
        (read(&output), read(&critic), serde_json::from_str::<Value>(&read(&summary)).unwrap())
    };
    let (rows, critic, summary) = run("a.jsonl", "1");
    assert_eq!((&rows, &critic), (&run("b.jsonl", "1").0, &run("c.jsonl", "1").1));
    assert_ne!(rows, run("d.jsonl", "2").0);
    assert_eq!(
        rows,
        fs::read_to_string(file("expected.jsonl")).unwrap(),
        "tests/data/qa/expected.jsonl: look at what changed"
    );
    for leak in ["Zephra", "Aurel", "Held Out"] {
        assert!(!rows.contains(leak) && !critic.contains(leak), "{leak} is held out");
    }
    assert_eq!(
        (summary["settings"]["seed"].as_u64(), summary["sources"][0]["questions"].as_u64()),
        (Some(1), Some(13))
    );
    assert_eq!(summary["notes"]["left_out"]["passages: excluded"], 1);
    let file = TrainingFile::new("rows", rows.into_bytes());
    let gold = file.iter().map(Result::unwrap).filter(|row| row.id.as_deref().unwrap().ends_with("_gold")).count();
    assert_eq!(gold as u64, summary["rows"]["gold"].as_u64().unwrap());
}

#[test]
fn titles_are_excluded_and_a_filter_that_matches_nothing_is_an_error() {
    let scratch = Scratch::new("data-titles");
    let (squad, output) = (given("squad.json"), scratch.path("rows.jsonl"));
    good(&["from-qa", &squad, "--output", &output, "--exclude-titles", "held_out", "Orrin cheese"]);
    let rows = fs::read_to_string(&output).unwrap();
    assert!(!rows.contains("Zephra") && !rows.contains("goats") && rows.contains("Velm"));
    let list = scratch.path("titles.txt");
    fs::write(&list, "Tarn Railway\n\nHeld Out\n").unwrap();
    good(&["from-qa", &squad, "--output", &output, "--exclude-titles", &list]);
    assert!(!fs::read_to_string(&output).unwrap().contains("Harl"));
    let error = bad(&["from-qa", &squad, "--output", &output, "--exclude-titles", "Held Out", "Nothing"]);
    assert!(error.contains("--exclude-titles Nothing: matches no article"), "{error}");
    let held_out = given("held_out.jsonl");
    let error = bad(&["from-qa", &given("dpr.json"), "--output", &output, "--exclude-questions", &held_out]);
    assert!(error.contains("held_out.jsonl: matches no article"), "{error}");
}

#[test]
fn bad_sets_are_told_counted_and_refused() {
    let scratch = Scratch::new("data-bad");
    let (set, output) = (scratch.path("set.json"), scratch.path("rows.jsonl"));
    let text = fs::read_to_string(file("squad.json")).unwrap();
    // An answer that is nowhere, a question of the wrong kind, a passage that spells a token.
    let text = text.replacen("\"text\": \"eleven\"", "\"text\": \"twelve\"", 1).replacen(
        "\"Who saved the sailors of the Marigold?\"",
        "7",
        1,
    );
    let text = text.replacen("The comet Zephra", "[Relevant] The comet Zephra", 1);
    fs::write(&set, &text).unwrap();
    let run = selfrag(&["from-qa", &set, "--output", &output]);
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{said}");
    for expected in [
        "set.json: data[0].paragraphs[1].qas[0]: no answer that is in the passage",
        "qas[1]: question: a number, a text expected",
        "data[3].paragraphs[0]: [Relevant] in a passage",
        "problem: 2 × unusable question",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    fs::remove_file(&output).unwrap();
    assert!(bad(&["from-qa", &set, "--output", &output, "--strict"]).contains("3 problems"));
    assert!(!Path::new(&output).exists(), "nothing is written of what is refused");
    for (bytes, expected) in [
        (&b"{\"data\": [}"[..], "set.json: line 1, column 11: no JSON"),
        (b"", "no rows: no set has a usable question"),
        (b"\xff\xfe", "no rows"),
        (b"{}", "set.json: the file: `data`"),
        (b"[[[[", "no rows"),
    ] {
        fs::write(&set, bytes).unwrap();
        let error = bad(&["from-qa", &set, "--output", &output]);
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    let squad = given("squad.json");
    for (option, value) in [("--gold", "-1"), ("--gold", "nan"), ("--swapped-within", "2"), ("--hard-pool", "0")] {
        let error = bad(&["from-qa", &squad, "--output", &output, &format!("{option}={value}")]);
        assert!(error.contains(&format!("setting {}", &option[2..])), "{error}");
    }
    assert!(bad(&["from-qa", &set, "--output", &set]).contains("it is read"));
    let plain = scratch.path("plain.txt");
    fs::write(&plain, b"Good.\n[Utility:5] is this\n\xff\n").unwrap();
    let error = bad(&["from-qa", &squad, "--instructions", &plain, "--strict", "--output", &output]);
    assert!(error.contains("plain.txt: line 2: [Utility:5] in it") && error.contains("line 3: no UTF-8"), "{error}");
}

/// A cut or changed file is an error or told, and never a panic.
#[test]
fn hostile_sets_do_not_panic() {
    let bytes = fs::read(file("squad.json")).unwrap();
    let mut random = selfrag::ops::self_test::Random::new(11);
    for _ in 0..300 {
        let mut bytes = bytes[..random.pick(0..=bytes.len())].to_vec();
        for _ in 0..random.pick(0..=6) {
            if !bytes.is_empty() {
                let at = random.pick(0..=bytes.len() - 1);
                bytes[at] = b"\"{}[]:,0\\x\xff"[random.pick(0..=10)];
            }
        }
        let rows = selfrag::json_rows::Rows::new("hostile", bytes);
        let (mut corpus, mut notes) = (Corpus::default(), Notes::default());
        if corpus.add("s", &rows, &mut Exclusion::default(), &mut notes).is_ok() {
            let made = samples(&corpus, &Settings::default());
            assert!(made.iter().all(|sample| parts::faults(&sample.row(&corpus.passages).output, true).is_empty()));
        }
    }
}

/// Five rows of the released data: the report's counts are those that a reader counts.
#[test]
fn the_originals_rows_are_read_and_reported() {
    let scratch = Scratch::new("data-report");
    let (sample, html) = (given("selfrag_train_sample.jsonl"), scratch.path("report.html"));
    let text = good(&["report", &sample, "--json", "--html", &html]);
    let report = &serde_json::from_str::<Value>(&text).unwrap()[0];
    assert_eq!(
        (report["rows"].as_u64(), report["readable"].as_u64(), report["faulty"].as_u64()),
        (Some(5), Some(5), Some(1))
    );
    let token =
        |name: &str| report["tokens"].as_array().unwrap().iter().find(|t| t[0] == name).unwrap()[1].as_u64().unwrap();
    let counts = [
        "[Retrieval]",
        "[Relevant]",
        "[Fully supported]",
        "[No support / Contradictory]",
        "[Utility:5]",
        "<paragraph>",
    ];
    assert_eq!(counts.map(token), [3, 3, 2, 1, 5, 3]);
    assert_eq!((report["passages"]["2"].as_u64(), report["sets"]["flan_v2"].as_u64()), (Some(1), Some(5)));
    let fault = &report["places"][0];
    assert_eq!((fault["line"].as_u64(), fault["fault"].as_str()), (Some(3), Some("order")));
    let table = good(&["report", &sample]);
    assert!(table.contains("selfrag_train_sample.jsonl: line 3: labels in impossible order"), "{table}");
    assert!(bad(&["report", &sample, "--strict"]).contains("1 rows have faults"));
    let html = fs::read_to_string(html).unwrap();
    assert!(html.contains("Content-Security-Policy") && !html.contains("http://") && !html.contains("<script"));
}

#[test]
fn broken_rows_are_named() {
    let scratch = Scratch::new("data-broken");
    let path = scratch.path("rows.jsonl");
    let rows = [
        r#"{"instruction": "a", "output": "[No Retrieval]A.[Utility:5]", "id": "1"}"#,
        r#"{"instruction": "a", "output": "[No Retrieval]A.[Utility:5]", "id": "1"}"#,
        r#"{"instruction": "a", "output": "", "id": "2"}"#,
        r#"{"instruction": "a", "output": "[Retrieval]<paragraph>p[Utility:5]", "id": "3"}"#,
        r#"{"instruction": "a", "output": "[no retrieval]A.[Utility:7]", "id": "4"}"#,
        r#"{"instruction": "a", "output": "ab", "id": "5", "pieces": [{"text": "b", "train": true}]}"#,
        r#"{"instruction": "a", "output": "#,
    ];
    let mut bytes = rows.join("\n").into_bytes();
    bytes.extend(b"\n{\"instruction\": \"\xff\", \"output\": \"x\"}\n\n[1]\n");
    fs::write(&path, bytes).unwrap();
    let table = good(&["report", &path]);
    for expected in [
        "line 2: duplicate id: \"1\" is line 1's",
        "line 3: unreadable: output: empty",
        "line 4: unbalanced paragraphs: byte 11: <paragraph> without </paragraph>",
        "line 5: unknown reflection token: \"[no retrieval]\"",
        "line 5: no utility at the end",
        "line 6: unreadable: pieces[0].text: the pieces' texts must concatenate",
        "line 7: unreadable: line 7, column",
        "line 8: unreadable: line 8, column",
        "line 10: unreadable: an object expected",
    ] {
        assert!(table.contains(expected), "{expected}\n{table}");
    }
    assert!(bad(&["report", "/nowhere"]).contains("/nowhere"));
    assert!(bad(&["report", &path, "--tokenizer", &path]).contains("rows.jsonl"));
}
