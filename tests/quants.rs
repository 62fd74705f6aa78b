//! Promise: block formats read and write as llama.cpp does. Goldens: golden/quants.py, golden/k_quants.py.

use selfrag::weights::{DType, quant};

/// The formats in the order of quants.py; whether the file also has what it writes.
const FORMATS: [(DType, bool); 10] = [
    (DType::F16, true),
    (DType::Bf16, true),
    (DType::Q8_0, true),
    (DType::Q4_0, true),
    (DType::Q4_1, true),
    (DType::Q5_0, true),
    (DType::Q5_1, true),
    (DType::Q4K, false),
    (DType::Q5K, false),
    (DType::Q6K, false),
];

/// Takes pieces off the front of a golden file.
struct Golden(&'static [u8]);

impl Golden {
    fn bytes(&mut self, n: usize) -> &'static [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> usize {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap()) as usize
    }

    fn f32s(&mut self, n: usize) -> Vec<f32> {
        self.bytes(4 * n).as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

#[test]
fn small_formats_are_bit_equal_both_ways() {
    let mut golden = Golden(include_bytes!("golden/quants.bin"));
    for (dtype, is_writable) in FORMATS {
        let name = std::str::from_utf8(golden.bytes(8)).unwrap().trim_end_matches('\0');
        assert_eq!(name, dtype.name());
        let (n_values, n_bytes) = (golden.u32(), golden.u32());
        let blocks = golden.bytes(n_bytes);
        let expected = golden.f32s(n_values);
        let mut values = vec![0.0; n_values];
        quant::dequantize(dtype, blocks, &mut values);
        for (i, (found, expected)) in values.iter().zip(&expected).enumerate() {
            assert_eq!(found.to_bits(), expected.to_bits(), "{name} value {i}: {found} found, {expected} expected");
        }
        if is_writable {
            let inputs = golden.f32s(n_values);
            let expected = golden.bytes(n_bytes);
            let mut blocks = vec![0; n_bytes];
            quant::quantize(dtype, &inputs, &mut blocks);
            let first = blocks.iter().zip(expected).position(|(found, expected)| found != expected);
            assert_eq!(
                first,
                None,
                "{name}: first different byte (block {:?})",
                first.map(|at| at / dtype.block_bytes())
            );
        }
    }
    assert!(golden.0.is_empty());
}

#[test]
fn k_formats_lose_no_more_than_ggml() {
    let mut golden = Golden(include_bytes!("golden/k_quants.bin"));
    let inputs = golden.f32s(4096);
    let rms = |dtype, blocks: &[u8]| {
        let mut values = vec![0.0; inputs.len()];
        quant::dequantize(dtype, blocks, &mut values);
        let squares: f64 = values.iter().zip(&inputs).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        (squares / inputs.len() as f64).sqrt()
    };
    for dtype in [DType::Q4K, DType::Q5K, DType::Q6K] {
        let n_bytes = dtype.row_bytes(inputs.len());
        let theirs = rms(dtype, golden.bytes(n_bytes));
        let mut blocks = vec![0; n_bytes];
        quant::quantize(dtype, &inputs, &mut blocks);
        let ours = rms(dtype, &blocks);
        println!("{}: rms error {ours:.3e}, ggml's {theirs:.3e}, ratio {:.4}", dtype.name(), ours / theirs);
        assert!(ours <= 1.02 * theirs, "{}: rms error {ours:e}, ggml's {theirs:e}", dtype.name());
    }
}

#[test]
fn any_values_are_written_without_panic() {
    let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -0.0];
    for (dtype, _) in FORMATS {
        for &value in &odd {
            let mut inputs = vec![0.25; 256];
            inputs[7] = value;
            let mut blocks = vec![0; dtype.row_bytes(256)];
            quant::quantize(dtype, &inputs, &mut blocks);
            quant::quantize(dtype, &[value; 256], &mut blocks);
        }
    }
}
