//! Promise: a store that is pushed to a Milvus server is found there as exact search finds it here, once and whole, whatever was interrupted; what
//! goes wrong is told.
//!
//! The server is milvus-lite, from PyPI, on loopback; with SELFRAG_MILVUS=standalone it is Milvus 2.3.5 (`cargo xtask test --long`).

mod common;

use std::{
    collections::HashSet,
    fs,
    net::{TcpListener, TcpStream},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use common::{Fake, Scratch};
use selfrag::{
    Result,
    platform::block_on,
    retriever::{
        Hit, Passage, Retriever,
        build::{Options, build},
        files::Folder,
        index::{Index, Method},
        milvus::{self, Address, IndexKind, Progress, PushOptions, Settings},
        store::Store,
        vectors::Precision,
    },
};

const ROWS: usize = 400;
/// For a server to start, on a machine that is busy with other things.
const STARTING: Duration = Duration::from_secs(300);

/// A server of the tests' own, stopped when it is dropped.
struct Server {
    child: Child,
    port: u16,
    data: Arc<Scratch>,
}

impl Server {
    /// On a port that is free, with nothing in it.
    fn start(name: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        Self::start_at(port, Arc::new(Scratch::new(name)))
    }

    fn start_at(port: u16, data: Arc<Scratch>) -> Self {
        let (program, args) = if standalone() {
            (
                tool("milvus-standalone/bin/milvus-server"),
                ["--data", &data.path("data"), "--proxy-port", &port.to_string()].map(String::from).to_vec(),
            )
        } else {
            let args = ["server", "--data-dir", &data.path("data"), "--host", "127.0.0.1", "--port", &port.to_string()];
            (tool("milvus-lite/bin/milvus-lite"), args.map(String::from).to_vec())
        };
        let log = fs::File::create(data.path("log")).expect("a log");
        let mut command = Command::new(&program);
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let mut server = Self { child, port, data };
        server.wait();
        server
    }

    /// Until it answers.
    fn wait(&mut self) {
        let (start, nothing) = (Instant::now(), self.address("nothing"));
        loop {
            let answers = TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && block_on(milvus::told(&nothing, Settings::default()))
                    .is_err_and(|e| e.to_string().contains("no such collection"));
            if answers {
                return;
            }
            let ended = self.child.try_wait().expect("a child has a state").is_some();
            if ended || start.elapsed() > STARTING {
                panic!("the server does not answer: {}", fs::read_to_string(self.data.path("log")).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn address(&self, collection: &str) -> Address {
        Address::parse(&self.place(collection)).expect("an address")
    }

    fn place(&self, collection: &str) -> String {
        format!("milvus://127.0.0.1:{}/{collection}", self.port)
    }

    /// Ends it, and gives what is needed to start it again.
    fn stop(mut self) -> (u16, Arc<Scratch>) {
        self.end();
        (self.port, self.data.clone())
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// One server for all tests that run at the same time.
fn shared() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|failed| failed.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start("milvus"));
        *shared = Arc::downgrade(&server);
        server
    })
}

fn standalone() -> bool {
    std::env::var("SELFRAG_MILVUS").is_ok_and(|server| server == "standalone")
}

/// What the set-up installed. There is no skipping: without a server nothing is shown.
fn tool(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/xtask").join(path);
    assert!(path.exists(), "{} is missing: run `cargo xtask setup`", path.display());
    path
}

fn passages(rows: usize, name: &str) -> Vec<Passage> {
    let passage = |i: usize| Passage {
        id: format!("{name} {i}"),
        title: if i.is_multiple_of(3) { String::new() } else { format!("Title \"{i}\"") },
        // 20 KB each, so that a push takes several batches.
        text: format!("Text {i} of {name}\nwith a line end, ünïcödé, 'quotes' and {}", "more ".repeat(4000 + i % 7)),
    };
    (0..rows).map(passage).collect()
}

/// A store of so many passages.
fn store(scratch: &Scratch, name: &str, passages: Vec<Passage>) -> Store {
    let options = Options { shard_rows: 150, batch: 64, precisions: vec![Precision::F32], ..Options::default() };
    let folder = scratch.0.join(name);
    block_on(build(passages.into_iter().map(Ok), &mut Fake::new(), &folder, &options, &mut |_| {})).expect("a store");
    open_store(&folder)
}

fn open_store(folder: &Path) -> Store {
    block_on(Store::open(Box::new(Folder::new(folder)))).expect("the store opens")
}

const FLAT: PushOptions = PushOptions { index: IndexKind::Flat, replace: false, timeout: Duration::from_secs(60) };

/// What a push said.
fn push(address: &Address, store: &Store, options: PushOptions) -> Result<Vec<Progress>> {
    let mut events = Vec::new();
    block_on(milvus::push(address, store, options, &mut |event| events.push(event)))?;
    Ok(events)
}

fn pushed(events: &[Progress]) -> u64 {
    events.iter().map(|event| if let Progress::Pushed(n) = event { *n } else { 0 }).sum()
}

fn open(address: &Address, settings: Settings) -> Result<Box<dyn Retriever>> {
    block_on(milvus::open(address, Box::new(Fake::new()), settings))
}

fn questions() -> Vec<String> {
    (0..40).map(|i| format!("question {i}")).collect()
}

fn search(retriever: &mut dyn Retriever, n_docs: usize) -> Result<Vec<Vec<Hit>>> {
    let questions = questions();
    block_on(retriever.search(&questions.iter().map(String::as_str).collect::<Vec<_>>(), n_docs))
}

/// Exact search on this machine.
fn exact(folder: &Path, n_docs: usize) -> Vec<Vec<Hit>> {
    let mut quiet = |_| {};
    let index = block_on(Index::open(open_store(folder), Box::new(Fake::new()), Method::Exact, &mut quiet));
    search(&mut index.expect("the index opens"), n_docs).expect("hits")
}

fn assert_same(found: &[Vec<Hit>], expected: &[Vec<Hit>]) {
    assert_eq!(found.len(), expected.len());
    for (question, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len(), "question {question}");
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            let (a, b) = (found.score.expect("a score"), expected.score.expect("a score"));
            assert!((a - b).abs() < 1e-4, "question {question}, place {at}: score {a}, {b} expected");
            assert_eq!(found.passage, expected.passage, "question {question}, place {at}: scores {a} and {b}");
        }
    }
}

#[test]
fn a_pushed_store_is_found_as_exact_search_finds_it_and_pushed_once() {
    let (server, scratch) = (shared(), Scratch::new("milvus-flat"));
    let (address, passages) = (server.address("flat"), passages(ROWS, "flat"));
    let store = store(&scratch, "store", passages);
    let events = push(&address, &store, FLAT).expect("a push");
    assert_eq!((events[3], pushed(&events)), (Progress::Resumed(0), ROWS as u64));
    assert!(
        events.iter().filter(|event| matches!(event, Progress::Pushed(_))).count() > 3,
        "several batches: {events:?}"
    );
    let mut retriever = open(&address, Settings::default()).expect("the collection opens");
    for n_docs in [1, 10, ROWS + 5] {
        let expected = exact(&scratch.0.join("store"), n_docs);
        assert_same(&search(retriever.as_mut(), n_docs).expect("hits"), &expected);
    }
    assert_eq!(search(retriever.as_mut(), 0).expect("no hits"), vec![vec![]; questions().len()]);
    let error = search(retriever.as_mut(), 20_000).expect_err("too many").to_string();
    assert!(error.contains("20000") && error.contains("16384"), "{error}");

    let again = push(&address, &store, FLAT).expect("the same push");
    assert_eq!((again.last(), pushed(&again)), (Some(&Progress::Indexing), 0));
    let told = block_on(milvus::told(&address, Settings::default())).expect("it is whole");
    assert!(told.contains(&format!("passages    {ROWS}\n")) && told.contains("FLAT, inner product"), "{told}");
    assert_same(&search(retriever.as_mut(), 10).expect("hits"), &exact(&scratch.0.join("store"), 10));

    let stranger = block_on(milvus::open(&address, Box::new(Fake { seed: 2, ..Fake::new() }), Settings::default()));
    let error = stranger.err().expect("another encoder").to_string();
    for part in [&address.to_string(), "\"fake 1\"", "\"fake 2\"", "cosine"] {
        assert!(error.contains(part), "{error:?} should name {part}");
    }
}

#[test]
fn a_push_that_was_killed_goes_on_where_it_was() {
    let (server, scratch) = (shared(), Scratch::new("milvus-killed"));
    let (address, store) = (server.address("killed"), store(&scratch, "store", passages(ROWS, "killed")));
    let mut batches = 0;
    let killed = std::panic::catch_unwind(AssertUnwindSafe(|| {
        block_on(milvus::push(&address, &store, FLAT, &mut |event| {
            batches += i32::from(matches!(event, Progress::Pushed(_)));
            assert!(batches < 3, "killed here, as this test wants it");
        }))
    }));
    assert!(killed.is_err());
    let error = open(&address, Settings::default()).err().expect("a part").to_string();
    assert!(error.contains(&format!("{ROWS} expected: push the store again")), "{error}");
    let events = push(&address, &store, FLAT).expect("the rest");
    let Some(Progress::Resumed(there)) = events.iter().find(|event| matches!(event, Progress::Resumed(_))) else {
        panic!("{events:?}")
    };
    assert!(*there > 0 && pushed(&events) == ROWS as u64 - there, "{events:?}");
    let mut retriever = open(&address, Settings::default()).expect("all is there");
    assert_same(&search(retriever.as_mut(), 10).expect("hits"), &exact(&scratch.0.join("store"), 10));
}

#[test]
fn clusters_find_nearly_all_and_all_of_them_everything() {
    let (server, scratch) = (shared(), Scratch::new("milvus-ivf"));
    let (address, store) = (server.address("ivf"), store(&scratch, "store", passages(ROWS, "ivf")));
    push(&address, &store, PushOptions { index: IndexKind::Ivf { nlist: 16 }, ..FLAT }).expect("a push");
    let expected = exact(&scratch.0.join("store"), 10);
    let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.passage.id.clone()).collect::<HashSet<_>>();
    let recall = |nprobe| {
        let mut retriever = open(&address, Settings { nprobe: Some(nprobe), ..Settings::default() }).expect("it opens");
        let found = search(retriever.as_mut(), 10).expect("hits");
        let same: usize = found.iter().zip(&expected).map(|(a, b)| ids(a).intersection(&ids(b)).count()).sum();
        same as f64 / (10 * expected.len()) as f64
    };
    // Random vectors are the hardest for clusters.
    let (half, all) = (recall(8), recall(16));
    println!("recall@10 with 8 of 16 clusters {half:.3}, with all {all:.3}");
    assert!(half > 0.75 && all > 0.999, "recall@10 {half} and {all}");
    let error = push(&address, &store, FLAT).expect_err("another index").to_string();
    assert!(error.contains("another index, IVF of 16 clusters") && error.contains("--replace"), "{error}");
}

#[test]
fn what_is_somebody_elses_stays_unless_it_may_be_replaced() {
    let (server, scratch) = (shared(), Scratch::new("milvus-foreign"));
    let address = server.address("foreign");
    let script = format!(
        "from pymilvus import MilvusClient as C; c = C('http://127.0.0.1:{}'); c.create_collection('foreign', dimension=4); \
         c.insert('foreign', [dict(id=7, vector=[0, 0, 0, 1])])",
        server.port
    );
    let python = Command::new(tool("milvus-lite/bin/python")).args(["-c", &script]).output().expect("Python runs");
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let one = store(&scratch, "one", passages(20, "one"));
    for error in [
        push(&address, &one, FLAT).expect_err("a stranger"),
        open(&address, Settings::default()).err().expect("a stranger"),
    ] {
        let error = error.to_string();
        assert!(
            error.starts_with(&address.to_string()) && error.contains("`selfrag index push` did not make"),
            "{error}"
        );
    }
    let replace = PushOptions { replace: true, ..FLAT };
    assert_eq!(pushed(&push(&address, &one, replace).expect("it may")), 20);
    let two = store(&scratch, "two", passages(30, "two"));
    let error = push(&address, &two, FLAT).expect_err("another store").to_string();
    assert!(
        error.contains("20 passages of another store, embedded by \"fake 1\"") && error.contains("--replace"),
        "{error}"
    );
    assert_eq!(pushed(&push(&address, &two, replace).expect("it may")), 30);
    // The same again is not dropped.
    assert_eq!(pushed(&push(&address, &two, replace).expect("it is there")), 0);
    let mut retriever = open(&address, Settings::default()).expect("the collection opens");
    assert_same(&search(retriever.as_mut(), 5).expect("hits"), &exact(&scratch.0.join("two"), 5));
}

#[test]
fn a_passage_that_fits_no_field_is_named_before_anything_is_written() {
    let (server, scratch) = (shared(), Scratch::new("milvus-long"));
    let address = server.address("long");
    let mut passages = passages(3, "p");
    passages[1].text = "é".repeat(32_768);
    let long = store(&scratch, "long", passages.clone());
    let error = push(&address, &long, FLAT).expect_err("too long").to_string();
    assert!(error.contains("passage \"p 1\", text: 65536 bytes") && error.contains("65535"), "{error}");
    let error = open(&address, Settings::default()).err().expect("nothing").to_string();
    assert!(error.contains("no such collection"), "{error}");
    passages[1].text.pop();
    passages[1].text.push('e');
    let fits = store(&scratch, "fits", passages);
    assert_eq!(pushed(&push(&address, &fits, FLAT).expect("it fits to the byte")), 3);
}

#[test]
fn a_server_that_goes_is_told_and_one_that_comes_back_is_asked_again() {
    let (server, scratch) = (Server::start("milvus-comes-and-goes"), Scratch::new("milvus-gone"));
    let (address, store) = (server.address("kept"), store(&scratch, "store", passages(30, "kept")));
    push(&address, &store, FLAT).expect("a push");
    let mut retriever =
        open(&address, Settings { timeout: Duration::from_secs(20), ..Settings::default() }).expect("it opens");
    let expected = exact(&scratch.0.join("store"), 5);
    assert_same(&search(retriever.as_mut(), 5).expect("hits"), &expected);
    let (port, data) = server.stop();
    let (start, error) = (Instant::now(), search(retriever.as_mut(), 5).expect_err("nobody answers").to_string());
    assert!(error.starts_with(&format!("{address}: search: ")), "{error}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let error = open(&address, Settings::default()).err().expect("nobody listens").to_string();
    assert!(error.starts_with(&format!("{address}: no server to connect to: ")), "{error}");
    let _server = Server::start_at(port, data);
    assert_same(&search(retriever.as_mut(), 5).expect("hits again"), &expected);
}

fn selfrag(args: &[&str]) -> Result<(String, String), String> {
    let output = Command::new(env!("CARGO_BIN_EXE_selfrag")).args(args).stdin(Stdio::null()).output().expect("it runs");
    let [out, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    if output.status.success() { Ok((out, errors)) } else { Err(errors) }
}

#[test]
fn the_commands_push_show_and_search() {
    let (server, scratch) = (shared(), Scratch::new("milvus-commands"));
    let encoder = common::model("minilm").display().to_string();
    let rows = ["Paris is its capital.\tFrance", "It barks.\tDog", "Stars shine at night.\tSky"];
    let rows: String = rows.iter().enumerate().map(|(i, row)| format!("{}\t{row}\n", i + 1)).collect();
    let (file, store) = (scratch.path("p.tsv"), scratch.path("store"));
    fs::write(&file, rows).expect("a file");
    let build = ["index", "build", "--encoder", &encoder, "--passages", &file, "--output", &store, "--vectors", "f32"];
    selfrag(&build).expect("a store");
    let place = server.place("commands");
    let (out, errors) = selfrag(&["index", "push", &store, &place]).expect("a push");
    assert_eq!(out, format!("{place}\n"));
    assert!(errors.contains("3 passages, 0 of them were there before; FLAT"), "{errors}");
    let (out, _) = selfrag(&["index", "info", &place]).expect("it is there");
    assert!(out.contains("passages    3\n") && out.contains("dimensions  384\n"), "{out}");
    let retrieve = ["retrieve", "--model", &encoder, "--query", "a barking animal", "--n_docs", "2", "--json"];
    let there = selfrag(&[&retrieve[..], &["--retriever", &place]].concat()).expect("hits").0;
    let here = selfrag(&[&retrieve[..], &["--index", &store, "--cpu"]].concat()).expect("hits").0;
    let [there, here] = [there, here].map(|json| serde_json::from_str::<serde_json::Value>(&json).expect("JSON"));
    for at in 0..2 {
        for key in ["id", "title", "text"] {
            assert_eq!(there["ctxs"][at][key], here["ctxs"][at][key]);
        }
    }
    assert_eq!(there["ctxs"][0]["title"], "Dog");
    for (options, problem) in [
        (["--retriever", &place, "--hnsw"], "hnsw: milvus://127.0.0.1"),
        (["--retriever", &place, "--cpu"], "--cpu: milvus://127.0.0.1"),
        (["--retriever", "milvus://root:SECRET@/c", "--json"], "milvus://[user:password@]host:port/"),
    ] {
        let error =
            selfrag(&[&["retrieve", "--model", &encoder, "--query", "q"][..], &options].concat()).expect_err("refused");
        assert!(error.contains(problem) && !error.contains("SECRET"), "{options:?}: {error}");
    }
}
