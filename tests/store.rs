//! Promise: a passage store gives back what was put in, finds what exact search finds, goes on where an interrupted build stopped,
//! and tells any damage.

mod common;

use std::{fs, path::PathBuf};

use common::Fake;
use proptest::prelude::*;
use selfrag::{
    Error, Result,
    ops::self_test::Random,
    platform::block_on,
    retriever::{
        Embedder, Passage, Retriever,
        build::{Options, Progress, build},
        files::{Folder, MemoryFiles},
        flat,
        flat_gpu::FlatGpu,
        index::{Index, Method},
        manifest::Manifest,
        passage_text,
        store::Store,
        vectors::{Precision, Vectors},
    },
};

const DIM: usize = Fake::DIM;
const ROWS: usize = 130;

fn passages() -> Vec<Passage> {
    let passage = |i: usize| Passage {
        id: format!("p{i}"),
        title: if i.is_multiple_of(3) { String::new() } else { format!("Title {i}") },
        text: format!("Text \"{i}\"\nwith a line end, ünïcödé and {}", "more ".repeat(i % 7)),
    };
    (0..ROWS).map(passage).collect()
}

/// A folder of its own for a test.
fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("selfrag-store-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

fn options() -> Options {
    Options { shard_rows: 50, batch: 16, graph: true, ..Options::default() }
}

fn make(output: &std::path::Path, embedder: &mut Fake, events: &mut Vec<Progress>) -> Result<Manifest> {
    let passages = passages().into_iter().map(Ok);
    block_on(build(passages, embedder, output, &options(), &mut |event| events.push(event)))
}

fn open(folder: &std::path::Path) -> Result<Store> {
    block_on(Store::open(Box::new(Folder::new(folder))))
}

/// The store's files in memory.
fn in_memory(folder: &std::path::Path) -> MemoryFiles {
    let mut files = MemoryFiles::default();
    for entry in fs::read_dir(folder).expect("the store").flatten() {
        let bytes = fs::read(entry.path()).expect("a file");
        files.files.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
    }
    files
}

fn verify(files: &MemoryFiles) -> Result<()> {
    let store = block_on(Store::open(Box::new(files.clone())))?;
    block_on(store.verify(&mut |_| {}))
}

#[test]
fn what_was_put_in_comes_out() {
    let folder = scratch("round-trip").join("store");
    make(&folder, &mut Fake::new(), &mut Vec::new()).expect("the store is built");
    let store = open(&folder).expect("the store opens");
    block_on(store.verify(&mut |_| {})).expect("the store is whole");
    assert_eq!((store.manifest().count, store.shards()), (ROWS as u64, 3));
    let rows: Vec<u32> = (0..ROWS as u32).rev().collect();
    let mut found = block_on(store.passages(&rows)).expect("passages");
    found.reverse();
    assert_eq!(found, passages());
    let texts: Vec<String> = passages().iter().map(passage_text).collect();
    let expected = block_on(Fake::new().embed(&texts)).expect("vectors");
    for precision in [Precision::F16, Precision::Int8] {
        let mut vectors = Vectors::new(precision, DIM);
        expected.iter().for_each(|vector| vectors.push(vector));
        assert_eq!(block_on(store.all_vectors(precision)).expect("vectors"), vectors);
    }
    fs::remove_dir_all(folder.parent().expect("scratch")).expect("clean up");
}

#[test]
fn every_way_to_search_finds_the_same() {
    let folder = scratch("search").join("store");
    make(&folder, &mut Fake::new(), &mut Vec::new()).expect("the store is built");
    let questions = ["Title 4 Text \"4\"", "something else", ""];
    let gpu = common::gpu();
    let methods = [
        Method::Exact,
        Method::ExactGpu(gpu.clone()),
        Method::ExactGpuWithin(gpu.clone(), None),
        Method::ExactGpuWithin(gpu, Some(4000)),
        Method::Hnsw,
    ];
    let results: Vec<_> = methods
        .into_iter()
        .map(|method| {
            let store = open(&folder).expect("the store opens");
            let mut index =
                block_on(Index::open(store, Box::new(Fake::new()), method, &mut |_| {})).expect("the index opens");
            block_on(index.search(&questions, 7)).expect("hits")
        })
        .collect();
    for other in &results[1..] {
        for (a, b) in results[0].iter().flatten().zip(other.iter().flatten()) {
            assert_eq!(a.passage, b.passage);
            let (a, b) = (a.score.expect("a score"), b.score.expect("a score"));
            assert!((a - b).abs() < 1e-4, "{a} and {b}");
        }
        assert_eq!(other.iter().map(Vec::len).collect::<Vec<_>>(), [7, 7, 7]);
    }
    let store = open(&folder).expect("the store opens");
    let stranger = Box::new(Fake { seed: 2, ..Fake::new() });
    let error = block_on(Index::open(store, stranger, Method::Exact, &mut |_| {})).expect_err("another encoder");
    assert!(error.to_string().contains("fake 1") && error.to_string().contains("fake 2"), "{error}");
    fs::remove_dir_all(folder.parent().expect("scratch")).expect("clean up");
}

#[test]
fn passages_and_questions_have_limits_of_their_own() {
    let folder = scratch("limits").join("store");
    make(&folder, &mut Fake { max_tokens: 12, ..Fake::new() }, &mut Vec::new()).expect("the store is built");
    for (most, cuts) in [(512, false), (5, true)] {
        let embedder = Box::new(Fake { max_tokens: most, ..Fake::new() });
        let store = open(&folder).expect("the store opens");
        assert_eq!(store.manifest().encoder.max_tokens, 12);
        let mut index = block_on(Index::open(store, embedder, Method::Exact, &mut |_| {})).expect("the same encoder");
        let hits = block_on(index.search(&["alike, then this", "alike, then that"], 3)).expect("hits");
        assert_eq!(hits[0] == hits[1], cuts, "{most} tokens of a question");
    }
    fs::remove_dir_all(folder.parent().expect("scratch")).expect("clean up");
}

#[test]
fn the_gpu_breaks_ties_as_the_cpu_does() {
    let gpu = common::gpu();
    let mut random = Random::new(3);
    for precision in Precision::ALL {
        let mut vectors = Vectors::new(precision, 2);
        // Few different rows, many ties, several chunks.
        (0..5000).for_each(|_| vectors.push(&[random.pick(0..=2) as f32, random.pick(0..=1) as f32]));
        let mut on_gpu = FlatGpu::new(&gpu, 2);
        block_on(on_gpu.push(&vectors)).expect("vectors fit");
        let questions = vec![vec![1.0, 0.5], vec![-1.0, 0.25], vec![0.0, 0.0]];
        let found = block_on(on_gpu.search(&questions, 11)).expect("a search");
        for (question, found) in questions.iter().zip(found) {
            assert_eq!(found, flat::search(&vectors, question, 11), "{precision:?} {question:?}");
        }
    }
}

#[test]
fn the_gpu_finds_the_same_in_any_pieces_for_any_number_of_questions_and_results() {
    let gpu = common::gpu();
    let seed = 7;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for precision in Precision::ALL {
        let dim = random.pick(1..=40);
        let mut on_gpu = FlatGpu::new(&gpu, dim);
        let mut all = Vectors::new(precision, dim);
        // Pieces that fill no tile, and one of several chunks.
        for rows in [1, 63, 64, 65, random.pick(1..=200), 9000] {
            let mut piece = Vectors::new(precision, dim);
            (0..rows).for_each(|_| piece.push(&random.values(dim).iter().map(|x| x.round()).collect::<Vec<_>>()));
            block_on(on_gpu.push(&piece)).expect("vectors fit");
            all.extend(&piece);
        }
        assert_eq!(on_gpu.rows(), all.rows());
        // Halves: sums are exact in any order.
        let questions: Vec<Vec<f32>> =
            (0..11).map(|_| (0..dim).map(|_| random.pick(0..=4) as f32 * 0.5 - 1.0).collect()).collect();
        for (count, k) in [(1, 1), (3, 100), (11, 10), (1, 5000), (2, all.rows() + 1), (1, 0), (0, 3)] {
            let found = block_on(on_gpu.search(&questions[..count], k)).expect("a search");
            assert_eq!(found.len(), count);
            for (question, found) in questions.iter().zip(found) {
                let expected = flat::search(&all, question, k);
                let same = found.iter().zip(&expected).all(|(a, b)| (a.score - b.score).abs() < 1e-4);
                assert!(found.len() == expected.len() && same, "{precision:?} {dim}, the best {k}");
                // An int8 scale may round differently; the others have none.
                assert!(precision == Precision::Int8 || found == expected, "{dim}, the best {k}");
            }
        }
        let bytes = gpu.allocated_bytes();
        block_on(on_gpu.search(&questions[..1], 10)).expect("a search");
        let after_one = gpu.allocated_bytes();
        block_on(on_gpu.search(&questions[..1], 10)).expect("a search");
        assert_eq!(gpu.allocated_bytes(), after_one, "a search like the last takes no memory; before: {bytes}");
    }
}

#[test]
fn rows_that_repeat_are_found_as_often() {
    let gpu = common::gpu();
    let mut random = Random::new(5);
    for precision in Precision::ALL {
        let mut piece = Vectors::new(precision, 20);
        (0..128).for_each(|_| piece.push(&random.values(20)));
        let mut all = FlatGpu::with_rows(&gpu, precision, 20, 1000).expect("there is room");
        all.prepare(1, 6).expect("there is room");
        block_on(all.fill(&piece)).expect("vectors fit");
        let question = random.values(20);
        let best = flat::search(&piece, &question, 1)[0].row;
        let expected: Vec<u32> = (0..1000).filter(|row| row % 128 == best).take(6).collect();
        let found = block_on(all.search(&[question], 6)).expect("a search");
        assert_eq!(found[0].iter().map(|scored| scored.row).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn an_interrupted_build_goes_on() {
    let folder = scratch("resume").join("store");
    let mut failing = Fake { left: 70, ..Fake::new() };
    assert!(matches!(make(&folder, &mut failing, &mut Vec::new()), Err(Error::Stopped)));
    assert!(!folder.exists(), "nothing is there before everything is");
    let mut events = Vec::new();
    let resumed = make(&folder, &mut Fake::new(), &mut events).expect("the store is built");
    assert_eq!(events[0], Progress::Resumed(50));
    assert_eq!(events.iter().filter(|e| matches!(e, Progress::Resumed(_))).count(), 1);
    // The same store as one made at once; a licence beside it survives the replacement.
    fs::write(folder.join("LICENCE.md"), "CC").expect("a file");
    let mut events = Vec::new();
    let again = make(&folder, &mut Fake::new(), &mut events).expect("the store is built again");
    assert!(!events.iter().any(|e| matches!(e, Progress::Resumed(_))));
    assert_eq!(again.shards, resumed.shards);
    assert_eq!(fs::read(folder.join("LICENCE.md")).expect("it is there"), b"CC");
    let entries = fs::read_dir(folder.parent().expect("scratch")).expect("scratch").count();
    assert_eq!(entries, 1, "no temporary folder is left");
    // Shards of another encoder are not taken over.
    let mut failing = Fake { left: 70, ..Fake::new() };
    assert!(make(&folder, &mut failing, &mut Vec::new()).is_err());
    let mut events = Vec::new();
    make(&folder, &mut Fake { seed: 2, ..Fake::new() }, &mut events).expect("the store is built");
    assert!(!events.iter().any(|e| matches!(e, Progress::Resumed(_))));
    fs::remove_dir_all(folder.parent().expect("scratch")).expect("clean up");
}

#[test]
fn a_folder_of_other_things_is_not_replaced() {
    let folder = scratch("foreign");
    fs::write(folder.join("diary.txt"), "dear").expect("a file");
    let error = make(&folder, &mut Fake::new(), &mut Vec::new()).expect_err("somebody's folder").to_string();
    assert!(error.contains("holds other files"), "{error}");
    // A web page's manifest makes no store of its folder.
    fs::write(folder.join("manifest.json"), r#"{"name": "app", "icons": []}"#).expect("a file");
    let error = make(&folder, &mut Fake::new(), &mut Vec::new()).expect_err("somebody's folder").to_string();
    assert!(error.contains("holds other files"), "{error}");
    assert!(folder.join("diary.txt").exists());
    fs::remove_dir_all(folder).expect("clean up");
}

#[test]
fn any_flipped_byte_is_found() {
    let folder = scratch("damage").join("store");
    make(&folder, &mut Fake::new(), &mut Vec::new()).expect("the store is built");
    let good = in_memory(&folder);
    verify(&good).expect("the store is whole");
    let mut random = Random::new(4);
    for (name, bytes) in good.files.iter().filter(|(name, _)| *name != "manifest.json") {
        for _ in 0..20 {
            let mut damaged = good.clone();
            let at = random.pick(0..=bytes.len() - 1);
            damaged.files.get_mut(name).expect("a file")[at] ^= 1 << random.pick(0..=7);
            let error = verify(&damaged).expect_err("damage").to_string();
            assert!(error.contains(name.as_str()), "{error:?} should name {name}");
        }
        let mut short = good.clone();
        short.files.get_mut(name).expect("a file").pop();
        assert!(verify(&short).expect_err("a short file").to_string().contains("size"));
        let mut missing = good.clone();
        missing.files.remove(name);
        assert!(verify(&missing).expect_err("a missing file").to_string().contains(name.as_str()));
    }
    // A passage read alone, by range, is checked too.
    let mut damaged = good.clone();
    damaged.files.get_mut("passages-00001.jsonl").expect("a file")[40] ^= 1;
    let store = block_on(Store::open(Box::new(damaged))).expect("the manifest is whole");
    let error = block_on(store.passages(&[50])).expect_err("damage").to_string();
    assert!(error.contains("passages-00001.jsonl"), "{error}");
    fs::remove_dir_all(folder.parent().expect("scratch")).expect("clean up");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Somebody who writes files and hashes alike can make no reader panic.
    #[test]
    fn hostile_offsets_and_passages_are_errors(
        offsets in prop::collection::vec(any::<u8>(), 3 * 8),
        text in prop::collection::vec(any::<u8>(), 96..200),
        vectors in prop::collection::vec(any::<u8>(), 3 * (4 + 4)),
    ) {
        use selfrag::retriever::manifest::{FileInfo, Shard};
        let mut manifest = Manifest::new(4, Fake::new().info());
        manifest.count = 3;
        manifest.shards.push(Shard {
            rows: 3,
            vectors: [(Precision::Int8, FileInfo::of("v", &vectors))].into(),
            passages: FileInfo::of("p", &text),
            offsets: FileInfo::of("o", &offsets),
        });
        let mut files = MemoryFiles::default();
        for (name, bytes) in [("manifest.json", manifest.to_json()), ("v", vectors), ("p", text), ("o", offsets)] {
            files.files.insert(name.into(), bytes);
        }
        let store = block_on(Store::open(Box::new(files.clone()))).expect("the manifest is consistent");
        prop_assert!(block_on(store.passages(&[0, 1, 2])).is_err());
        prop_assert!(verify(&files).is_err());
    }
}
