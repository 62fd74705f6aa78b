//! The promise: the same ids as the reference tokenizers, reflection tokens that no text can spell, and errors, never panics, on
//! hostile vocabularies.

use std::{io::Read, path::PathBuf};

use proptest::prelude::*;
use selfrag::{
    generator::prompt,
    retriever::Passage,
    tokenizer::{DecodeStream, EncodeOptions, ReflectionTokens, SegmentPrefix, Tokenizer, reflection},
    weights::{Metadata, Value},
};
use serde_json::Value as Json;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tokenizer").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if name.ends_with(".gz") {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut out).expect("the golden is gzip");
        return out;
    }
    bytes
}

fn llama2() -> Tokenizer {
    Tokenizer::from_json("llama2-tokenizer.json", &golden("llama2-tokenizer.json.gz")).expect("a valid vocabulary")
}

/// Llama-2 as GGUF has it: pieces, types, and scores that order the pieces as the merges that make them are ordered.
fn llama2_gguf() -> Metadata {
    let json: Json = serde_json::from_slice(&golden("llama2-tokenizer.json.gz")).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let mut tokens = vec![String::new(); vocab.len()];
    for (token, id) in vocab {
        tokens[id.as_u64().unwrap() as usize] = token.clone();
    }
    let kind = |id: usize| match id {
        0 => 2,
        1 | 2 => 3,
        3..259 => 6,
        _ => 1,
    };
    let mut ranks = std::collections::HashMap::new();
    for (rank, merge) in json["model"]["merges"].as_array().unwrap().iter().enumerate() {
        ranks.entry(merge.as_str().unwrap().replacen(' ', "", 1)).or_insert(rank);
    }
    let scores: Vec<f64> = tokens.iter().map(|token| -ranks.get(token).map_or(1e6, |&rank| rank as f64)).collect();
    Metadata::from([
        ("tokenizer.ggml.model".into(), Value::Text("llama".into())),
        ("tokenizer.ggml.token_type".into(), Value::Array((0..tokens.len()).map(|id| Value::I64(kind(id))).collect())),
        ("tokenizer.ggml.scores".into(), Value::Array(scores.into_iter().map(Value::F64).collect())),
        ("tokenizer.ggml.tokens".into(), Value::Array(tokens.into_iter().map(Value::Text).collect())),
    ])
}

/// The vocabulary of a real GGUF file.
fn smollm2() -> Metadata {
    fn value(json: &Json) -> Value {
        match json {
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(n) => n.as_u64().map_or_else(|| Value::F64(n.as_f64().unwrap()), Value::U64),
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(values) => Value::Array(values.iter().map(value).collect()),
            other => panic!("{other} in the golden"),
        }
    }
    let json: Json = serde_json::from_slice(&golden("smollm2.json.gz")).unwrap();
    json.as_object().unwrap().iter().map(|(key, json)| (key.clone(), value(json))).collect()
}

fn minilm(mark_word_starts: bool) -> Metadata {
    let text = String::from_utf8(golden("minilm-vocab.txt.gz")).unwrap();
    let special = |token: &str| token.starts_with('[') && token.ends_with(']') && token.len() > 2;
    let write = |token: &str| match token.strip_prefix("##") {
        _ if !mark_word_starts || special(token) => token.to_owned(),
        Some(rest) => rest.to_owned(),
        None => format!("\u{2581}{token}"),
    };
    Metadata::from([
        ("tokenizer.ggml.model".into(), Value::Text("bert".into())),
        ("tokenizer.ggml.tokens".into(), Value::Array(text.lines().map(|token| Value::Text(write(token))).collect())),
        (
            "tokenizer.ggml.token_type".into(),
            Value::Array(text.lines().map(|token| Value::U64(if special(token) { 3 } else { 1 })).collect()),
        ),
    ])
}

fn check_cases(name: &str, tokenizer: &Tokenizer) {
    let cases: Json = serde_json::from_slice(&golden("cases.json")).unwrap();
    let options = EncodeOptions { bos: false, ..EncodeOptions::START };
    let cases = cases[name].as_array().unwrap();
    assert!(cases.len() > 10, "{name} has cases");
    for case in cases {
        let text = case[0].as_str().unwrap();
        let expected: Vec<u32> = serde_json::from_value(case[1].clone()).unwrap();
        assert_eq!(tokenizer.encode(text, options).unwrap(), expected, "{name}: {text:?}");
    }
}

#[test]
fn llama2_from_json_and_from_scores() {
    check_cases("llama2", &llama2());
    check_cases("llama2", &Tokenizer::from_metadata("llama2.gguf", &llama2_gguf()).unwrap());
}

#[test]
fn smollm2_from_gguf_metadata() {
    let tokenizer = Tokenizer::from_metadata("smollm2.gguf", &smollm2()).unwrap();
    check_cases("smollm2", &tokenizer);
    assert_eq!(tokenizer.stop_tokens(), [2], "<|im_end|>");
    assert_eq!(tokenizer.token(2), Some("<|im_end|>"));
    let prompt = prompt::prompt(&tokenizer, "hello").unwrap();
    assert_ne!(prompt[0], tokenizer.bos().unwrap(), "SmolLM2's metadata says no BOS");
}

#[test]
fn minilm_with_either_way_to_mark_words() {
    for mark_word_starts in [false, true] {
        let tokenizer = Tokenizer::from_metadata("minilm.gguf", &minilm(mark_word_starts)).unwrap();
        let options = EncodeOptions { eos: false, ..EncodeOptions::START };
        assert_eq!(tokenizer.encode("a", options).unwrap()[0], 101, "[CLS] first");
        check_cases("minilm", &tokenizer);
        assert_eq!(tokenizer.encode("Hello, world!", EncodeOptions::WHOLE).unwrap(), [101, 7592, 1010, 2088, 999, 102]);
        assert_eq!(tokenizer.decode(&[101, 7592, 2088, 4667, 102]), "hello worldding");
    }
}

#[test]
fn sentencepiece_model() {
    let tokenizer = Tokenizer::from_sentencepiece("tiny.model", &golden("tiny.model")).unwrap();
    check_cases("tiny", &tokenizer);
}

/// The specification's appendix B: prompts of Llama-2, as `tokenizers` and SentencePiece give them.
#[test]
fn appendix_b() {
    let prompts: [(&str, &[u32]); 3] = [
        (
            "What is Henry Feilden's occupation?",
            &[
                1, 835, 2799, 4080, 29901, 13, 5618, 338, 6498, 5169, 789, 264, 29915, 29879, 26818, 29973, 13, 13,
                2277, 29937, 13291, 29901, 13,
            ],
        ),
        (
            "Leave odd one out: twitter, instagram, whatsapp.",
            &[
                1, 835, 2799, 4080, 29901, 13, 3226, 1351, 7736, 697, 714, 29901, 23394, 29892, 832, 14442, 29892, 825,
                29879, 932, 29889, 13, 13, 2277, 29937, 13291, 29901, 13,
            ],
        ),
        (
            "Can you tell me the difference between llamas and alpacas?",
            &[
                1, 835, 2799, 4080, 29901, 13, 6028, 366, 2649, 592, 278, 4328, 1546, 11829, 294, 322, 394, 29886, 562,
                294, 29973, 13, 13, 2277, 29937, 13291, 29901, 13,
            ],
        ),
    ];
    let passage_ids = [
        24030, 719, 5169, 789, 264, 313, 1168, 2140, 1230, 14099, 29897, 13, 6498, 9082, 5169, 789, 264, 313, 29906,
        29896, 6339, 29871, 29896, 29947, 29896, 29947, 785, 29871, 29945, 3839, 29871, 29896, 29947, 29955, 29945,
        29897, 471, 385, 4223, 15312, 1230, 9173, 14099, 29889,
    ];
    for mut tokenizer in [llama2(), Tokenizer::from_metadata("llama2.gguf", &llama2_gguf()).unwrap()] {
        for (question, expected) in prompts {
            assert_eq!(prompt::prompt(&tokenizer, question).unwrap(), expected, "{question}");
        }
        let reflection = ReflectionTokens::add(&mut tokenizer);
        assert_eq!(reflection.no_retrieval, 32000);
        assert_eq!(reflection.utility, [32007, 32008, 32009, 32010, 32011]);
        assert_eq!(reflection.no_support, 32014);
        let passage = Passage {
            id: "34".into(),
            title: "Henry Feilden (Conservative politician)".into(),
            text: " Henry Master Feilden (21 February 1818 – 5 September 1875) was an English Conservative Party politician."
                .into(),
        };
        let ids = |prefix| prompt::passage(&tokenizer, &reflection, &passage, prefix, 1000).unwrap().tokens;
        let wrap = |inner: &[u32]| [&[32001, 32005], inner, &[32006]].concat();
        assert_eq!(ids(SegmentPrefix::None), wrap(&passage_ids));
        assert_eq!(ids(SegmentPrefix::Every), wrap(&[&[6498], &passage_ids[2..]].concat()));
        let output = [32004, 24030, 719, 5169, 789, 264, 338, 263, 14099, 29889, 32012, 32011, 2];
        assert_eq!(tokenizer.decode(&output), "Henry Feilden is a politician.");
        let spelled = "[Relevant]Henry Feilden is a politician.[Fully supported][Utility:5]</s>";
        let trusted = EncodeOptions { bos: false, ..EncodeOptions::TRUSTED };
        assert_eq!(tokenizer.encode(spelled, trusted).unwrap(), output, "trusted text is split at special tokens");
    }
}

#[test]
fn passages_are_cut_to_fit() {
    let mut tokenizer = llama2();
    let reflection = ReflectionTokens::add(&mut tokenizer);
    let passage = Passage { id: "1".into(), title: "T".into(), text: "word ".repeat(100) };
    let whole = prompt::passage(&tokenizer, &reflection, &passage, SegmentPrefix::None, 1000).unwrap();
    assert_eq!(whole.cut, 0);
    let cut = prompt::passage(&tokenizer, &reflection, &passage, SegmentPrefix::None, 20).unwrap();
    assert_eq!((cut.tokens.len(), cut.cut), (20, whole.tokens.len() - 20));
    assert_eq!(cut.tokens.last(), Some(&reflection.paragraph_close), "the passage stays closed");
    assert!(prompt::passage(&tokenizer, &reflection, &passage, SegmentPrefix::None, 3).is_err());
}

#[test]
fn a_model_without_reflection_tokens_is_refused() {
    let error = ReflectionTokens::find(&llama2()).unwrap_err().to_string();
    assert!(error.contains("[No Retrieval]") && error.contains("no Self-RAG model"), "{error}");
}

/// A vocabulary in which the reflection tokens are plain or user-defined tokens, as some converters write them.
fn with_reflection_as(number: u64) -> Metadata {
    let mut metadata = smollm2();
    for name in reflection::NAMES {
        for (key, value) in [("tokens", Value::Text(name.into())), ("token_type", Value::U64(number))] {
            let Some(Value::Array(values)) = metadata.get_mut(&format!("tokenizer.ggml.{key}")) else {
                panic!("{key}")
            };
            values.push(value);
        }
    }
    metadata
}

#[test]
fn no_text_spells_a_reflection_token() {
    let mut added = llama2();
    ReflectionTokens::add(&mut added);
    let gguf = |number| Tokenizer::from_metadata("model.gguf", &with_reflection_as(number)).unwrap();
    let json = {
        let mut json: Json = serde_json::from_slice(&golden("llama2-tokenizer.json.gz")).unwrap();
        let tokens = json["added_tokens"].as_array_mut().unwrap();
        for (index, name) in reflection::NAMES.iter().enumerate() {
            tokens.push(serde_json::json!({"id": 32000 + index, "content": name, "special": false}));
        }
        Tokenizer::from_json("tokenizer.json", json.to_string().as_bytes()).unwrap()
    };
    for tokenizer in [added, gguf(1), gguf(3), gguf(4), json] {
        ReflectionTokens::find(&tokenizer).expect("the vocabulary has them");
        let special: Vec<u32> = reflection::NAMES.iter().map(|name| tokenizer.id(name).unwrap()).collect();
        for name in reflection::NAMES.iter().chain(&["</s>", "<|im_end|>"]) {
            for text in [name.to_string(), format!("a {name} b"), format!("{name}{name}"), format!("[{name}]")] {
                for options in [EncodeOptions::START, EncodeOptions::CONTINUE] {
                    let ids = tokenizer.encode(&text, options).unwrap();
                    let body = &ids[usize::from(ids.first() == tokenizer.bos().as_ref())..];
                    let forbidden = |id: &u32| special.contains(id) || tokenizer.stop_tokens().contains(id);
                    assert!(!body.iter().any(forbidden), "{text:?} → {ids:?}");
                    assert!(tokenizer.decode(&ids).contains(name), "{name} survives as text");
                }
            }
        }
    }
}

#[test]
fn characters_are_never_cut() {
    for tokenizer in [llama2(), Tokenizer::from_metadata("smollm2.gguf", &smollm2()).unwrap()] {
        let text = "naïve 日本語 👩‍👩‍👧 ᚠᚢ end";
        let ids = tokenizer.encode(text, EncodeOptions::START).unwrap();
        let mut stream = DecodeStream::default();
        let pieces: Vec<String> = ids.iter().map(|&id| stream.push(&tokenizer, id)).collect();
        assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
        assert_eq!(pieces.concat() + &stream.finish(), text);
        // Cut in the middle of a character: one replacement at the end, nothing lost before.
        let ids = tokenizer.encode("x👩", EncodeOptions::CONTINUE).unwrap();
        let cut = tokenizer.decode(&ids[..ids.len() - 1]);
        assert!(cut.starts_with('x') && cut.ends_with('\u{fffd}'), "{cut:?}");
        assert_eq!(tokenizer.decode(&[u32::MAX]), "", "unknown ids are no text");
    }
}

fn try_everything(tokenizer: &Tokenizer) {
    for options in [EncodeOptions::START, EncodeOptions::WHOLE, EncodeOptions::TRUSTED] {
        if let Ok(ids) = tokenizer.encode("Héllo [Relevant] wörld 123\n\u{2581}</s>", options) {
            tokenizer.decode(&ids);
        }
    }
    let _ = ReflectionTokens::find(tokenizer);
}

fn hostile_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f64>().prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        "(llama|gpt2|bert|smollm|llama-bpe|a|b|ab|a b|[UNK]|##a|\u{2581}a|<0x0A>|.{0,6})".prop_map(Value::Text),
    ];
    leaf.prop_recursive(2, 24, 12, |inner| prop::collection::vec(inner, 0..12).prop_map(Value::Array))
}

const KEYS: [&str; 9] =
    ["model", "tokens", "scores", "token_type", "merges", "pre", "bos_token_id", "eos_token_id", "unknown_token_id"];

proptest! {
    #[test]
    fn hostile_metadata(
        model in prop::sample::select(vec!["llama", "gpt2", "bert"]),
        tokens in prop::collection::vec("(a|b|ab|\\[UNK\\]|##b|\u{2581}|\u{2581}a|Ġ|<0x41>|.{0,3})", 0..20),
        odd in prop::collection::vec((prop::sample::select(KEYS.to_vec()), hostile_value()), 0..4),
    ) {
        let mut metadata = Metadata::from([
            ("tokenizer.ggml.model".to_owned(), Value::Text(model.into())),
            ("tokenizer.ggml.scores".to_owned(), Value::Array(vec![Value::F64(f64::NAN); tokens.len()])),
            ("tokenizer.ggml.tokens".to_owned(), Value::Array(tokens.into_iter().map(Value::Text).collect())),
        ]);
        metadata.extend(odd.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)));
        if let Ok(tokenizer) = Tokenizer::from_metadata("hostile.gguf", &metadata) {
            try_everything(&tokenizer);
        }
    }

    #[test]
    fn hostile_sentencepiece(position in 0..1usize << 14, byte: u8, cut in 0..1usize << 15) {
        let mut bytes = golden("tiny.model");
        let n_bytes = bytes.len();
        bytes[position % n_bytes] = byte;
        bytes.truncate(cut.max(1));
        if let Ok(tokenizer) = Tokenizer::from_sentencepiece("hostile.model", &bytes) {
            try_everything(&tokenizer);
        }
    }

    #[test]
    fn random_sentencepiece(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(tokenizer) = Tokenizer::from_sentencepiece("hostile.model", &bytes) {
            try_everything(&tokenizer);
        }
    }

    #[test]
    fn hostile_json(
        part in prop::sample::select(vec!["normalizer", "pre_tokenizer", "post_processor", "added_tokens", "model"]),
        key in prop::sample::select(vec![
            "type", "vocab", "merges", "unk_token", "pattern", "prepend", "content", "id", "special", "single", "replacement",
            "pretokenizers", "normalizers", "continuing_subword_prefix", "prepend_scheme", "behavior", "ignore_merges",
        ]),
        kind in prop::sample::select(vec!["BPE", "WordPiece", "Unigram", "Split", "Metaspace", "ByteLevel", "Replace", "Precompiled"]),
        value in prop::sample::select(vec![
            "null", "0", "-1", "1e300", "4294967295", "\"\"", "\"(((((a*)*)*)*)*)b\"", "[]", "{}", "[[\"a\",\"zz\"]]", "[\"a b\"]",
            "{\"Regex\":\"(a+)+$\"}", "{\"Regex\":\"[\"}", "{\"String\":\"\"}", "{\"a\":0,\"b\":0}", "{\"a\":4000000000}", "true",
        ]),
    ) {
        let mut json = serde_json::json!({
            "model": {"type": "BPE", "byte_fallback": true, "unk_token": "a", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "_"},
            "pre_tokenizer": {"type": kind, "pattern": {"Regex": "\\d"}, "behavior": "Isolated", "invert": false,
                "replacement": "_", "prepend_scheme": "first", "split": true, "add_prefix_space": true, "trim_offsets": true},
            "added_tokens": [{"id": 3, "content": "[Relevant]", "special": true}],
            "post_processor": null,
        });
        let value: Json = serde_json::from_str(value).unwrap();
        if part == "added_tokens" { json[part][0][key] = value } else if json[part].is_object() { json[part][key] = value }
        if let Ok(tokenizer) = Tokenizer::from_json("hostile.json", json.to_string().as_bytes()) {
            try_everything(&tokenizer);
        }
    }

    #[test]
    fn random_json(text in "[\\[\\]{}\",:a-z0-9\\\\]{0,60}") {
        prop_assert!(Tokenizer::from_json("hostile.json", text.as_bytes()).is_err());
    }
}

/// Ids far beyond the number of tokens would reserve memory for nothing.
#[test]
fn far_ids_are_refused() {
    let json = r#"{"model":{"type":"BPE","byte_fallback":true,"vocab":{"a":4000000},"merges":[]},"added_tokens":[]}"#;
    let error = Tokenizer::from_json("far.json", json.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("id 4000000"), "{error}");
}
