//! Promise: files of embeddings that Python and NumPy wrote are read to the last bit, none is ever run, and any damage is an error.

mod common;

use std::path::PathBuf;

use common::{Fake, Scratch};
use proptest::prelude::*;
use selfrag::{
    Error, Result,
    platform::{LocalFuture, MemorySource, block_on},
    retriever::{
        Embedder, Passage,
        build::{self, VectorSource, build_from},
        embeddings::{
            Embeddings, find,
            matched::{Count, Match, Matched},
            shard::{Options, Progress, embed},
            write,
        },
        files::Folder,
        index::{Index, Method},
        manifest::{EncoderInfo, Manifest},
        store::Store,
        text::TextOptions,
        vectors::Precision,
        verify,
    },
};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/embeddings")).join(name)
}

/// What every golden holds: ids, numbers as ids, values.
fn expected() -> (Vec<String>, Vec<String>, Vec<f32>) {
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden("values.json")).unwrap()).expect("goldens are JSON");
    let texts = serde_json::from_value(json["ids"].clone()).unwrap();
    let numbers: Vec<i64> = serde_json::from_value(json["numbers"].clone()).unwrap();
    let rows: Vec<Vec<f32>> = serde_json::from_value(json["values"].clone()).unwrap();
    (texts, numbers.iter().map(i64::to_string).collect(), rows.concat())
}

fn read(bytes: Vec<u8>) -> Result<Embeddings> {
    Embeddings::read(Box::new(MemorySource::new("e", bytes)))
}

fn ids(embeddings: &Embeddings) -> Vec<String> {
    (0..embeddings.len()).map(|row| embeddings.id(row).to_owned()).collect()
}

#[test]
fn every_protocol_type_order_and_numpy_is_read() {
    let (texts, numbers, values) = expected();
    for numpy in ["numpy1", "numpy2"] {
        for protocol in 2..=5 {
            for dtype in ["f2", "f4"] {
                for order in ["C", "F"] {
                    let name = format!("{numpy}-p{protocol}-{dtype}-{order}");
                    let embeddings = Embeddings::open(&golden(&name)).unwrap_or_else(|e| panic!("{e}"));
                    assert_eq!((ids(&embeddings), embeddings.number_ids()), (texts.clone(), 0), "{name}");
                    assert_eq!((embeddings.dim(), embeddings.is_f32()), (5, dtype == "f4"), "{name}");
                    assert_eq!(embeddings.rows(0, 7).unwrap(), values, "{name}");
                    assert_eq!(embeddings.rows(3, 2).unwrap(), values[15..25], "{name}");
                    assert!(embeddings.rows(7, 0).unwrap().is_empty(), "{name}");
                }
            }
        }
        let embeddings = Embeddings::open(&golden(&format!("{numpy}-p4-numbers"))).unwrap();
        assert_eq!((ids(&embeddings), embeddings.number_ids()), (numbers.clone(), 7));
        assert_eq!(embeddings.rows(0, 7).unwrap(), values);
    }
}

/// A file as `write` makes it.
fn written(ids: &[String], values: &[f32], dim: usize, is_f32: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    write::head(&mut bytes, ids.iter().map(String::as_str), ids.len(), dim, is_f32).unwrap();
    for value in values {
        match is_f32 {
            true => bytes.extend(value.to_le_bytes()),
            false => bytes.extend(half::f16::from_f32(*value).to_le_bytes()),
        }
    }
    write::tail(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_written_is_read() {
    for (rows, is_f32) in [(0, false), (1, true), (2500, false)] {
        let ids: Vec<String> = (0..rows).map(|row| format!("é{row}")).collect();
        let values: Vec<f32> = (0..rows * 3).map(|at| (at % 2000) as f32 / 8.0).collect();
        let embeddings = read(written(&ids, &values, 3, is_f32)).unwrap();
        assert_eq!((self::ids(&embeddings), embeddings.is_f32()), (ids, is_f32));
        assert_eq!(embeddings.rows(0, rows).unwrap(), values);
    }
}

/// Values of protocol 2 that take several reads, and begin anywhere.
#[test]
fn long_arrays_of_protocol_2_are_read_in_pieces() {
    let (rows, dim) = (30_000, 50);
    let bytes: Vec<u8> = (0..rows * dim * 2).map(|at: usize| (at * 31 % 251 + at / 997) as u8 & 0xbb).collect();
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let mut file = b"\x80\x02](".to_vec();
    (0..rows).for_each(|_| file.extend(b"K\x01"));
    file.extend(b"ecnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85c_codecs\nencode\nX\x01\0\0\0bX\x06\0\0\0latin1\x86R\x87R(K\x01J");
    file.extend((rows as u32).to_le_bytes());
    file.extend([b'K', dim as u8]);
    file.extend(b"\x86cnumpy\ndtype\nX\x02\0\0\0f2\x89\x88\x87R(K\x03X\x01\0\0\0<NNNtb\x89c_codecs\nencode\nX");
    file.extend((text.len() as u32).to_le_bytes());
    file.extend(text.as_bytes());
    file.extend(b"X\x06\0\0\0latin1\x86Rtb\x86.");
    let embeddings = read(file).unwrap();
    let value = |at: usize| half::f16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]).to_f32();
    for (first, count) in [(0, 1), (654, 3), (655, 1), (12_345, 17_000), (29_999, 1)] {
        let expected: Vec<f32> = (first * dim..(first + count) * dim).map(value).collect();
        assert_eq!(embeddings.rows(first, count).unwrap(), expected, "{count} rows from {first}");
    }
}

fn error(bytes: &[u8]) -> String {
    read(bytes.to_vec())
        .map(|embeddings| embeddings.rows(0, embeddings.len()))
        .and_then(|rows| rows)
        .unwrap_err()
        .to_string()
}

/// A pair whose second part is `array`.
fn pair(array: &[u8]) -> Vec<u8> {
    [b"\x80\x04](K\x01K\x02e".as_slice(), array, b"\x86."].concat()
}

#[test]
fn nothing_is_run_and_nothing_is_guessed() {
    let cases: [(&[u8], &str); 12] = [
        (b"", "e: byte 0: no pickle"),
        (b"\x93NUMPY\x01\x00", "e: byte 0: no pickle"),
        (b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.", "posix.system is refused"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "builtins.eval is refused"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.", "is refused: only a pair (ids, array of numbers)"),
        (b"\x80\x04\x81.", "opcode 0x81"),
        (b"\x80\x04]}\x86.", "a NumPy array expected"),
        (b"\x80\x04].", "a pair (ids, array) expected"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "bytes expected"),
        (b"\x80\x04(((t", "bytes expected"),
        (b"\x80\x04h\x07.", "nothing was remembered"),
        (b"\x80\x05\x97.", "opcode 0x97"),
    ];
    for (bytes, expected) in cases {
        let error = error(bytes);
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    }
    let ids = ["1".to_owned(), "2".to_owned()];
    let good = written(&ids, &[0.5; 6], 3, false);
    let replaced = |from: &[u8], to: &[u8]| -> Vec<u8> {
        let at = good.windows(from.len()).position(|window| window == from).expect("it is there");
        [&good[..at], to, &good[at + from.len()..]].concat()
    };
    let not_finite = written(&ids, &[0.5, 0.5, 0.5, f32::NAN, 0.5, 0.5], 3, true);
    let cases: [(Vec<u8>, &str); 8] = [
        (replaced(b"f2", b"f8"), "numbers of type \"f8\""),
        (replaced(b"X\x01\0\0\0<", b"X\x01\0\0\0>"), "not little-endian"),
        (replaced(b"\x8a\x08\x02", b"\x8a\x08\x03"), "3 rows, but there are 2 ids"),
        (replaced(b"\x8a\x08\x03", b"\x8a\x08\x04"), "12 bytes of values, 16 expected"),
        (replaced(b"X\x01\0\0\x002", b"N"), "id 1 is neither a string nor a whole number"),
        ([&good[..], b"x"].concat(), "goes on after its pickle"),
        (not_finite, "e: row 1 (id \"2\"): a value that is infinite"),
        (
            pair(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"),
            "a NumPy array expected",
        ),
    ];
    for (bytes, expected) in cases {
        let error = error(&bytes);
        assert!(error.contains(expected), "{error:?} should say {expected:?}");
    }
    // One long text, remembered and named again and again, takes no more memory than the file.
    let mut again = b"\x80\x04](X\xff\0\0\0".to_vec();
    again.extend([b'x'; 255]);
    again.extend(b"q\x00");
    (0..1000).for_each(|_| again.extend(b"h\x00"));
    again.extend(&good[good.windows(7).position(|window| window == b"ecnumpy").expect("it is there")..]);
    assert!(error(&again).contains("longer than the file"), "{}", error(&again));
}

#[test]
fn patterns_leave_the_originals_index_out() {
    let folder = std::env::temp_dir().join(format!("selfrag-embeddings-find-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("folder")).unwrap();
    for name in ["passages_01", "passages_00", "index.faiss", "index_meta.faiss"] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    let pattern = |end: &str| vec![folder.join(end).display().to_string()];
    let (files, indices) = find(&pattern("*")).unwrap();
    assert_eq!(files, [folder.join("passages_00"), folder.join("passages_01")]);
    assert_eq!(indices.len(), 2);
    // As a shell would: capital letters are others; a name is itself, whatever is in it.
    for name in ["PASSAGES_02", "e[1]"] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    assert_eq!(find(&pattern("passages_*")).unwrap().0.len(), 2);
    assert_eq!(find(&pattern("e[1]")).unwrap().0, [folder.join("e[1]")]);
    assert!(find(&pattern("nothing*")).unwrap_err().to_string().contains("no such file"));
    assert!(find(&pattern("index*")).unwrap_err().to_string().contains("only index files"));
    assert!(find(&pattern("[")).is_err());
    std::fs::remove_dir_all(folder).unwrap();
}

/// 23 passages of different lengths, some without titles, as two files.
fn corpus(scratch: &Scratch) -> (Vec<Passage>, Vec<PathBuf>) {
    let passage = |i: usize| Passage {
        id: format!("p{i}"),
        title: if i.is_multiple_of(4) { String::new() } else { format!("Title {i}") },
        text: format!("Text — {i} {}", "more ".repeat(i * 7 % 5)),
    };
    let passages: Vec<Passage> = (0..23).map(passage).collect();
    let (json, tsv) = passages.split_at(9);
    let json: String = json.iter().map(|p| serde_json::to_string(p).unwrap() + "\n").collect();
    let tsv: String = tsv.iter().map(|p| format!("{}\t{}\t{}\n", p.id, p.text, p.title)).collect();
    let files = [("a.jsonl", json), ("b.tsv", format!("id\ttext\ttitle\n{tsv}"))];
    let write = |(name, text): (&str, String)| {
        std::fs::write(scratch.path(name), text).unwrap();
        PathBuf::from(scratch.path(name))
    };
    (passages, files.into_iter().map(write).collect())
}

fn shard(files: &[PathBuf], shard: usize, shards: usize, is_f32: bool) -> Options {
    let text = TextOptions { no_title: is_f32, lowercase: is_f32, normalize_text: is_f32 };
    Options { passages: files.to_vec(), shard, shards, piece: 4, is_f32, text, overwrite: false }
}

#[test]
fn shards_hold_every_passage_once_whatever_their_number() {
    let scratch = Scratch::new("embed-shards");
    let (passages, files) = corpus(&scratch);
    for (shards, is_f32) in [(1, true), (3, false), (4, true), (30, false)] {
        let mut next = 0;
        for number in 0..shards {
            let output = PathBuf::from(scratch.path(&format!("passages_{number:02}")));
            // In the place of the last round's.
            let options = Options { overwrite: true, ..shard(&files, number, shards, is_f32) };
            block_on(embed(&options, &mut Fake::new(), &output, &mut |_| {})).unwrap();
            let embeddings = Embeddings::open(&output).unwrap();
            assert_eq!(embeddings.is_f32(), is_f32);
            for row in 0..embeddings.len() {
                let passage = &passages[next];
                assert_eq!(embeddings.id(row), passage.id);
                let vector = Fake::new().vector(&options.text.passage(passage));
                let stored = |x: &f32| if is_f32 { *x } else { half::f16::from_f32(*x).to_f32() };
                let expected: Vec<f32> = vector.iter().map(stored).collect();
                assert_eq!(embeddings.rows(row, 1).unwrap(), expected, "{}", passage.id);
                next += 1;
            }
        }
        assert_eq!(next, passages.len(), "{shards} shards");
    }
    let options = shard(&files, 3, 3, false);
    let refused = block_on(embed(&options, &mut Fake::new(), &scratch.0.join("x"), &mut |_| {}));
    assert!(refused.unwrap_err().to_string().contains("shard-id"));
    assert!(!scratch.0.join("x").exists());
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let scratch = Scratch::new("embed-resume");
    let (_, files) = corpus(&scratch);
    let options = shard(&files, 1, 2, false);
    let output = scratch.0.join("passages_01");
    let run = |embedder: &mut Fake| {
        let mut resumed = 0;
        let result = block_on(embed(&options, embedder, &output, &mut |event| {
            if let Progress::Resumed(rows) = event {
                resumed = rows;
            }
        }));
        result.map(|()| resumed)
    };
    assert_eq!(run(&mut Fake::new()).unwrap(), 0);
    let whole = std::fs::read(&output).unwrap();
    std::fs::remove_file(&output).unwrap();
    let left: Vec<_> = std::fs::read_dir(&scratch.0).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 3, "nothing but the corpus and the record is left: {left:?}");

    let [journal, values] = ["journal", "values"].map(|kind| scratch.0.join(format!(".passages_01.{kind}")));
    // Killed at once, after a piece, after two; then values torn, lost or changed under the journal.
    type Damage = fn(&mut Vec<u8>);
    let damages: [(usize, Damage, u64); 6] = [
        (0, |_| {}, 0),
        (5, |_| {}, 4),
        (8, |_| {}, 8),
        (8, |values| values.extend([1, 2, 3]), 8),
        (8, |values| values.truncate(values.len() - 1), 4),
        (8, |values| values[3] ^= 1, 0),
    ];
    for (after, damage, expected) in damages {
        assert!(matches!(run(&mut Fake { left: after, ..Fake::new() }), Err(Error::Stopped)));
        assert!(!output.exists(), "nothing is there before everything is");
        let mut bytes = std::fs::read(&values).unwrap();
        damage(&mut bytes);
        std::fs::write(&values, bytes).unwrap();
        assert_eq!(run(&mut Fake::new()).unwrap(), expected, "killed after {after}");
        assert_eq!(std::fs::read(&output).unwrap(), whole);
        std::fs::remove_file(&output).unwrap();
    }
    // What another run left is not taken over.
    assert!(run(&mut Fake { left: 8, ..Fake::new() }).is_err());
    let error = run(&mut Fake { seed: 2, ..Fake::new() }).unwrap_err().to_string();
    assert!(error.contains("belongs to another run: encoder.name"), "{error}");
    assert!(journal.exists());
}

#[test]
fn a_finished_shard_is_embedded_again_only_when_asked() {
    let scratch = Scratch::new("embed-finished");
    let (_, files) = corpus(&scratch);
    let output = scratch.0.join("passages_00");
    let run = |options: &Options| {
        let mut events = Vec::new();
        block_on(embed(options, &mut Fake::new(), &output, &mut |event| events.push(event)))
            .map(|()| events.contains(&Progress::Finished))
    };
    let options = shard(&files, 0, 1, false);
    assert!(!run(&options).unwrap());
    let whole = std::fs::read(&output).unwrap();
    assert!(run(&options).unwrap(), "it is there");
    assert_eq!(std::fs::read(&output).unwrap(), whole);
    // Other settings, and files of nobody knows what.
    let f32s = shard(&files, 0, 1, true);
    let error = run(&f32s).unwrap_err().to_string();
    assert!(error.contains("encoder.text") && error.contains("--overwrite"), "{error}");
    std::fs::write(&output, "another's").unwrap();
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains("passages_00: settings: it is not known what made this file"), "{error}");
    assert_eq!(std::fs::read(&output).unwrap(), b"another's");
    for options in [f32s, options] {
        assert!(!run(&Options { overwrite: true, ..options.clone() }).unwrap());
        assert!(run(&options).unwrap());
    }
    assert_eq!(std::fs::read(&output).unwrap(), whole);
    // Killed between the file's last step and its record.
    std::fs::remove_file(scratch.0.join(".passages_00.json")).unwrap();
    std::fs::write(scratch.0.join(".passages_00.journal"), "").unwrap();
    assert!(!run(&shard(&files, 0, 1, false)).unwrap());
    assert_eq!(std::fs::read(&output).unwrap(), whole);
}

/// Embeddings that end too early.
struct Failing<'m>(&'m Matched, usize);

impl VectorSource for Failing<'_> {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn info(&self) -> EncoderInfo {
        VectorSource::info(&self.0)
    }

    fn origin(&self) -> &str {
        VectorSource::origin(&self.0)
    }

    fn vectors<'a>(&'a mut self, passages: &'a [Passage]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>> {
        let result = self.1.checked_sub(1).ok_or(Error::Stopped).and_then(|left| {
            self.1 = left;
            self.0.read(passages)
        });
        Box::pin(std::future::ready(result))
    }
}

fn build_options() -> build::Options {
    build::Options { shard_rows: 8, batch: 4, precisions: Precision::ALL.to_vec(), graph: true, ..Default::default() }
}

#[test]
fn a_store_of_embeddings_holds_their_vectors_and_is_built_on_after_a_kill() {
    let scratch = Scratch::new("embed-store");
    let (passages, files) = corpus(&scratch);
    // The ids in another order than the passages', in two files; one of them twice.
    let mut order: Vec<usize> = (0..passages.len()).map(|i| i * 5 % 23).collect();
    order.push(3);
    let vector = |i: usize| Fake::new().vector(&TextOptions::default().passage(&passages[i]));
    let write = |name: &str, rows: &[usize], change: f32| {
        let ids: Vec<String> = rows.iter().map(|i| passages[*i].id.clone()).collect();
        let values: Vec<f32> = rows.iter().flat_map(|i| vector(*i)).map(|x| x * change).collect();
        let path = scratch.0.join(name);
        std::fs::write(&path, written(&ids, &values, Fake::DIM, true)).unwrap();
        path
    };
    let paths = [write("e_00", &order[..10], 1.0), write("e_01", &order[10..], 1.0)];
    let open = |paths: &[PathBuf]| Matched::open(paths, Fake::new().info()).unwrap();
    let matched = open(&paths);
    let all = || selfrag::retriever::passages::PassageFiles::new(files.clone());
    let found = matched.check(all()).unwrap();
    let repeated = Count { count: 1, first: vec!["p3".into()] };
    assert_eq!(found, Match { matched: 23, repeated, ..Match::default() });

    let output = scratch.0.join("store");
    let run = |source: &mut dyn VectorSource, resumed: &mut usize| -> Result<Manifest> {
        block_on(build_from(all(), source, &output, &build_options(), &mut |event| {
            if let build::Progress::Resumed(rows) = event {
                *resumed += rows;
            }
        }))
    };
    // Killed in the second shard; other embeddings do not take over what was written, the same do.
    assert!(matches!(run(&mut Failing(&matched, 3), &mut 0), Err(Error::Stopped)));
    let mut resumed = 0;
    assert!(matches!(run(&mut Failing(&open(&[write("f", &order, 0.5)]), 0), &mut resumed), Err(Error::Stopped)));
    assert_eq!(resumed, 0);
    assert!(run(&mut &matched, &mut resumed).is_ok());
    assert_eq!(resumed, 8);

    let store = block_on(Store::open(Box::new(Folder::new(&output)))).unwrap();
    block_on(store.verify(&mut |_| {})).unwrap();
    let vectors = block_on(store.all_vectors(Precision::F32)).unwrap();
    (0..23).for_each(|row| assert_eq!(vectors.row(row), vector(row), "row {row}"));
    assert_eq!(block_on(store.passages(&[0, 22])).unwrap(), [passages[0].clone(), passages[22].clone()]);
    let compared = block_on(verify::compare(&store, all())).unwrap();
    assert!(compared.is_same() && compared.same == 23, "{compared}");
    let other = passages[2..]
        .iter()
        .map(|p| Ok(Passage { id: p.id.replace("p7", "q7"), text: p.text.replace("— 9", "9"), ..p.clone() }));
    let compared = block_on(verify::compare(&store, other)).unwrap().to_string();
    assert_eq!(
        compared,
        "19 passages as in the files; other there: 1 (p9); missing here: 1 (q7); missing there: 3 (p0, p1, p7)"
    );
    let recall = block_on(verify::recall(&store, 40)).unwrap().expect("there are vectors");
    assert_eq!((recall.exact, recall.questions, recall.precisions.len()), (Precision::F32, 23, 2));
    let shares = recall.precisions.iter().map(|(_, share)| *share).chain(recall.graph);
    assert!(shares.clone().count() == 3 && shares.into_iter().all(|share| (0.95..=1.0).contains(&share)), "{recall:?}");

    // Found in f32, on the GPU as on the CPU.
    for method in [Method::Exact, Method::ExactGpu(common::gpu())] {
        let mut store = block_on(Store::open(Box::new(Folder::new(&output)))).unwrap();
        store.prefer(Precision::F32).unwrap();
        let mut index = block_on(Index::open(store, Box::new(Fake::new()), method, &mut |_| {})).unwrap();
        let question = TextOptions::default().passage(&passages[11]);
        let hits = block_on(selfrag::retriever::Retriever::search(&mut index, &[&question], 3)).unwrap().remove(0);
        let best: f32 = vector(11).iter().map(|x| x * x).sum();
        assert_eq!(hits[0].passage.id, "p11");
        assert!((hits[0].score.unwrap() - best).abs() < 1e-5);
    }
}

#[test]
fn ids_that_do_not_fit_are_counted_and_named() {
    let scratch = Scratch::new("embed-ids");
    let path = golden("numpy1-p4-numbers");
    let matched = Matched::open(std::slice::from_ref(&path), Fake::new().info()).unwrap();
    let passage = |id: &str| Ok(Passage { id: id.into(), title: String::new(), text: "t".into() });
    let ids = ["255", "x1", "x2", "x3", "x4", "x5", "x6", "-1"];
    let found = matched.check(ids.into_iter().map(passage)).unwrap();
    assert_eq!((found.matched, found.numbers), (2, 7));
    assert_eq!(found.missing.to_string(), "6 (x1, x2, x3, x4, x5, …)");
    assert_eq!(found.unknown.to_string(), "5 (0, 1, 1099511627776, 256, 65536)");
    let error = matched.check(["1", "0", "1"].into_iter().map(passage)).unwrap_err().to_string();
    assert_eq!(error, "passages: passage 3: id \"1\" was used before");
    let error = matched.read(&[passage("x").unwrap()]).unwrap_err().to_string();
    assert_eq!(error, "embeddings: id \"x\": no such id");
    let other = scratch.0.join("other");
    std::fs::write(&other, written(&["a".into()], &[0.5; 3], 3, false)).unwrap();
    let error = Matched::open(&[path, other], Fake::new().info()).unwrap_err().to_string();
    assert!(error.contains("3 dimensions") && error.contains("has 5"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A golden with bytes changed or cut off, and any bytes at all: an error or rows, no panic.
    #[test]
    fn damage_is_an_error_or_harmless(
        file in 0..8_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let name = format!("numpy{}-p{}-f2-{}", file / 4 + 1, [2, 3, 4, 5][file % 4], ["C", "F"][file % 2]);
        let mut bytes = std::fs::read(golden(&name)).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(embeddings) = read(bytes) {
            let _ = embeddings.rows(0, embeddings.len());
        }
        prop_assert!(read([b"\x80\x04", &noise[..]].concat()).is_err());
    }
}
