//! A Llama small enough for a software GPU: what it says next depends on the last token only, by construction (random embeddings; a
//! row of the output matrix is the embedding of the token that comes before). Its vocabulary is the 256 bytes, a few words that text
//! never becomes, and the reflection tokens.

#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;

use selfrag::{
    tokenizer::reflection::NAMES,
    weights::{DType, Metadata, TensorInfo, Value, gguf::encode_header},
};

const DIM: usize = 64;
const FEED_FORWARD: usize = 128;
const LAYERS: usize = 2;

/// A whole answer after a passage or none.
pub(crate) const SHORT: [(&str, &str); 8] = [
    ("Ċ", "[Retrieval]"),
    ("</paragraph>", "[Relevant]"),
    ("[Relevant]", "true"),
    ("[No Retrieval]", "true"),
    ("true", "[Fully supported]"),
    ("[Fully supported]", "[Utility:5]"),
    ("[Utility:5]", "<end>"),
    (":", "<end>"),
];

/// Segments that each ask for another one.
pub(crate) const LONG: [(&str, &str); 7] = [
    ("Ċ", "[Retrieval]"),
    ("</paragraph>", "[Relevant]"),
    ("[Relevant]", "Amazonia"),
    ("[No Retrieval]", "Amazonia"),
    ("Amazonia", "."),
    (".", "[Fully supported]"),
    ("[Fully supported]", "[Retrieval]"),
];

/// Writes the model as a GGUF file; `chain` says who follows whom.
pub(crate) fn write(path: &Path, chain: &[(&str, &str)]) {
    let tokens = vocabulary();
    let id = |token: &str| tokens.iter().position(|known| known == token).expect("a token of the vocabulary");
    let mut random = Random(7);
    let embedding: Vec<f32> = (0..tokens.len() * DIM).map(|_| if random.next() < 0.5 { -1.0 } else { 1.0 }).collect();
    let mut output = vec![0.0; tokens.len() * DIM];
    for (token, follower) in chain {
        let (row, before) = (id(follower) * DIM, id(token) * DIM);
        // 6.4 against about ±0.8: most likely by far, yet with a probability worth weighing.
        (0..DIM).for_each(|i| output[row + i] += 0.1 * embedding[before + i]);
    }
    let mut tensors: Vec<(TensorInfo, Vec<f32>)> = Vec::new();
    let mut add = |name: String, shape: &[usize], values: Vec<f32>| {
        tensors.push((TensorInfo { name, dtype: DType::F32, shape: shape.to_vec() }, values));
    };
    add("token_embd.weight".into(), &[tokens.len(), DIM], embedding);
    add("output.weight".into(), &[tokens.len(), DIM], output);
    add("output_norm.weight".into(), &[DIM], vec![1.0; DIM]);
    for layer in 0..LAYERS {
        for part in ["attn_norm", "ffn_norm"] {
            add(format!("blk.{layer}.{part}.weight"), &[DIM], vec![1.0; DIM]);
        }
        for (part, rows, cols) in [
            ("attn_q", DIM, DIM),
            ("attn_output", DIM, DIM),
            ("attn_k", DIM / 2, DIM),
            ("attn_v", DIM / 2, DIM),
            ("ffn_gate", FEED_FORWARD, DIM),
            ("ffn_up", FEED_FORWARD, DIM),
            ("ffn_down", DIM, FEED_FORWARD),
        ] {
            let small = (0..rows * cols).map(|_| (random.next() - 0.5) * 0.1).collect();
            add(format!("blk.{layer}.{part}.weight"), &[rows, cols], small);
        }
    }
    let infos: Vec<TensorInfo> = tensors.iter().map(|(info, _)| info.clone()).collect();
    let (mut bytes, offsets) = encode_header(&metadata(&tokens), &infos).unwrap();
    let start = bytes.len();
    for ((_, values), offset) in tensors.iter().zip(offsets) {
        bytes.resize(start + offset as usize, 0);
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    std::fs::write(path, bytes).unwrap();
}

fn metadata(tokens: &[String]) -> Metadata {
    let n_special = NAMES.len() + 1;
    let kind = |at: usize| Value::I64(if at >= tokens.len() - n_special { 3 } else { 1 });
    let number = |value: usize| Value::U64(value as u64);
    Metadata::from([
        ("general.architecture".into(), "llama".into()),
        ("llama.block_count".into(), number(LAYERS)),
        ("llama.context_length".into(), number(4096)),
        ("llama.embedding_length".into(), number(DIM)),
        ("llama.feed_forward_length".into(), number(FEED_FORWARD)),
        ("llama.attention.head_count".into(), number(4)),
        ("llama.attention.head_count_kv".into(), number(2)),
        ("llama.rope.freq_base".into(), Value::F64(10000.0)),
        ("llama.attention.layer_norm_rms_epsilon".into(), Value::F64(1e-5)),
        ("llama.vocab_size".into(), number(tokens.len())),
        ("tokenizer.ggml.model".into(), "gpt2".into()),
        ("tokenizer.ggml.pre".into(), "gpt-2".into()),
        ("tokenizer.ggml.tokens".into(), Value::Array(tokens.iter().map(|token| token.as_str().into()).collect())),
        ("tokenizer.ggml.token_type".into(), Value::Array((0..tokens.len()).map(kind).collect())),
        ("tokenizer.ggml.merges".into(), Value::Array(Vec::new())),
        ("tokenizer.ggml.eos_token_id".into(), number(tokens.len() - 1)),
        ("tokenizer.ggml.add_bos_token".into(), Value::Bool(false)),
    ])
}

/// GPT-2's letters for the bytes, words, reflection tokens, the end.
pub(crate) fn vocabulary() -> Vec<String> {
    let prints = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut shifted = 256..;
    let letter = |byte: u8| match prints(&byte) {
        true => char::from(byte),
        false => char::from_u32(shifted.next().expect("endless")).expect("a letter"),
    };
    let letters: Vec<String> = (0..=255).map(letter).map(String::from).collect();
    let others = ["true", "Amazonia"].into_iter().chain(NAMES).chain(["<end>"]);
    letters.into_iter().chain(others.map(str::to_owned)).collect()
}

/// An LCG: the same numbers every time, in 0..1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1_u64 << 24) as f32
    }
}
