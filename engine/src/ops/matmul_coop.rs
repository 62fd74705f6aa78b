//! `shaders/matmul_coop.wgsl`: matrix product of many tokens on cooperative matrices.

use super::{Epilogue, Matrix, Tiles, matrix::format_name};
use crate::{
    gpu::{Buffer, Gpu, Recording, Tensor, params},
    weights::DType,
};

/// Tokens and rows that a workgroup takes.
pub(super) const SIDE: usize = 128;

/// Whether this device can multiply `matrix` on cooperative matrices.
pub fn can_coop(gpu: &Gpu, matrix: &Matrix) -> bool {
    gpu.is_cooperative()
        && matrix.cols.is_multiple_of(64)
        && matrix.parts.iter().all(|part| part.rows.is_multiple_of(16) && part.first_row.is_multiple_of(16))
}

/// The checks that the products share: y is (rows, columns); of x `read` rows are read, of y `written` are written.
pub(super) fn check(
    op: &str,
    gpu: &Gpu,
    matrix: &Matrix,
    x: &Tiles,
    (y_rows, y_cols): (usize, usize),
    (read, written): (usize, usize),
) {
    assert!(can_coop(gpu, matrix), "{op}: the device or the matrix cannot");
    assert_eq!(x.cols, matrix.cols, "{op}: x has {} columns, the matrix {}", x.cols, matrix.cols);
    assert!(y_cols >= matrix.rows, "{op}: y has {y_cols} columns, the matrix {} rows", matrix.rows);
    assert!(read <= x.rows && written <= y_rows, "{op}: {written} rows, x holds {}, y {y_rows}", x.rows);
}

/// A part's variant.
pub(super) fn defines(dtype: DType) -> Vec<&'static str> {
    let mut defines = vec![format_name(dtype), "COOP"];
    defines.extend((dtype == DType::F16).then_some("RAW"));
    defines
}

/// y[t, n] = Σ_k W[n, k] · x[t, k], + y[t, n] or + the bias of row n. Rows of y past `tokens`, up to whole 128, are overwritten.
pub fn matmul_coop(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    x: &Tiles,
    y: &Tensor,
    tokens: usize,
    epilogue: Epilogue<'_>,
) {
    let room = tokens.next_multiple_of(SIDE);
    check("matmul_coop", gpu, matrix, x, (y.rows, y.cols), (room, room));
    let defines: &[&str] = if epilogue.bias.is_some() { &["BIAS"] } else { &[] };
    launch(gpu, recording, matrix, x, (&y.buffer, y.stride), tokens, epilogue, defines);
}

/// z[t, n] = Σ_k W[n, k] · x[t, k] + the bias of row n, after GELU where `gelu` says so, in tiles for the next product.
#[allow(clippy::too_many_arguments, reason = "a product and what follows it")]
pub fn matmul_coop_tiles(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    x: &Tiles,
    z: &Tiles,
    tokens: usize,
    bias: &Buffer,
    gelu: bool,
) {
    let room = tokens.next_multiple_of(SIDE);
    check("matmul_coop", gpu, matrix, x, (z.rows, z.cols), (room, room));
    let defines: &[&str] = if gelu { &["BIAS", "STAGED", "TILES", "GELU"] } else { &["BIAS", "STAGED", "TILES"] };
    let epilogue = Epilogue { add: false, bias: Some(bias) };
    launch(gpu, recording, matrix, x, (&z.buffer, z.cols), tokens, epilogue, defines);
}

/// z = silu(gate) · up in tiles for the next product, where the matrix is gate, then up, in one part.
pub fn matmul_coop_swiglu(gpu: &Gpu, recording: &mut Recording, matrix: &Matrix, x: &Tiles, z: &Tiles, tokens: usize) {
    let room = tokens.next_multiple_of(SIDE);
    check("matmul_coop", gpu, matrix, x, (z.rows, 2 * z.cols), (room, room));
    assert!(
        matrix.is_whole() && z.cols * 2 == matrix.rows,
        "matmul_coop: gate and up in one part, z of half their rows"
    );
    launch(gpu, recording, matrix, x, (&z.buffer, z.cols), tokens, Epilogue::default(), &["STAGED", "SWIGLU"]);
}

#[allow(clippy::too_many_arguments, reason = "a product and what follows it")]
fn launch(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    x: &Tiles,
    (y, y_stride): (&Buffer, usize),
    tokens: usize,
    epilogue: Epilogue<'_>,
    options: &[&str],
) {
    assert!(!(epilogue.add && epilogue.bias.is_some()), "matmul_coop: a bias takes the place of what y holds");
    for part in &matrix.parts {
        let params = params::MatmulCoop {
            cols8: matrix.cols as u32 / 8,
            rows: part.rows as u32,
            tokens: tokens as u32,
            y_stride: y_stride as u32,
            y_offset: part.first_row as u32,
            flags: u32::from(epilogue.add),
        };
        let groups = [tokens.div_ceil(SIDE), part.rows.div_ceil(SIDE), 1];
        let mut buffers = vec![&part.w, &part.s, &x.buffer, y];
        buffers.extend(epilogue.bias);
        let mut defines = defines(part.dtype);
        defines.extend(options);
        recording.dispatch(gpu, ("matmul_coop", &defines), params, &buffers, groups);
    }
}
