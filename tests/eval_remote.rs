//! The promise: a completions server generates in the engine's place: the same answers from far fewer requests than tokens, several at
//! once, failures repeated, and what cannot be repaired said by address and cause.

#[path = "common/script.rs"]
mod script;

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use selfrag::{
    Error, Result,
    engine::Engine,
    generator::remote::{Remote, RemoteOptions},
    platform::block_on,
    self_rag::{Answer, Config, LongConfig, Question, Stop},
    tokenizer::ReflectionTokens,
};
use serde_json::{Value, json};

/// What follows a token, with its probability and those of others that are listed.
type Chain = HashMap<u32, (u32, f32, Vec<(u32, f32)>)>;

/// What the server does with a request, counted from 0.
type Trouble = fn(usize) -> Option<&'static str>;

#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
    bodies: Mutex<Vec<Value>>,
}

/// A server that speaks as much of the protocol as is asked of it.
fn serve(chain: Chain, trouble: Trouble) -> (String, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen: Arc<Seen> = Arc::default();
    let (chain, shared) = (Arc::new(chain), seen.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (chain, seen) = (chain.clone(), shared.clone());
            thread::spawn(move || answer_all(stream, &chain, &seen, trouble));
        }
    });
    (address, seen)
}

/// One connection's requests; it ends with the connection or where the trouble is to hang up.
fn answer_all(stream: TcpStream, chain: &Chain, seen: &Seen, trouble: Trouble) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let (mut line, mut length, mut first) = (String::new(), 0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (status, text) = if first.starts_with("GET /v1/models ") {
            ("200 OK", json!({"data": [{"id": "tiny", "max_model_len": 4096}]}).to_string())
        } else {
            let number = seen.requests.fetch_add(1, Ordering::SeqCst);
            let at_once = seen.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most_at_once.fetch_max(at_once, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            seen.under_way.fetch_sub(1, Ordering::SeqCst);
            match trouble(number) {
                Some("hang up") => return None,
                Some("no JSON") => ("200 OK", "<html>".to_owned()),
                Some(status) => (status, json!({"message": "not now"}).to_string()),
                None => {
                    let body: Value = serde_json::from_slice(&body).ok()?;
                    let answer = complete(chain, &body);
                    seen.bodies.lock().unwrap().push(body);
                    ("200 OK", answer.to_string())
                }
            }
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )
        .ok()?;
    }
}

/// Follows the chain from the prompt's last token.
fn complete(chain: &Chain, body: &Value) -> Value {
    let name = |id: u32| format!("token_id:{id}");
    let mut last = body["prompt"].as_array().unwrap().last().unwrap().as_u64().unwrap() as u32;
    let stops: Vec<u64> = body["stop_token_ids"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    let (mut tokens, mut logprobs, mut tops, mut reason) = (vec![], vec![], vec![], "length");
    for _ in 0..body["max_tokens"].as_u64().unwrap() {
        let (next, prob, others) = &chain[&last];
        tokens.push(name(*next));
        logprobs.push(prob.ln());
        let mut top: serde_json::Map<String, Value> =
            others.iter().map(|(id, prob)| (name(*id), json!(prob.ln()))).collect();
        top.insert(name(*next), json!(prob.ln()));
        tops.push(top);
        last = *next;
        if stops.contains(&u64::from(last)) {
            reason = "stop";
            break;
        }
    }
    let logprobs = json!({"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops});
    json!({"choices": [{"finish_reason": reason, "logprobs": logprobs}]})
}

/// p(Retrieve) 1/3, then `[Relevant]a b[Fully supported][Utility:5]</s>` with the specification's numbers, all tokens 0.5.
fn chain(r: &ReflectionTokens, end: u32, line_feed: u32) -> Chain {
    let (a, b) = (300, 301);
    let plain = |next: u32| (next, 0.5, vec![]);
    Chain::from([
        (line_feed, (r.no_retrieval, 0.6, vec![(r.retrieval, 0.3)])),
        (r.paragraph_close, (r.relevant, 0.5, vec![(r.irrelevant, 0.5 / 3.0)])),
        (r.relevant, plain(a)),
        (r.no_retrieval, plain(a)),
        (a, plain(b)),
        (b, (r.fully, 0.5, vec![(r.partially, 0.25), (r.no_support, 0.25 / 3.0)])),
        (r.fully, (r.utility[4], 0.5, vec![(r.utility[3], 0.5)])),
        (r.utility[4], plain(end)),
    ])
}

fn line_feed(tokenizer: &selfrag::tokenizer::Tokenizer) -> u32 {
    *selfrag::generator::prompt::prompt(tokenizer, "Q?").unwrap().last().unwrap()
}

fn options(address: &str) -> RemoteOptions {
    RemoteOptions { retries: 2, concurrency: 4, ..RemoteOptions::new(address) }
}

fn engine(options: RemoteOptions) -> Result<Engine> {
    let (tokenizer, reflection) = script::tokenizer();
    let remote = Remote::connect(options, &tokenizer, &reflection)?;
    Engine::new(Box::new(remote), tokenizer, None)
}

fn questions() -> Vec<Question> {
    let passages: Vec<_> = (0..8).map(|at| script::passage(&format!("p{at}"))).collect();
    vec![Question::with_passages("Q?", passages)]
}

fn server(trouble: Trouble) -> (String, Arc<Seen>) {
    let (tokenizer, reflection) = script::tokenizer();
    serve(chain(&reflection, tokenizer.eos().unwrap(), line_feed(&tokenizer)), trouble)
}

fn ask(options: RemoteOptions) -> Result<Answer> {
    let config = Config { n_docs: 8, ..Config::paper() };
    let mut answers = block_on(engine(options)?.ask_batch(&questions(), &config, &Stop::default(), &mut |_, _| {}))?;
    Ok(answers.remove(0))
}

#[test]
fn answers_and_scores_by_the_golden_numbers() {
    let (address, seen) = server(|_| None);
    let answer = ask(options(&address)).unwrap();
    assert!((answer.probability.unwrap() - 1.0 / 3.0).abs() < 1e-5);
    assert_eq!(answer.candidates.len(), 8);
    for candidate in &answer.candidates {
        let scores = candidate.scores;
        let sup = (0.5 + 0.5 * 0.25) / (0.5 + 0.25 + 0.25 / 3.0);
        for (found, expected) in
            [(scores.is_rel, 0.75), (scores.is_sup, sup), (scores.is_use, 0.75), (scores.sequence, 0.5)]
        {
            assert!((found.unwrap() - expected).abs() < 1e-5, "{found:?} found, {expected} expected");
        }
        assert_eq!(candidate.tokens.len(), 6);
    }
    // One request for the prompt, one a passage: 9 for 49 tokens, as many at once as allowed.
    assert_eq!(seen.requests.load(Ordering::SeqCst), 9);
    let most = seen.most_at_once.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} at once");
    let bodies = seen.bodies.lock().unwrap();
    assert_eq!((&bodies[0]["max_tokens"], &bodies[0]["model"]), (&json!(1), &json!("tiny")));
    assert_eq!((&bodies[1]["max_tokens"], &bodies[1]["skip_special_tokens"]), (&json!(100), &json!(false)));
}

#[test]
fn long_answers_too() {
    let (address, _) = server(|_| None);
    let mut engine = engine(options(&address)).unwrap();
    let config = LongConfig::paper();
    let answers = block_on(engine.ask_long_batch(&questions(), &config, &Stop::default(), &mut |_, _| {})).unwrap();
    assert_eq!((answers[0].path.as_slice(), answers[0].tree.nodes.len()), (&[0][..], 5), "one segment, five passages");
}

#[test]
fn failures_are_repeated() {
    let trouble = |number| match number {
        0 => Some("503 Service Unavailable"),
        2 => Some("hang up"),
        4 => Some("429 Too Many Requests"),
        6 => Some("no JSON"),
        _ => None,
    };
    let (address, seen) = server(trouble);
    assert_eq!(ask(options(&address)).unwrap().candidates.len(), 8);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 13);
}

#[test]
fn what_can_not_be_repaired_is_said() {
    let said = |trouble: Trouble, change: fn(&mut RemoteOptions)| {
        let (address, seen) = server(trouble);
        let mut options = RemoteOptions { retries: 1, ..options(&address) };
        change(&mut options);
        let error = ask(options).unwrap_err();
        (error.to_string(), seen.requests.load(Ordering::SeqCst))
    };
    let (error, requests) = said(|_| Some("400 Bad Request"), |_| {});
    assert!(error.contains("/v1/completions: 400 Bad Request") && error.contains("not now"), "{error}");
    assert_eq!(requests, 1, "a wrong request stays wrong");
    let (error, requests) = said(|_| Some("500 Internal Server Error"), |_| {});
    assert!(error.contains("500") && error.contains("after 2 tries"), "{error}");
    assert_eq!(requests, 2);
    let (error, _) = said(|_| None, |options| options.model = Some("other".into()));
    assert!(error.contains("other is not among what it lists"), "{error}");
    let (error, _) = said(|_| None, |options| options.address = "https://x".into());
    assert!(error.contains("http://… expected"), "{error}");
    let (error, _) = said(|_| None, |options| options.address = "http://127.0.0.1:1".into());
    assert!(error.contains("http://127.0.0.1:1/v1/models"), "{error}");
}

/// A toss-up between two tokens that the server did not list is no decision.
#[test]
fn a_decision_that_can_not_be_read_is_refused() {
    let (tokenizer, reflection) = script::tokenizer();
    let mut chain = chain(&reflection, tokenizer.eos().unwrap(), line_feed(&tokenizer));
    chain.insert(line_feed(&tokenizer), (300, 0.5, vec![]));
    let (address, _) = serve(chain, |_| None);
    let error = ask(options(&address)).unwrap_err();
    assert!(matches!(&error, Error::Network { problem, .. } if problem.contains("--max-logprobs")), "{error}");
    assert!(ask(RemoteOptions { decides: false, ..options(&address) }).is_ok());
}

#[test]
fn the_command_line_uses_it() {
    let (address, _) = server(|_| None);
    let folder = std::env::temp_dir().join(format!("selfrag-eval-remote-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let output = folder.join("out.json");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests");
    let run = Command::new(env!("CARGO_BIN_EXE_selfrag"))
        .args(["eval", "short", "--task", "popqa", "--generator", &address, "--model", "tiny", "--ndocs", "2"])
        .args(["--tokenizer", &format!("{root}/golden/tokenizer/tiny.model")])
        .args(["--input", &format!("{root}/data/eval/popqa.jsonl"), "--output", output.to_str().unwrap()])
        .args(["--record", folder.join("recording.jsonl").to_str().unwrap()])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let file: Value = serde_json::from_slice(&std::fs::read(&output).unwrap()).unwrap();
    assert_eq!(
        file["all_results"][2]["retrieval_1"]["score"].as_f64().map(|score| (score * 1e4).round()),
        Some(23750.0)
    );
    let recording = std::fs::read_to_string(folder.join("recording.jsonl")).unwrap();
    assert!(recording.starts_with("{\"header\":") && recording.lines().count() == 2, "a model and one batch");
    let page = folder.join("report.html");
    let args = ["eval", "report", output.to_str().unwrap(), "--output", page.to_str().unwrap()];
    assert!(Command::new(env!("CARGO_BIN_EXE_selfrag")).args(args).status().unwrap().success());
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("popqa") && page.contains("2.375"));
    std::fs::remove_dir_all(&folder).ok();
}
