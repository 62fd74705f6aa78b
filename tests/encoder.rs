//! Promise: the encoder gives transformers' embeddings of all-MiniLM-L6-v2: cosine ≥ 0.9999 in f32, ≥ 0.999 with q8_0 weights;
//! a batch gives what single texts give; and the demo corpus was made by this encoder.

mod common;

use common::{gpu, model};
use selfrag::{
    gpu::Gpu,
    platform::block_on,
    retriever::{Embedder, encoder::Encoder, files::Folder, passage_text, store::Store, vectors::Precision},
    tokenizer::Tokenizer,
    weights::{
        self,
        convert::{FileType, convert},
    },
};

/// A text, its token ids and its embedding by transformers.
struct Row {
    text: String,
    tokens: Vec<u32>,
    embedding: Vec<f32>,
}

fn golden() -> Vec<Row> {
    let json: serde_json::Value =
        serde_json::from_str(include_str!("golden/minilm/golden.json")).expect("goldens are JSON");
    let row = |row: &serde_json::Value| Row {
        text: row["text"].as_str().expect("a text").into(),
        tokens: serde_json::from_value(row["tokens"].clone()).expect("ids"),
        embedding: serde_json::from_value(row["embedding"].clone()).expect("numbers"),
    };
    json.as_array().expect("rows").iter().map(row).collect()
}

fn load(gpu: &Gpu, path: &std::path::Path) -> Encoder {
    let weights = weights::open(path, None).expect("the model opens");
    let tokenizer = Tokenizer::from_metadata(weights.name(), weights.metadata()).expect("a vocabulary");
    block_on(Encoder::load(gpu, weights.as_ref(), tokenizer, "0".repeat(64), &mut |_| {})).expect("the encoder loads")
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn check(encoder: &mut Encoder, rows: &[Row], least: f64) {
    let texts: Vec<String> = rows.iter().map(|row| row.text.clone()).collect();
    let found = block_on(encoder.embed(&texts)).expect("embeddings");
    assert_eq!(found.len(), rows.len());
    for (found, row) in found.iter().zip(rows) {
        let (cosine, length) = (cosine(found, &row.embedding), length(found));
        println!("cosine {cosine:.7} {:?}", row.text.chars().take(30).collect::<String>());
        assert!(cosine >= least && (length - 1.0).abs() < 1e-4, "{:?}: cosine {cosine}, length {length}", row.text);
    }
}

fn length(v: &[f32]) -> f64 {
    v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn f32_weights_give_transformers_embeddings() {
    let (rows, mut encoder) = (golden(), load(&gpu(), &model("minilm")));
    for row in &rows {
        assert_eq!(encoder.tokens(&row.text).expect("ids"), row.tokens, "{:?}", row.text);
    }
    check(&mut encoder, &rows, 0.9999);
    // Alone as in the batch.
    for row in &rows[..3] {
        check(&mut encoder, std::slice::from_ref(row), 0.9999);
    }
}

#[test]
fn int8_weights_stay_close() {
    let file = std::env::temp_dir().join(format!("selfrag-minilm-q8-{}.gguf", std::process::id()));
    let source = weights::open(&model("minilm"), None).expect("the model opens");
    let q8_0 = FileType::from_name("q8_0").expect("a known type");
    convert(source.as_ref(), &file, q8_0, None, &mut |_, _| {}).expect("the model converts");
    let mut encoder = load(&gpu(), &file);
    std::fs::remove_file(&file).expect("the file can go");
    // The longest text is left out: it takes half a minute on a software GPU and differs in nothing but its length.
    let rows: Vec<Row> = golden().into_iter().filter(|row| row.tokens.len() < 100).collect();
    check(&mut encoder, &rows, 0.999);
}

#[test]
fn the_demo_corpus_was_made_by_this_encoder() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../public/corpus");
    let store = block_on(Store::open(Box::new(Folder::new(folder)))).expect("the demo corpus opens");
    let mut encoder = load(&gpu(), &model("minilm"));
    let count = store.manifest().count as u32;
    let mut sample: Vec<u32> = (0..count).step_by(count as usize / 300).collect();
    sample.push(count - 1);
    let passages = block_on(store.passages(&sample)).expect("passages");
    let vectors = block_on(store.all_vectors(Precision::Int8)).expect("vectors");
    // Short passages only: a software GPU embeds a token in 30 ms.
    let few: Vec<_> = sample.iter().zip(&passages).filter(|(_, p)| p.text.len() < 350).take(5).collect();
    assert!(few.len() >= 3, "the sample holds short passages");
    let texts: Vec<String> = few.iter().map(|(_, passage)| passage_text(passage)).collect();
    for ((row, passage), now) in few.iter().zip(block_on(encoder.embed(&texts)).expect("embeddings")) {
        let cosine = cosine(&vectors.row(**row as usize), &now);
        assert!(cosine > 0.999, "{} ({}): cosine {cosine} to its stored vector", passage.id, passage.title);
    }
}
