//! What the tests of training share: a folder, and a tiny model with rows to train on.

#![allow(dead_code, reason = "each test uses its part")]

mod scratch;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub(crate) use scratch::Scratch;
use selfrag::{
    tokenizer::Tokenizer,
    train::{Batch, Key, Settings, TrainConfig},
};
use serde_json::{Value, json};

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")).join(name)
}

/// A random Llama with SentencePiece's tiny vocabulary, and rows to train on.
pub(crate) fn tiny_run(scratch: &Scratch, over: Value) -> TrainConfig {
    let base = scratch.0.join("base");
    let data = scratch.0.join("rows.jsonl");
    if !base.exists() {
        write_base(&base, Sizes { hidden: 24, feed_forward: 40, heads: 4, kv_heads: 2, context: 256 });
        let row = |i: usize| {
            let (question, answer) = (["who", "when", "where"][i % 3], ["me", "now", "here and there"][i % 3]);
            let output = match i % 2 {
                0 => format!(
                    "[Retrieval]<paragraph>t\n{answer} {i}</paragraph>[Relevant]{answer}[Fully supported][Utility:5]"
                ),
                _ => format!("[No Retrieval]{answer}[Utility:{}]", 1 + i % 5),
            };
            json!({"instruction": format!("{question} is {i}?"), "output": output}).to_string() + "\n"
        };
        std::fs::write(&data, (0..10).map(row).collect::<String>()).unwrap();
    }
    let mut settings = json!({
        "model": base, "data": data, "output": scratch.0.join("out"), "max_length": 160, "micro_batch": 2, "accumulation": 2,
        "max_steps": 6, "pad_multiple": 8, "learning_rate": 0.01, "save_every": 2, "lora": {"rank": 3, "alpha": 6.0, "dropout": 0.1},
    });
    for (name, value) in over.as_object().unwrap() {
        settings[name] = value.clone();
    }
    let Value::Object(settings) = settings else { unreachable!() };
    TrainConfig::read(None, &Settings::new(), &settings).unwrap()
}

/// Sizes of a random Llama of two blocks.
pub(crate) struct Sizes {
    pub(crate) hidden: usize,
    pub(crate) feed_forward: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) context: usize,
}

/// Writes a random Llama with SentencePiece's tiny vocabulary as a Hugging Face folder.
pub(crate) fn write_base(folder: &Path, sizes: Sizes) {
    std::fs::create_dir(folder).unwrap();
    std::fs::copy(golden("tokenizer/tiny.model"), folder.join("tokenizer.model")).unwrap();
    let model = std::fs::read(folder.join("tokenizer.model")).unwrap();
    let vocabulary = Tokenizer::from_sentencepiece("tiny.model", &model).unwrap().vocab_size();
    let config = json!({
        "model_type": "llama", "hidden_size": sizes.hidden, "intermediate_size": sizes.feed_forward, "num_hidden_layers": 2,
        "num_attention_heads": sizes.heads, "num_key_value_heads": sizes.kv_heads, "vocab_size": vocabulary,
        "max_position_embeddings": sizes.context, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    write_random_llama(&folder.join("model.safetensors"), vocabulary, &sizes);
}

fn write_random_llama(path: &Path, vocabulary: usize, sizes: &Sizes) {
    let (hidden, inner) = (sizes.hidden, sizes.feed_forward);
    let kv = hidden / sizes.heads * sizes.kv_heads;
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocabulary, hidden]),
        ("model.norm.weight".into(), vec![hidden]),
    ];
    for block in 0..2 {
        let norms = ["input_layernorm", "post_attention_layernorm"].map(|name| (name, vec![hidden]));
        let matrices = [
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![kv, hidden]),
            ("self_attn.v_proj", vec![kv, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
        ];
        let all = norms.into_iter().chain(matrices);
        shapes.extend(all.map(|(name, shape)| (format!("model.layers.{block}.{name}.weight"), shape)));
    }
    let (mut header, mut bytes) = (serde_json::Map::new(), Vec::new());
    for (seed, (name, shape)) in shapes.into_iter().enumerate() {
        let (start, n) = (bytes.len(), shape.iter().product::<usize>() as u64);
        let value = |i| if shape.len() == 1 { 1.0f32 } else { 0.2 * Key::new(&[seed as u64]).normal(i) as f32 };
        (0..n).for_each(|i| bytes.extend(value(i).to_le_bytes()));
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [start, bytes.len()]}));
    }
    let header = Value::Object(header).to_string();
    std::fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes].concat()).unwrap();
}

/// A safetensors file's tensors, of f32 or i32.
pub(crate) fn read_safetensors(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let values = |entry: &Value| {
        let at = |i: usize| 8 + length + entry["data_offsets"][i].as_u64().unwrap() as usize;
        let words = bytes[at(0)..at(1)].chunks_exact(4).map(|word| <[u8; 4]>::try_from(word).unwrap());
        match entry["dtype"].as_str().unwrap() {
            "F32" => words.map(|word| f64::from(f32::from_le_bytes(word))).collect(),
            "I32" => words.map(|word| f64::from(i32::from_le_bytes(word))).collect::<Vec<_>>(),
            other => panic!("{other}"),
        }
    };
    header
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, entry)| (name.clone(), values(entry)))
        .collect()
}

pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs() / expected.abs().max(1.0);
        assert!(error <= tolerance, "{what}, value {at}: {found} found, {expected} expected");
    }
}

pub(crate) type Tensor = burn::Tensor<2>;

pub(crate) fn vector(tensor: &Tensor) -> Vec<f32> {
    tensor.try_to_vec_as::<f32>().unwrap()
}

pub(crate) const ROWS: usize = 3;
pub(crate) const LENGTH: usize = 11;

pub(crate) fn golden_batch(steps: &BTreeMap<String, Vec<f64>>, step: usize, micro: usize) -> Batch {
    let start = (step * 2 + micro) * ROWS * LENGTH;
    let range = start..start + ROWS * LENGTH;
    let ids: Vec<u32> = steps["ids"][range.clone()].iter().map(|&id| id as u32).collect();
    let trained: Vec<bool> = steps["labels"][range].iter().map(|&label| label >= 0.0).collect();
    Batch { rows: ROWS, length: LENGTH, ids, trained }
}

pub(crate) fn counted(batch: &Batch) -> usize {
    (0..batch.ids.len()).filter(|at| at % batch.length != 0 && batch.trained[*at]).count()
}
