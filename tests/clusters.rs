//! Promise: a clustered store finds what exact search finds, within its limits; a build that was killed goes on and gives the same
//! bytes; damage, hostile files and hostile servers are errors, never a wrong passage, a panic or a hang.

mod common;
#[path = "common/host.rs"]
mod host;
#[path = "clusters/kept.rs"]
mod kept;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
};

use common::Scratch;
use host::{Host, Manner};
use proptest::prelude::*;
use selfrag::{
    Error, Result,
    ops::self_test::Random,
    platform::{ByteSource, LocalFuture, block_on},
    retriever::{
        Embedder, Passage, build as flat_build,
        clusters::{
            build::{Options, Progress, build},
            format::{Block, Manifest, Part, Place, Record, block_bytes},
            index::ClusterIndex,
            measure::Truth,
            search::{Clusters, Found, Limits},
        },
        files::{Files, Folder, MemoryFiles, Remote},
        flat,
        index::Method,
        manifest::{EncoderInfo, FileInfo},
        open::open,
        passage_text,
        store::Store,
        text::TextOptions,
        vectors::{Precision, Vectors},
    },
};

const DIM: usize = 24;
const ROWS: usize = 700;

/// Texts with a number near each other get vectors near each other.
struct Fake;

impl Embedder for Fake {
    fn dim(&self) -> usize {
        DIM
    }

    fn info(&self) -> EncoderInfo {
        EncoderInfo {
            name: "fake".into(),
            sha256: "f".repeat(64),
            normalised: false,
            max_tokens: 9,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            text: TextOptions::default(),
        }
    }

    fn limit_tokens(&mut self, _most: usize) {}

    fn embed<'a>(&'a mut self, texts: &'a [String]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>> {
        Box::pin(std::future::ready(Ok(texts.iter().map(|text| vector(text)).collect())))
    }
}

/// A direction for the topic, the number's tens, and a little of the text's own.
fn vector(text: &str) -> Vec<f32> {
    let number: u64 = text.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    let (topic, own) = (Random::new(number / 20).values(DIM), Random::new(number + 1000).values(DIM));
    topic.iter().zip(own).map(|(a, b)| a + 0.4 * b).collect()
}

fn passages() -> impl Iterator<Item = Result<Passage>> {
    (0..ROWS).map(|i| {
        let text = format!("Text \"{i}\"\nof {}", "some words ".repeat(i % 13));
        Ok(Passage { id: format!("p{i}"), title: String::new(), text })
    })
}

fn flat(folder: &Path) -> Store {
    let options = flat_build::Options { shard_rows: 150, ..flat_build::Options::default() };
    block_on(flat_build::build(passages(), &mut Fake, folder, &options, &mut |_| {})).expect("a flat store");
    open_flat(folder)
}

fn open_flat(folder: &Path) -> Store {
    block_on(Store::open(Box::new(Folder::new(folder)))).expect("a flat store")
}

fn options() -> Options {
    let questions = Some((0..5).map(question).collect());
    Options { part_bytes: 30_000, clusters: Some(40), questions, ..Options::default() }
}

/// A flat store and its clusters, in memory.
fn stores(name: &str) -> (Scratch, Store, MemoryFiles) {
    let scratch = Scratch::new(name);
    let store = flat(&scratch.0.join("flat"));
    let clusters = scratch.0.join("clusters");
    block_on(build(&store, &clusters, &options(), &mut |_| {})).expect("clusters");
    let files = in_memory(&clusters);
    (scratch, store, files)
}

fn in_memory(folder: &Path) -> MemoryFiles {
    let mut files = MemoryFiles::default();
    for entry in fs::read_dir(folder).expect("the store").flatten() {
        let bytes = fs::read(entry.path()).expect("a file");
        files.files.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
    }
    files
}

fn clusters(files: impl Files + 'static, limits: Limits) -> Result<Clusters> {
    block_on(Clusters::open(Box::new(files), limits))
}

fn everything() -> Limits {
    Limits {
        probes: Some(usize::MAX),
        requests: 1000,
        block_requests: 500,
        bytes: 1 << 30,
        preload: 0,
        block_bytes: 1 << 29,
        ..Limits::default()
    }
}

fn question(i: usize) -> Vec<f32> {
    let mut question = vector(&format!("{}", i * 37 % ROWS));
    question.iter_mut().zip(Random::new(i as u64).values(DIM)).for_each(|(x, noise)| *x += 0.3 * noise);
    question
}

fn rows(found: &Found) -> Vec<u32> {
    found.records.iter().map(|(record, _)| record.row).collect()
}

#[test]
fn with_everything_allowed_search_is_exact_and_passages_are_the_right_ones() {
    let (_scratch, store, files) = stores("clusters-exact");
    let all = block_on(store.all_vectors(Precision::Int8)).expect("vectors");
    let passages: Vec<Passage> = passages().map(|passage| passage.expect("a passage")).collect();
    let clusters = clusters(files, everything()).expect("the store opens");
    block_on(clusters.verify(&mut |_| {})).expect("the store is whole");
    for i in 0..20 {
        let question = question(i);
        let found = block_on(clusters.find(&question, 10)).expect("an answer");
        let expected = flat::search(&all, &question, 10);
        assert_eq!(rows(&found), expected.iter().map(|scored| scored.row).collect::<Vec<_>>());
        for ((record, score), expected) in found.records.iter().zip(expected) {
            assert_eq!(*score, expected.score);
            assert_eq!(record.passage, passages[record.row as usize]);
        }
        assert!(found.cost.rounds <= 2 && found.cost.clusters_searched == found.cost.clusters);
    }
}

/// Counts ranges and bytes that are really read.
#[derive(Clone)]
struct Counted {
    files: MemoryFiles,
    reads: Rc<RefCell<Vec<(String, u64, usize)>>>,
}

struct CountedSource(Box<dyn ByteSource>, Counted);

impl Files for Counted {
    fn name(&self) -> &str {
        "counted"
    }

    fn open<'a>(&'a self, file: &'a str, bytes: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(async move {
            let source = self.files.open(file, bytes).await?;
            Ok(Box::new(CountedSource(source, self.clone())) as Box<dyn ByteSource>)
        })
    }
}

impl ByteSource for CountedSource {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, Result<Vec<u8>>> {
        self.1.reads.borrow_mut().push((self.0.name().to_owned(), offset, len));
        self.0.read(offset, len)
    }
}

#[test]
fn limits_are_kept_and_costs_are_what_was_read() {
    let (_scratch, store, files) = stores("clusters-limits");
    let all = block_on(store.all_vectors(Precision::Int8)).expect("vectors");
    for (requests, bytes, probes, least) in [(20, 60_000, 8, 0.85), (6, 20_000, 4, 0.5), (1, 1, 1, 0.1)] {
        let limits = Limits {
            probes: Some(probes),
            requests,
            block_requests: requests.div_ceil(2),
            bytes,
            block_bytes: bytes / 2,
            preload: 0,
            block_cache: 0,
            record_cache: 0,
        };
        let counted = Counted { files: files.clone(), reads: Rc::default() };
        let clusters = clusters(counted.clone(), limits).expect("the store opens");
        let mut hits = 0;
        for i in 0..20 {
            counted.reads.borrow_mut().clear();
            let found = block_on(clusters.find(&question(i), 5)).expect("an answer");
            let reads = counted.reads.borrow().clone();
            assert_eq!(found.cost.requests, reads.len());
            assert_eq!(found.cost.bytes, reads.iter().map(|read| read.2 as u64).sum::<u64>());
            // What must be there to give five passages at all is read in any case.
            assert!(found.cost.requests <= requests.max(1 + 5), "{:?}", found.cost);
            assert!(found.cost.bytes <= bytes.max(80_000) && found.cost.rounds <= 2, "{:?}", found.cost);
            assert_eq!(found.records.len(), 5);
            // Exact among what was seen: scores are true, best first.
            for (record, score) in &found.records {
                assert_eq!(all.dot(record.row as usize, &question(i)), *score);
            }
            assert!(found.records.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            let expected: BTreeSet<u32> = flat::search(&all, &question(i), 5).iter().map(|scored| scored.row).collect();
            hits += rows(&found).iter().filter(|row| expected.contains(row)).count();
        }
        let recall = hits as f32 / 100.0;
        assert!(recall >= least, "recall {recall} with {requests} requests, {least} expected");
    }
}

/// Probing P clusters with all bytes allowed finds the best of these clusters' rows, and of those between them.
#[test]
fn a_search_equals_brute_force_over_the_probed_clusters() {
    let (_scratch, _store, files) = stores("clusters-brute");
    let limits = Limits { probes: Some(3), preload: 0, block_cache: 0, record_cache: 0, ..everything() };
    let some = clusters(files.clone(), limits).expect("the store opens");
    let all = clusters(files.clone(), everything()).expect("the store opens");
    for i in 0..10 {
        let question = question(i);
        let found = block_on(some.find(&question, 6)).expect("an answer");
        assert!(found.cost.clusters_searched >= 3);
        // Every row of all clusters, in the order of exact search; those of the best three centroids must come in that order.
        let ranked = block_on(all.find(&question, ROWS)).expect("an answer");
        assert_eq!(ranked.records.len(), ROWS);
        let table = some.table();
        let mut order: Vec<usize> = (0..table.clusters.len()).collect();
        order.sort_by(|a, b| table.centroids.dot(*b, &question).total_cmp(&table.centroids.dot(*a, &question)));
        let probed: BTreeSet<u32> = order[..3].iter().flat_map(|cluster| rows_of(&files, &all, *cluster)).collect();
        let expected = ranked.records.iter().map(|(record, _)| record.row).filter(|row| probed.contains(row));
        let best: Vec<u32> = expected.take(6).collect();
        let worst_found = found.records.last().expect("six").1;
        for (record, score) in ranked.records.iter().filter(|(record, _)| best.contains(&record.row)) {
            assert!(rows(&found).contains(&record.row) || *score <= worst_found, "row {} of question {i}", record.row);
        }
    }
}

/// The rows of a cluster, read out of the files by the format's own rules.
fn rows_of(files: &MemoryFiles, clusters: &Clusters, number: usize) -> Vec<u32> {
    let (manifest, cluster) = (clusters.manifest(), &clusters.table().clusters[number]);
    let slice = |file: &str, range: Range<u64>| files.files[file][range.start as usize..range.end as usize].to_vec();
    let part = &manifest.parts[cluster.part];
    let bytes = slice(&part.codes.file, cluster.codes.clone());
    let block = Block::parse("codes", cluster, DIM, manifest.bits, &bytes).expect("a block");
    let row = |row| {
        let range = block.record(cluster, row);
        let bytes = slice(&part.records.file, range.clone());
        let place = Place { build: &manifest.build, cluster: number, row };
        Record::parse("records", range.start, place, DIM, manifest.count, &bytes).expect("a record").row
    };
    (0..cluster.rows).map(row).collect()
}

#[test]
fn what_was_read_is_not_read_again() {
    let (_scratch, _store, files) = stores("clusters-cache");
    let clusters = clusters(files, Limits { preload: 0, ..Limits::default() }).expect("the store opens");
    let first = block_on(clusters.find(&question(1), 5)).expect("an answer");
    let again = block_on(clusters.find(&question(1), 5)).expect("an answer");
    assert!(first.cost.bytes > 0 && first.cost.requests > 0);
    assert_eq!((again.cost.bytes, again.cost.requests, again.cost.rounds), (0, 0, 0));
    assert_eq!(rows(&first), rows(&again));
}

#[test]
fn with_codes_in_memory_a_question_takes_one_round_and_looks_at_every_row() {
    let (_scratch, store, files) = stores("clusters-preload");
    let all = block_on(store.all_vectors(Precision::Int8)).expect("vectors");
    let limits = Limits { requests: 9, bytes: 60_000, record_cache: 0, ..Limits::default() };
    let clusters = clusters(files, limits).expect("the store opens");
    let parts = &clusters.manifest().parts;
    let codes: u64 = parts.iter().map(|part| part.codes.bytes).sum();
    assert!(clusters.preloaded() && clusters.opened().0 > codes + clusters.manifest().table.bytes);
    assert_eq!(clusters.opened().1, 2 + parts.len());
    let mut hits = 0;
    for i in 0..20 {
        let found = block_on(clusters.find(&question(i), 5)).expect("an answer");
        assert!(found.cost.rounds == 1 && found.cost.clusters_searched == found.cost.clusters, "{:?}", found.cost);
        assert!(found.cost.bytes <= 60_000 && found.cost.requests <= 9, "{:?}", found.cost);
        let expected = flat::search(&all, &question(i), 5);
        hits += expected.iter().filter(|scored| rows(&found).contains(&scored.row)).count();
    }
    assert!(hits >= 92, "{hits} of 100");
    assert!(clusters.measured().is_some_and(|measured| measured.preloaded));
}

/// Stops a build by a panic at some event, as a kill would.
fn killed_at(store: &Store, output: &Path, kill: usize) -> bool {
    let events = Cell::new(0);
    let run = std::panic::AssertUnwindSafe(|| {
        block_on(build(store, output, &options(), &mut |_| {
            events.set(events.get() + 1);
            assert!(events.get() != kill, "killed");
        }))
    });
    std::panic::catch_unwind(run).is_err()
}

#[test]
fn a_killed_build_goes_on_and_gives_the_same_bytes() {
    let (scratch, store, whole) = stores("clusters-resume");
    // 12 steps of k-means, then 5 shards twice, then measuring.
    for kill in [3, 15, 21, 23] {
        let output = scratch.0.join(format!("killed-{kill}"));
        assert!(killed_at(&store, &output, kill), "the build has {kill} events");
        assert!(!output.exists(), "nothing is there before everything is");
        let mut trained = 0;
        block_on(build(&store, &output, &options(), &mut |event| {
            trained += usize::from(matches!(event, Progress::Trained(..)));
        }))
        .expect("the build goes on");
        assert_eq!(trained, if kill <= 12 { 12 } else { 0 }, "k-means is kept");
        assert_eq!(in_memory(&output).files, whole.files, "killed at event {kill}");
    }
    // Other settings take nothing over.
    let output = scratch.0.join("other");
    assert!(killed_at(&store, &output, 18));
    let other = Options { seed: 2, ..options() };
    let mut trained = 0;
    block_on(build(&store, &output, &other, &mut |event| {
        trained += usize::from(matches!(event, Progress::Trained(..)))
    }))
    .expect("a build");
    assert_eq!(trained, 12);
    let entries: Vec<PathBuf> = fs::read_dir(&scratch.0).expect("scratch").flatten().map(|e| e.path()).collect();
    assert!(!entries.iter().any(|path| path.to_string_lossy().contains("partial")), "{entries:?}");
}

#[test]
fn only_a_clustered_store_is_replaced_and_strangers_stay() {
    let (scratch, store, _) = stores("clusters-replace");
    let error = block_on(build(&store, &scratch.0.join("flat"), &options(), &mut |_| {})).expect_err("the flat store");
    assert!(error.to_string().contains("clustered"), "{error}");
    let output = scratch.0.join("clusters");
    fs::write(output.join("LICENCE.md"), "CC").expect("a file");
    block_on(build(&store, &output, &Options { clusters: Some(7), ..options() }, &mut |_| {})).expect("a build");
    assert_eq!(fs::read(output.join("LICENCE.md")).expect("it is there"), b"CC");
    let manifest = Manifest::parse("m", &fs::read(output.join("manifest.json")).expect("a manifest")).expect("good");
    assert!(manifest.clusters <= 7);
    assert!(!output.join("records-00012.bin").exists() || manifest.parts.len() > 12);
    // What cannot be read as a clustered store's manifest may be anything's, and nothing beside it is touched.
    fs::write(output.join("manifest.json"), r#"{"clusters": []}"#).expect("a file");
    assert!(block_on(build(&store, &output, &options(), &mut |_| {})).is_err());
    assert!(output.join("LICENCE.md").exists());
    let (flat, new) = (scratch.0.join("flat"), scratch.0.join("new"));
    for (bad, named) in [
        (Options { bits: 5, ..options() }, "bits"),
        (Options { probes: Some(0), ..options() }, "probes"),
        (Options { part_bytes: 1 << 40, ..options() }, "part-mb"),
        (Options { clusters: Some(2_000_000), ..options() }, "clusters"),
    ] {
        let error = block_on(build(&open_flat(&flat), &new, &bad, &mut |_| {})).expect_err(named).to_string();
        assert!(error.contains(named) && !new.exists(), "{error}");
    }
}

#[test]
fn any_flipped_byte_is_found_by_verify_and_never_changes_an_answer() {
    let (_scratch, _store, good) = stores("clusters-damage");
    let answers = |files: &MemoryFiles| -> Result<Vec<Vec<(u32, String)>>> {
        let clusters = clusters(files.clone(), Limits { preload: 0, block_cache: 0, record_cache: 0, ..everything() })?;
        let find = |i| -> Result<_> {
            let found = block_on(clusters.find(&question(i), 5))?;
            Ok(found.records.iter().map(|(record, _)| (record.row, record.passage.text.clone())).collect())
        };
        (0..2).map(find).collect()
    };
    let expected = answers(&good).expect("the store is whole");
    let mut random = Random::new(6);
    for (name, bytes) in &good.files {
        for _ in 0..4 {
            let mut damaged = good.clone();
            let at = random.pick(0..=bytes.len() - 1);
            damaged.files.get_mut(name).expect("a file")[at] ^= 1 << random.pick(0..=7);
            let verified = clusters(damaged.clone(), Limits::default()).and_then(|c| block_on(c.verify(&mut |_| {})));
            // White space in the manifest is nobody's business.
            assert!(verified.is_err() || name == "manifest.json", "{name} byte {at}");
            match answers(&damaged) {
                Ok(found) => assert_eq!(found, expected, "{name} byte {at}"),
                Err(error) => assert!(matches!(error, Error::Input { .. }), "{error}"),
            }
        }
        let mut short = good.clone();
        short.files.get_mut(name).expect("a file").pop();
        assert!(answers(&short).is_err(), "a short {name}");
        let mut missing = good.clone();
        missing.files.remove(name);
        assert!(answers(&missing).is_err(), "a missing {name}");
    }
    // Files of another build of the same sizes: another seed gives other codes, so its records are other records.
    let names: Vec<&String> = good.files.keys().filter(|name| name.starts_with("records")).collect();
    let mut swapped = good.clone();
    let (a, b) = (good.files[names[0]].clone(), good.files[names[1]].clone());
    let length = a.len().min(b.len());
    swapped.files.get_mut(names[0]).expect("a file")[..length].copy_from_slice(&b[..length]);
    assert!(answers(&swapped).is_err(), "records of another part");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Somebody who writes files and hashes alike can make no reader panic.
    #[test]
    fn hostile_tables_blocks_and_records_are_errors(
        table in prop::collection::vec(any::<u8>(), 2 * (20 + 4 + 4)),
        rows in 1u8..4,
        seed: u64,
    ) {
        let mut random = Random::new(seed);
        let codes: Vec<u8> = (0..2 * block_bytes(usize::from(rows), 4, 1)).map(|_| random.bits() as u8).collect();
        let records: Vec<u8> = (0..2 * u64::from(rows) * 60).map(|_| random.bits() as u8).collect();
        let mut manifest = Manifest::new(4, Fake.info(), 1, 1);
        (manifest.count, manifest.clusters) = (2 * u64::from(rows), 2);
        // As often as not the lengths are right, and the block's hash.
        let mut table = table;
        if seed.is_multiple_of(2) {
            let half = codes.len() / 2;
            for i in 0..2 {
                table[i * 4..i * 4 + 4].copy_from_slice(&u32::from(rows).to_le_bytes());
                table[8 + i * 4..12 + i * 4].copy_from_slice(&(u32::from(rows) * 60).to_le_bytes());
                table[16 + i * 8..24 + i * 8].copy_from_slice(&Block::check(&codes[i * half..(i + 1) * half]));
                table[32 + i * 4..36 + i * 4].copy_from_slice(&1f32.to_le_bytes());
                table[40 + i * 4..44 + i * 4].copy_from_slice(&1f32.to_le_bytes());
            }
        }
        manifest.table = FileInfo::of("t", &table);
        manifest.parts.push(Part { clusters: 2, codes: FileInfo::of("c", &codes), records: FileInfo::of("r", &records) });
        let mut files = MemoryFiles::default();
        for (name, bytes) in [("manifest.json", manifest.to_json()), ("t", table), ("c", codes), ("r", records)] {
            files.files.insert(name.into(), bytes);
        }
        match clusters(files, Limits::default()) {
            Ok(clusters) => {
                prop_assert!(block_on(clusters.find(&[1.0, 0.5, -1.0, 2.0], 3)).is_err());
                let verified = block_on(clusters.verify(&mut |_| {}));
                prop_assert!(verified.is_err());
            }
            Err(error) => prop_assert!(matches!(error, Error::Input { .. }), "{error}"),
        }
    }
}

#[test]
fn contradictions_in_a_manifest_are_refused_at_their_place() {
    let (_scratch, _store, files) = stores("clusters-manifest");
    let good = Manifest::parse("m", &files.files["manifest.json"]).expect("a manifest");
    type Damage = fn(&mut Manifest);
    let cases: [(Damage, &str); 14] = [
        (|m| m.version = 2, "format"),
        (|m| m.metric = "cosine".into(), "format"),
        (|m| m.dim = 0, "dim"),
        (|m| m.dim = usize::MAX, "dim"),
        (|m| m.dim = 25, "table.bytes"),
        (|m| m.bits = 5, "bits"),
        (|m| m.clusters = u64::MAX, "clusters"),
        (|m| m.parts[0].clusters = u64::MAX, "clusters"),
        (|m| m.count = 3, "clusters"),
        (|m| m.parts[0].codes.file = "../c".into(), "parts[0].codes.file"),
        (|m| m.parts[0].records.bytes = u64::MAX, "parts[0].records.bytes"),
        (|m| m.parts[1].records.file = "codes-00000.bin".into(), "parts[1].records.file"),
        (|m| m.probes = 0, "probes"),
        (|m| m.measured[0].recall_at_10 = f32::NAN, "measured[0]"),
    ];
    for (damage, place) in cases {
        let mut manifest = good.clone();
        damage(&mut manifest);
        let error = Manifest::parse("m", &manifest.to_json()).expect_err(place).to_string();
        // JSON has no NaN: it is refused before.
        assert!(error.starts_with(&format!("m: {place}: ")) || error.starts_with("m: line "), "{place}: {error}");
    }
    // Rows moved from one cluster to another in the table, with its hash: the blocks no longer fit.
    let mut table = files.files["clusters.bin"].clone();
    table[0] = table[0].wrapping_add(1);
    table[4] = table[4].wrapping_sub(1);
    let mut manifest = good;
    manifest.table = FileInfo::of("clusters.bin", &table);
    let mut files = files.clone();
    files.files.insert("clusters.bin".into(), table);
    files.files.insert("manifest.json".into(), manifest.to_json());
    let clusters = clusters(files, everything());
    assert!(clusters.and_then(|c| block_on(c.find(&question(0), 3))).is_err());
}

#[test]
fn the_retriever_opens_either_store_and_refuses_another_encoder() {
    let (scratch, _store, _) = stores("clusters-open");
    let questions = ["Text \"41\"\nof ", "Text \"300\"\nof "];
    let answers: Vec<_> = ["flat", "clusters"]
        .iter()
        .map(|name| {
            let files = Box::new(Folder::new(scratch.0.join(name)));
            let mut retriever = block_on(open(files, Box::new(Fake), Method::Exact)).expect("a retriever");
            block_on(retriever.search(&questions, 3)).expect("hits")
        })
        .collect();
    assert_eq!(answers[0], answers[1]);
    let best: Vec<&str> = answers[1].iter().map(|hits| hits[0].passage.id.as_str()).collect();
    assert_eq!(best, ["p41", "p300"]);

    struct Stranger;
    impl Embedder for Stranger {
        fn dim(&self) -> usize {
            DIM
        }
        fn info(&self) -> EncoderInfo {
            EncoderInfo { name: "stranger".into(), ..Fake.info() }
        }
        fn limit_tokens(&mut self, _most: usize) {}
        fn embed<'a>(&'a mut self, texts: &'a [String]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>> {
            Box::pin(std::future::ready(Ok(texts.iter().map(|_| Random::new(9).values(DIM)).collect())))
        }
    }
    let clusters = clusters(Folder::new(scratch.0.join("clusters")), Limits::default()).expect("the store opens");
    let error = block_on(ClusterIndex::open(clusters, Box::new(Stranger))).expect_err("another encoder").to_string();
    assert!(error.contains("stranger") && error.contains("fake"), "{error}");
    assert_eq!(passage_text(&passages().next().expect("one").expect("good")), "Text \"0\"\nof ");
}

#[test]
fn a_graph_of_the_centroids_serves_where_it_is_asked_for() {
    let (scratch, store, _) = stores("clusters-graph");
    let folder = scratch.0.join("graph");
    let options = Options { graph: Some(true), ..options() };
    let manifest = block_on(build(&store, &folder, &options, &mut |_| {})).expect("clusters");
    assert_eq!(manifest.graph.as_ref().map(|info| info.file.as_str()), Some("graph.bin"));
    let search = |name: &str, method| {
        let mut retriever = block_on(open(Box::new(Folder::new(scratch.0.join(name))), Box::new(Fake), method))?;
        let hits = block_on(retriever.search(&["Text \"41\"\nof ", "Text \"300\"\nof "], 3))?;
        let told = retriever.told().expect("a clustered store tells what it took");
        assert!(told.starts_with("each of 2 questions, on average: ") && told.contains("of the ten best"), "{told}");
        Ok::<_, selfrag::Error>(hits)
    };
    // So few clusters all fit among the graph's candidates.
    assert_eq!(search("graph", Method::Hnsw).expect("hits"), search("clusters", Method::Exact).expect("hits"));
    let error = search("clusters", Method::Hnsw).expect_err("there is no graph").to_string();
    assert!(error.contains("--centroid-graph"), "{error}");
    let good = in_memory(&folder);
    block_on(clusters(good.clone(), Limits::default()).expect("it opens").verify(&mut |_| {})).expect("a good store");
    for at in [0, 8, 100, good.files["graph.bin"].len() - 1] {
        let mut files = good.clone();
        files.files.get_mut("graph.bin").expect("it is there")[at] ^= 4;
        let mut clusters = clusters(files, Limits::default()).expect("it opens");
        let errors = [block_on(clusters.verify(&mut |_| {})), block_on(clusters.centroids_by_graph())];
        for error in errors {
            let error = error.expect_err("a flipped bit").to_string();
            assert!(error.contains("graph.bin"), "{error}");
        }
    }
}

#[test]
fn f16_alone_is_rounded_to_int8() {
    let scratch = Scratch::new("clusters-f16");
    let options = flat_build::Options { precisions: vec![Precision::F16], ..flat_build::Options::default() };
    let folder = scratch.0.join("flat");
    block_on(flat_build::build(passages(), &mut Fake, &folder, &options, &mut |_| {})).expect("a flat store");
    let store = open_flat(&folder);
    let output = scratch.0.join("clusters");
    block_on(build(&store, &output, &self::options(), &mut |_| {})).expect("clusters");
    let clusters = clusters(Folder::new(&output), everything()).expect("the store opens");
    let mut rounded = Vectors::new(Precision::Int8, DIM);
    let exact = block_on(store.all_vectors(Precision::F16)).expect("vectors");
    (0..ROWS).for_each(|row| rounded.push(&exact.row(row)));
    let found = block_on(clusters.find(&question(3), 8)).expect("an answer");
    let expected = flat::search(&rounded, &question(3), 8);
    assert_eq!(rows(&found), expected.iter().map(|scored| scored.row).collect::<Vec<_>>());
}

/// Real vectors: the passages that come with the page, some of them with noise as questions.
#[test]
fn recall_is_kept_on_the_demo_passages() {
    let scratch = Scratch::new("clusters-demo");
    let store = open_flat(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../public/corpus"));
    let vectors = block_on(store.vectors(0, Precision::Int8)).expect("vectors");
    let question = |i: usize| -> Vec<f32> {
        let noise = Random::new(i as u64).values(384);
        vectors.row(i * 50).iter().zip(noise).map(|(x, noise)| x + 0.03 * noise).collect()
    };
    let truth = block_on(Truth::new(&store, Some((0..40).map(question).collect()))).expect("exact answers");
    let options =
        Options { clusters: Some(48), probes: Some(24), questions: Some(vec![vec![1.0; 384]]), ..Options::default() };
    let folder = scratch.0.join("clusters");
    block_on(build(&store, &folder, &options, &mut |_| {})).expect("clusters");
    // A quarter of all codes and records of a fortieth: what 2 MB are to a store twenty times as large.
    let limits = Limits {
        bytes: 500_000,
        block_bytes: 200_000,
        preload: 0,
        block_cache: 0,
        record_cache: 0,
        ..Limits::default()
    };
    let clusters = clusters(Folder::new(&folder), limits.clone()).expect("the store opens");
    let measured = block_on(truth.measure(&clusters)).expect("a measurement");
    println!("{measured:?}");
    assert!(measured.recall_at_10 >= 0.9, "{measured:?}");
    assert!(measured.most_bytes <= limits.bytes && measured.most_requests <= limits.requests, "{measured:?}");
}

#[test]
fn a_static_host_serves_ranges_and_one_without_serves_small_files_whole() {
    let (_scratch, _store, files) = stores("clusters-http");
    let expected = |i| {
        rows(&block_on(clusters(files.clone(), everything()).expect("opens").find(&question(i), 5)).expect("found"))
    };
    for manner in [Manner::Ranges, Manner::Redirect, Manner::BusyAtFirst, Manner::NoRanges] {
        let host = Host::serve(files.files.clone(), manner);
        let clusters = clusters(Remote::new(&host.url), everything()).unwrap_or_else(|e| panic!("{manner:?}: {e}"));
        let before = host.requests();
        let found = block_on(clusters.find(&question(2), 5)).unwrap_or_else(|e| panic!("{manner:?}: {e}"));
        assert_eq!(rows(&found), expected(2), "{manner:?}");
        if matches!(manner, Manner::Ranges) {
            assert_eq!(host.requests() - before, found.cost.requests);
            assert!(host.most_at_once() > 1, "reads of a round run at once");
        }
    }
}

#[test]
fn hostile_hosts_get_an_error_and_never_a_wrong_passage() {
    let (_scratch, _store, files) = stores("clusters-hostile");
    for manner in [
        Manner::WrongStart,
        Manner::LyingTotal,
        Manner::Gzip,
        Manner::TooLong,
        Manner::Truncated,
        Manner::OtherBytes,
        Manner::NotFound,
        Manner::RedirectForEver,
    ] {
        let host = Host::serve(files.files.clone(), manner);
        let error = clusters(Remote::new(&host.url), everything())
            .and_then(|clusters| block_on(clusters.find(&question(2), 5)))
            .expect_err(&format!("{manner:?}"));
        assert!(matches!(error, Error::Network { .. } | Error::Input { .. }), "{manner:?}: {error}");
    }
}
