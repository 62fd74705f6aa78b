//! Promise: what `selfrag merge` writes is base and adapter in one model: the same logits, every token, every trained row.

#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/training.rs"]
mod training;

use std::{
    path::Path,
    process::{Command, Output},
};

use selfrag::{
    platform::block_on,
    tokenizer::{EncodeOptions, ReflectionTokens, Tokenizer, reflection::NAMES},
    train::{Trainer, run, verify},
    weights::{DType, Weights, open, quant, read_values},
};
use serde_json::{Value, json};
use training::{Scratch, assert_close, golden, read_safetensors, tiny_run};

fn merge(args: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_selfrag")).arg("merge").args(args).output().unwrap()
}

fn good(args: &[&Path]) -> String {
    let output = merge(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stderr).unwrap()
}

fn bad(args: &[&Path]) -> String {
    let output = merge(args);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn values(weights: &dyn Weights, name: &str) -> Vec<f32> {
    let tensor = weights.tensor(name).unwrap();
    block_on(read_values(weights, tensor, 0, tensor.matrix().0)).unwrap()
}

/// Every tensor of a written model is the merged one, rounded once.
fn assert_rounded(found: &dyn Weights, merged: &dyn Weights, matrices: DType) {
    assert_eq!(found.tensors().len(), merged.tensors().len());
    for tensor in merged.tensors() {
        let other = found.tensor(&tensor.name).unwrap();
        assert_eq!(other.shape, tensor.shape, "{}", tensor.name);
        if tensor.shape.len() == 2 {
            assert_eq!(other.dtype, matrices, "{}", tensor.name);
        }
        let expected = values(merged, &tensor.name);
        let mut bytes = vec![0; other.dtype.row_bytes(expected.len())];
        quant::quantize(other.dtype, &expected, &mut bytes);
        let mut rounded = vec![0.0; expected.len()];
        quant::dequantize(other.dtype, &bytes, &mut rounded);
        assert!(values(found, &tensor.name) == rounded, "{}", tensor.name);
    }
}

#[test]
fn folder_and_gguf_hold_the_adapter_with_its_reflection_rows() {
    let scratch = Scratch::new("merge-command");
    let at = |name: &str| scratch.0.join(name);
    let config = tiny_run(&scratch, json!({"max_steps": 8, "learning_rate": 0.02}));
    let adapter = run(&mut Trainer::new(config.clone(), None).unwrap(), &mut |_, _| ()).unwrap();
    let (base, option) = (config.model.as_path(), Path::new);
    let merged = open(base, Some(&adapter)).unwrap();
    let expected = Tokenizer::from_metadata("merged", merged.metadata()).unwrap();
    for (name, dtype) in [("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::Bf16)] {
        let (folder, gguf) = (at(name), at(&format!("{name}.gguf")));
        let said = good(&[
            base,
            &adapter,
            option("--folder"),
            &folder,
            option("--type"),
            option(name),
            option("--gguf"),
            &gguf,
            option("--gguf-type"),
            option(name),
            option("--verify"),
        ]);
        assert_eq!(said.matches("the likeliest token is another at").count(), 2, "{said}");
        for written in [&folder, &gguf] {
            let found = open(written, None).unwrap();
            assert_rounded(found.as_ref(), merged.as_ref(), dtype);
            let tokenizer = Tokenizer::from_metadata("written", found.metadata()).unwrap();
            let reflection = ReflectionTokens::find(&tokenizer).unwrap();
            assert_eq!(reflection, ReflectionTokens::find(&expected).unwrap());
            let text = format!("who is 3?\n{}me{}", NAMES[4], NAMES[12]);
            let encode = |tokenizer: &Tokenizer| tokenizer.encode(&text, EncodeOptions::TRUSTED).unwrap();
            assert_eq!(encode(&tokenizer), encode(&expected));
        }
        let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["vocab_size"], expected.vocab_size());
        assert_eq!(config["tie_word_embeddings"], true);
    }

    // The comparison by logits notices an adapter that is not the one that was merged, and one that was left out.
    let other = tiny_run(&scratch, json!({"max_steps": 8, "learning_rate": 0.02, "seed": 5, "output": at("other")}));
    let other = run(&mut Trainer::new(other, None).unwrap(), &mut |_, _| ()).unwrap();
    let found = verify(base, Some(&adapter), &at("f32")).unwrap();
    assert!(found.largest < 1e-5 && found.other_choice == 0 && found.positions > 50, "{found:?}");
    let error = verify(base, Some(&other), &at("f32")).unwrap_err().to_string();
    assert!(error.contains("logits: logits differ"), "{error}");
    let error = verify(base, None, &at("f32")).unwrap_err().to_string();
    assert!(error.contains("token_embd.weight"), "{error}");

    // Nothing is overwritten, and nothing is written of what is not there.
    let error = bad(&[base, &adapter, option("--folder"), &at("f32")]);
    assert!(error.contains("is not empty"), "{error}");
    std::fs::write(at("there.gguf"), "mine").unwrap();
    let error = bad(&[base, &adapter, option("--folder"), &at("new"), option("--gguf"), &at("there.gguf")]);
    assert!(error.contains("is there already") && !at("new").exists(), "{error}");
    assert_eq!(std::fs::read(at("there.gguf")).unwrap(), b"mine");
    let error = bad(&[base, &adapter, option("--folder"), &at("new"), option("--gguf"), &at("model.bin")]);
    assert!(error.contains("a name ending in .gguf expected") && !at("new").exists(), "{error}");
    let error = bad(&[base, &at("nowhere"), option("--folder"), &at("new")]);
    assert!(error.contains("nowhere") && !at("new").exists(), "{error}");
    assert!(bad(&[base, &adapter]).contains("--folder"));
    let error = bad(&[base, &adapter, option("--folder"), &at("new"), option("--type"), option("q8_0")]);
    assert!(error.contains("q8_0"), "{error}");
}

/// By Hugging Face's names and row order: PEFT's own merge, of a base in torch's shards.
#[test]
fn a_folder_equals_pefts_merge() {
    let scratch = Scratch::new("merge-peft");
    let [base, adapter, merged] = ["base", "adapter", "merged.safetensors"].map(|name| golden("tiny_peft").join(name));
    let folder = scratch.0.join("folder");
    good(&[&base, &adapter, Path::new("--folder"), &folder, Path::new("--type"), Path::new("f32")]);
    let (found, expected) = (read_safetensors(&folder.join("model.safetensors")), read_safetensors(&merged));
    assert!(found.len() > 20 && found.keys().all(|name| expected.contains_key(name)), "{:?}", found.keys());
    for (name, expected) in expected.iter().filter(|(name, _)| *name != "lm_head.weight") {
        let found: Vec<f32> = found[name].iter().map(|&value| value as f32).collect();
        assert_close(name, &found, expected, 1e-6);
    }
}

/// A GGUF file has no tokenizer.json: one is made of its vocabulary, here of BPE over bytes (the other tests have SentencePiece's).
#[test]
fn a_vocabulary_without_a_file_gets_one() {
    let scratch = Scratch::new("merge-vocabulary");
    let (base, folder) = (scratch.0.join("tiny.gguf"), scratch.0.join("folder"));
    tiny::write(&base, &tiny::SHORT);
    good(&[&base, Path::new("--folder"), &folder, Path::new("--type"), Path::new("f32")]);
    let (expected, found) = (open(&base, None).unwrap(), open(&folder, None).unwrap());
    assert_rounded(found.as_ref(), expected.as_ref(), DType::F32);
    let [expected, found] = [expected, found].map(|m| Tokenizer::from_metadata("model", m.metadata()).unwrap());
    assert_eq!(found.vocab_size(), expected.vocab_size());
    (0..expected.vocab_size() as u32).for_each(|id| {
        assert_eq!((found.token(id), found.is_special(id)), (expected.token(id), expected.is_special(id)));
    });
    assert_eq!((found.eos(), found.bos()), (expected.eos(), expected.bos()));
    for text in ["true or false", "  two\n\tspaces 1234", "ünïcode 漢字", "[Relevant]true[Utility:5]"] {
        for options in [EncodeOptions::START, EncodeOptions::TRUSTED, EncodeOptions::WHOLE] {
            assert_eq!(found.encode(text, options).unwrap(), expected.encode(text, options).unwrap(), "{text}");
        }
    }
}

/// What ships: a checkpoint's adapter in f16, half as large, the same but for rounding.
#[test]
fn an_adapter_alone_in_another_type() {
    let scratch = Scratch::new("merge-adapter");
    let [base, adapter] = ["base", "adapter"].map(|name| golden("tiny_peft").join(name));
    let half = scratch.0.join("half");
    let args = [&base, &adapter, Path::new("--adapter-folder"), &half];
    good(&args);
    let (from, to) = (open(&base, Some(&adapter)).unwrap(), open(&base, Some(&half)).unwrap());
    for tensor in from.tensors() {
        let (found, expected) = (values(to.as_ref(), &tensor.name), values(from.as_ref(), &tensor.name));
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        assert_close(&tensor.name, &found, &expected, 2e-3);
    }
    let bytes = |folder: &Path| std::fs::metadata(folder.join("adapter_model.safetensors")).unwrap().len();
    assert!(bytes(&half) < bytes(&adapter) * 6 / 10, "{} of {}", bytes(&half), bytes(&adapter));
    let config = |folder: &Path| std::fs::read(folder.join("adapter_config.json")).unwrap();
    assert_eq!(config(&half), config(&adapter));
    assert!(bad(&args).contains("is not empty"));
    let error = bad(&[&base, Path::new("--adapter-folder"), &half]);
    assert!(error.contains("<ADAPTER>"), "{error}");
}
