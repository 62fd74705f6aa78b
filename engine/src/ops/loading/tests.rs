use super::*;
use crate::{
    gpu::Options,
    ops::{pack_rows, self_test::FORMATS, self_test::Random},
    platform::{LocalFuture, block_on},
    weights::{DType, Metadata},
};

/// Tensors in memory.
struct Stored {
    tensors: Vec<TensorInfo>,
    bytes: Vec<Vec<u8>>,
    metadata: Metadata,
}

impl Stored {
    fn new(tensors: Vec<TensorInfo>) -> Self {
        let mut random = Random::new(7);
        let bytes = |t: &TensorInfo| {
            // Blocks of any bytes; the rest of a row repeats them, shifted.
            let some: Vec<u8> = (0..4099).map(|_| random.bits() as u8).collect();
            some.iter().copied().cycle().take(t.matrix().0 * t.row_bytes()).collect()
        };
        Self { bytes: tensors.iter().map(bytes).collect(), tensors, metadata: Metadata::new() }
    }

    fn stacked(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        self.bytes[range].concat()
    }
}

impl Weights for Stored {
    fn name(&self) -> &str {
        "stored"
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read_rows<'a>(&'a self, tensor: &'a TensorInfo, first: usize, count: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        let i = self.tensors.iter().position(|t| t.name == tensor.name).expect("one of these");
        let rows = self.bytes[i][first * tensor.row_bytes()..][..count * tensor.row_bytes()].to_vec();
        Box::pin(std::future::ready(Ok(rows)))
    }
}

fn tensor(name: &str, dtype: DType, rows: usize, cols: usize) -> TensorInfo {
    TensorInfo { name: name.into(), dtype, shape: vec![rows, cols] }
}

fn gpu() -> Gpu {
    block_on(Gpu::open(Options::default())).expect("the tests need a GPU; lavapipe will do")
}

/// What a matrix of one part holds on the GPU.
fn held(gpu: &Gpu, matrix: &Matrix) -> Packed {
    let [part] = &matrix.parts[..] else { panic!("{} parts", matrix.parts.len()) };
    let (w, s) = packed_words(part.dtype, matrix.cols);
    let words = |buffer, words| block_on(gpu.download_words(buffer, words)).unwrap();
    Packed { w: words(&part.w, part.rows * w), s: words(&part.s, part.rows * s) }
}

#[test]
fn every_format_is_on_the_gpu_bit_for_bit_in_hardly_more_memory() {
    let gpu = gpu();
    for dtype in FORMATS {
        // Odd numbers of rows, and of blocks where a scale is half a word.
        let cols = 9 * 256;
        let weights =
            Stored::new(vec![tensor("a", dtype, 37, cols), tensor("b", dtype, 5, cols), tensor("c", dtype, 60, cols)]);
        let mut loading = Loading::new(&gpu, &weights);
        let stack = loading.matrix(&["a".into(), "b".into()]).unwrap();
        let other = loading.matrix(&["c".into()]).unwrap();
        let mut told = 0;
        block_on(loading.run(&mut |bytes| told += bytes)).unwrap();
        let stored = [weights.stacked(0..2), weights.stacked(2..3)];
        for (matrix, stored) in [&stack, &other].into_iter().zip(&stored) {
            assert!(held(&gpu, matrix) == pack_rows(dtype, stored, cols), "{dtype:?}");
            let ratio = matrix.bytes() as f64 / stored.len() as f64;
            let most = if matches!(dtype, DType::Q4K | DType::Q5K | DType::Q6K) { 1.15 } else { 1.03 };
            assert!((1.0..=most).contains(&ratio), "{dtype:?}: {ratio} × its bytes in a file");
        }
        assert_eq!(told, (stored[0].len() + stored[1].len()) as u64);
    }
}

#[test]
fn pieces_and_staging_buffers_are_used_again_and_again() {
    let gpu = gpu();
    // Six pieces of two tensors: more than there are stages. Columns that are no whole groups of eight are padded with zeros.
    let (dtype, cols) = (DType::F32, 1021);
    let rows = 3 * LOAD_PIECE / dtype.row_bytes(cols) - 1;
    let weights = Stored::new(vec![tensor("a", dtype, rows, cols), tensor("b", dtype, rows, cols)]);
    let mut loading = Loading::new(&gpu, &weights);
    let matrix = loading.matrix(&["a".into(), "b".into()]).unwrap();
    assert!(loading.pieces.len() >= 6, "{loading:?}");
    block_on(loading.run(&mut |_| {})).unwrap();
    assert!(held(&gpu, &matrix) == pack_rows(dtype, &weights.stacked(0..2), cols));
}

#[test]
fn what_does_not_fit_together_is_named() {
    let gpu = gpu();
    let weights = Stored::new(vec![tensor("a", DType::F32, 2, 8), tensor("b", DType::F32, 2, 16)]);
    let mut loading = Loading::new(&gpu, &weights);
    let told = |result: Result<Matrix>| result.unwrap_err().to_string();
    assert!(told(loading.matrix(&["a".into(), "b".into()])).contains("8 columns expected"));
    assert!(told(loading.matrix(&["c".into()])).contains("no such tensor"));
    assert!(loading.vector("a").unwrap_err().to_string().contains("one row expected"));
}
