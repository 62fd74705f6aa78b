//! `shaders/matmul_int.wgsl`: matrix product of a block format with activations as integers, for few tokens.

use super::{Integers, Matrix, matrix::format_name};
use crate::{
    gpu::{Buffer, Gpu, Recording, Tensor, params},
    weights::DType,
};

/// What [`matmul_int`] does beside the product.
#[derive(Debug, Clone, Copy, Default)]
pub struct Int<'a> {
    /// Finish a norm whose gain is in x already: its epsilon.
    pub norm: Option<f32>,
    /// The matrix is gate over up in one part; y, half as wide, is silu(gate) · up. Goes with `norm` and `next`.
    pub swiglu: bool,
    /// Add to what y holds.
    pub add: bool,
    /// Write y as integers too, multiplied by a gain: what the next product takes.
    pub next: Option<(Option<&'a Buffer>, &'a Integers)>,
}

/// y[t, n] = Σ_k W[n, k] · x[t, k]; x is (tokens, cols), y (tokens, rows).
pub fn matmul_int(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    x: &Integers,
    y: &Tensor,
    tokens: usize,
    int: Int<'_>,
) {
    let outputs = if int.swiglu { matrix.rows / 2 } else { matrix.rows };
    assert!(matrix.is_blocks(), "matmul_int: not a block format");
    assert_eq!(x.cols, matrix.cols, "matmul_int: x has {} columns, the matrix {}", x.cols, matrix.cols);
    assert!(tokens <= x.rows && tokens <= y.rows, "matmul_int: {tokens} tokens, x holds {}, y {}", x.rows, y.rows);
    assert!(y.cols >= outputs, "matmul_int: y has {} columns, {outputs} wanted", y.cols);
    assert!(
        !int.swiglu || matrix.is_whole() && int.norm.is_some(),
        "matmul_int: gate and up in one part, after a norm"
    );
    assert!(!int.swiglu || int.next.is_some(), "matmul_int: swiglu goes with integers out");
    if let Some((_, z)) = int.next {
        assert!(z.cols == outputs && outputs.is_multiple_of(32), "matmul_int: {outputs} outputs, z has {}", z.cols);
        assert!(tokens <= z.rows, "matmul_int: {tokens} tokens, z holds {}", z.rows);
        assert!(int.swiglu || int.norm.is_none(), "matmul_int: integers out go with a plain product or SwiGLU");
    }
    let (columns, cols) = columns(tokens);
    for part in &matrix.parts {
        let mut defines = vec![format_name(part.dtype), columns];
        defines.extend((part.dtype == DType::Q6K).then_some("HALVES"));
        defines.extend(int.norm.map(|_| "NORM"));
        let part_outputs = if int.swiglu { part.rows / 2 } else { part.rows };
        let (gain, z) = int.next.unzip();
        let gain = gain.flatten();
        let params = params::MatmulInt {
            blocks: x.blocks() as u32,
            rows: part.rows as u32,
            tokens: tokens as u32,
            y_stride: y.stride as u32,
            y_offset: part.first_row as u32,
            z_blocks: z.map_or(0, |z| z.blocks() as u32),
            flags: u32::from(int.add) | u32::from(gain.is_some()) << 1,
            eps: int.norm.unwrap_or(0.0),
        };
        let mut buffers = vec![&part.w, &part.s, &x.buffer, &y.buffer];
        let mut outputs_a_group = 2;
        if let Some(z) = z {
            assert!(part.first_row.is_multiple_of(32), "matmul_int: a part begins within a block");
            buffers.extend([gain.unwrap_or(&part.s), &z.buffer]);
            // A block of outputs a workgroup. Many teams wait for less each; few share what they read of x, which counts with SwiGLU,
            // whose teams have two rows an output, and with several tokens.
            let many = gpu.facts().max_invocations >= 1024 && !int.swiglu && cols == 1;
            defines.extend(if many { ["TEAMS=32", "OUTS=1"] } else { ["TEAMS=8", "OUTS=4"] });
            defines.extend(int.swiglu.then_some("SWIGLU"));
            defines.push("QUANT");
            outputs_a_group = 32;
        } else {
            defines.extend(["TEAMS=1", "OUTS=2"]);
        }
        let groups = [part_outputs.div_ceil(outputs_a_group), tokens.div_ceil(cols), 1];
        recording.dispatch(gpu, ("matmul_int", &defines), params, &buffers, groups);
    }
}

/// How many tokens a workgroup takes: the fewest passes over the weights, then the fewest idle columns.
fn columns(tokens: usize) -> (&'static str, usize) {
    match tokens {
        0..=1 => ("COLS=1", 1),
        2 => ("COLS=2", 2),
        3..=4 | 7..=8 | 11..=12 | 16 => ("COLS=4", 4),
        _ => ("COLS=5", 5),
    }
}
