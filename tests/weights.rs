//! Promise: a model holds the same values from every kind of file, merged or converted. Goldens: golden/weights.py.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use selfrag::{
    platform::block_on,
    weights::{
        DType, Gguf, TensorInfo, Value, Weights,
        convert::{FileType, convert},
        gguf::split_siblings,
        open, quant, read_values,
    },
};

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/weights")).join(name)
}

/// A folder of this test's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("selfrag-weights-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn values(weights: &dyn Weights, tensor: &TensorInfo) -> Vec<f32> {
    block_on(read_values(weights, tensor, 0, tensor.matrix().0)).unwrap()
}

/// Every tensor of `expected` is in `found`, with values within `tolerance`, and no others are.
fn assert_same(found: &dyn Weights, expected: &dyn Weights, tolerance: f32) {
    let names = |weights: &dyn Weights| weights.tensors().iter().map(|t| t.name.clone()).collect::<BTreeSet<_>>();
    assert_eq!(names(found), names(expected));
    for tensor in expected.tensors() {
        let other = found.tensor(&tensor.name).unwrap();
        assert_eq!(other.shape, tensor.shape, "{}", tensor.name);
        for (i, (a, b)) in values(found, other).iter().zip(values(expected, tensor)).enumerate() {
            assert!((a - b).abs() <= tolerance, "{} value {i}: {a} found, {b} expected", tensor.name);
        }
    }
}

#[test]
fn merged_adapter_equals_peft() {
    for (base, adapter, merged) in [("llama", "adapter", "merged"), ("tied", "tied-adapter", "tied-merged")] {
        let found = open(&golden(base), Some(&golden(adapter))).unwrap();
        let expected = open(&golden(merged), None).unwrap();
        assert_same(found.as_ref(), expected.as_ref(), 1e-6);
        assert_eq!(found.metadata()["llama.vocab_size"], Value::U64(44));
        let tokens = found.metadata()["tokenizer.ggml.tokens"].as_array().unwrap();
        assert_eq!((tokens.len(), tokens[43].as_text()), (44, Some("[new 3]")));
        let types = found.metadata()["tokenizer.ggml.token_type"].as_array().unwrap();
        assert_eq!((&types[39], &types[40]), (&Value::I64(1), &Value::I64(3)));
    }
}

#[test]
fn merged_rows_do_not_depend_on_where_reading_starts() {
    let merged = open(&golden("tied"), Some(&golden("tied-adapter"))).unwrap();
    for tensor in merged.tensors() {
        let (rows, cols) = tensor.matrix();
        let whole = values(merged.as_ref(), tensor);
        for first in 0..rows {
            let row = block_on(read_values(merged.as_ref(), tensor, first, 1)).unwrap();
            assert_eq!(row, whole[first * cols..][..cols], "{} row {first}", tensor.name);
        }
        assert!(block_on(merged.read_rows(tensor, rows, 1)).is_err());
    }
}

#[test]
fn torch_shards_equal_safetensors() {
    let torch = open(&golden("llama-torch"), None).unwrap();
    let safetensors = open(&golden("llama"), None).unwrap();
    for tensor in torch.tensors() {
        assert_eq!(tensor.dtype, DType::Bf16);
        let expected = safetensors.tensor(&tensor.name).unwrap();
        let mut rounded = vec![0; 2 * expected.shape.iter().product::<usize>()];
        quant::quantize(DType::Bf16, &values(safetensors.as_ref(), expected), &mut rounded);
        let found = block_on(torch.read_rows(tensor, 0, tensor.matrix().0)).unwrap();
        assert_eq!(found, rounded, "{}", tensor.name);
    }
    assert_eq!(torch.tensors().len(), safetensors.tensors().len());
}

#[test]
fn rope_rows_are_interleaved() {
    let model = open(&golden("llama"), None).unwrap();
    let bytes = ["model-00001-of-00003", "model-00002-of-00003", "model-00003-of-00003"]
        .map(|stem| std::fs::read(golden("llama").join(stem).with_extension("safetensors")).unwrap());
    let name = "model.layers.0.self_attn.q_proj.weight";
    let plain = bytes.iter().find_map(|bytes| {
        let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header_len]).unwrap();
        let begin = header.get(name)?["data_offsets"][0].as_u64().unwrap() as usize;
        Some(bytes[8 + header_len + begin..][..24 * 24 * 4].to_vec())
    });
    let plain = plain.unwrap();
    let tensor = model.tensor("blk.0.attn_q.weight").unwrap();
    let found = block_on(model.read_rows(tensor, 0, 24)).unwrap();
    // Heads of 8: rows 0 4 1 5 2 6 3 7 of each.
    for (row, source) in [(0, 0), (1, 4), (2, 1), (7, 7), (8, 8), (9, 12), (23, 23), (22, 19)] {
        assert_eq!(found[row * 96..][..96], plain[source * 96..][..96], "row {row}");
    }
}

#[test]
fn converted_file_holds_the_model() {
    let scratch = Scratch::new("convert");
    let model = open(&golden("llama"), None).unwrap();
    let path = scratch.0.join("model.gguf");
    let mut last = (0, 0);
    let report =
        convert(model.as_ref(), &path, FileType::from_name("f32").unwrap(), None, &mut |n, all| last = (n, all))
            .unwrap();
    assert_eq!((report.files.as_slice(), last.0), ([path.clone()].as_slice(), last.1));
    let back = Gguf::open_path(&path).unwrap();
    assert_same(&back, model.as_ref(), 0.0);
    for (key, value) in model.metadata() {
        let close = match (value, &back.metadata()[key]) {
            (Value::F64(a), Value::F64(b)) => *a as f32 == *b as f32,
            (a, b) => a == b,
        };
        assert!(close, "{key}: {:?} found, {value:?} expected", back.metadata()[key]);
    }
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 1, "temporary files are gone");
}

#[test]
fn split_files_are_found_and_complete() {
    let scratch = Scratch::new("split");
    let model = open(&golden("llama"), None).unwrap();
    let path = scratch.0.join("model.gguf");
    let f16 = FileType::from_name("f16").unwrap();
    let report = convert(model.as_ref(), &path, f16, Some(4_000), &mut |_, _| {}).unwrap();
    assert!(report.files.len() > 2);
    assert_eq!(split_siblings(&report.files[1]), report.files);
    let back = Gguf::open_path(&report.files[1]).unwrap();
    assert_same(&back, model.as_ref(), 2e-3);
    assert!(back.metadata().keys().all(|key| !key.starts_with("split.")));
    std::fs::remove_file(&report.files[2]).unwrap();
    let error = Gguf::open_path(&report.files[0]).err().unwrap().to_string();
    assert!(error.contains("-00003-of-"), "{error}");
}

#[test]
fn every_type_converts_within_its_precision() {
    let scratch = Scratch::new("types");
    let model = open(&golden("llama"), None).unwrap();
    for name in FileType::names() {
        let path = scratch.0.join(format!("{name}.gguf"));
        convert(model.as_ref(), &path, FileType::from_name(name).unwrap(), None, &mut |_, _| {}).unwrap();
        let back = Gguf::open_path(&path).unwrap();
        // Values are normal with deviation 0.3: the largest of a block of 32 is about 1, a 4-bit step about 0.13.
        assert_same(&back, model.as_ref(), if name.starts_with("q4") || name.starts_with("q5") { 0.13 } else { 0.01 });
    }
}

#[test]
fn refusals_name_what_they_refuse() {
    let scratch = Scratch::new("refuse");
    let copy = |from: &str, file: &str| std::fs::copy(golden(from).join(file), scratch.0.join(file)).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"] {
        copy("tied-adapter", file);
    }
    let config = std::fs::read_to_string(golden("tied-adapter").join("adapter_config.json")).unwrap();
    let cases = [
        ("\"use_dora\": false", "\"use_dora\": true", "use_dora"),
        ("\"bias\": \"none\"", "\"bias\": \"all\"", "bias"),
        ("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\"", "init_lora_weights"),
        ("\"peft_type\": \"LORA\"", "\"peft_type\": \"IA3\"", "peft_type"),
        ("\"down_proj\": 9", "\"down_(proj|x)\": 9", "alpha_pattern"),
    ];
    for (from, to, word) in cases {
        assert!(config.contains(from), "{from}");
        std::fs::write(scratch.0.join("adapter_config.json"), config.replace(from, to)).unwrap();
        let error = open(&golden("tied"), Some(&scratch.0)).err().expect(word).to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    // The adapter of another base.
    let error = open(&golden("llama-torch"), Some(&golden("tied"))).err().unwrap().to_string();
    assert!(error.contains("adapter_config.json"), "{error}");
}
