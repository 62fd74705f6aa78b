//! `shaders/matmul_coop_few.wgsl`: matrix product of up to 16 tokens on cooperative matrices.

use super::{Matrix, Tiles, matmul_coop};
use crate::{
    Result,
    gpu::{Buffer, Gpu, Recording, Tensor, params},
};

/// Most tokens: a tile of them.
pub(super) const FEW: usize = 16;

/// Sums of squares of up to 16 rows, in parts of 16 columns: what a RMSNorm divides by.
#[derive(Debug)]
pub struct Squares {
    buffer: Buffer, // (parts, 16)
    parts: usize,
}

impl Squares {
    /// Room for rows of `cols` values.
    pub fn new(gpu: &Gpu, cols: usize) -> Result<Self> {
        let parts = cols.div_ceil(16);
        Ok(Self { buffer: gpu.buffer("squares", (FEW * parts * 4) as u64)?, parts })
    }
}

/// What a product of few tokens takes.
#[derive(Debug, Clone, Copy)]
pub struct FewIn<'a> {
    /// (16, columns of the matrix)
    pub x: &'a Tiles,
    /// Where x is a row times the gain of a RMSNorm, but not yet divided by its root mean square: its squares, and the norm's epsilon.
    pub norm: Option<(&'a Squares, f32)>,
}

/// What becomes of a product of few tokens.
#[derive(Debug, Clone, Copy)]
pub enum FewOut<'a> {
    /// y = W · x, or y += W · x with `add`.
    Plain {
        /// (tokens, rows of the matrix)
        y: &'a Tensor,
        /// To what y holds.
        add: bool,
    },
    /// y += W · x; z = y · gain and its squares, for a [`FewIn::norm`].
    Next {
        /// (tokens, rows of the matrix)
        y: &'a Tensor,
        /// (rows of the matrix)
        gain: &'a Buffer,
        /// (16, rows of the matrix)
        z: &'a Tiles,
        /// Of the new y.
        squares: &'a Squares,
    },
    /// silu(gate) · up, where the matrix is gate, then up, in one part. Only with a [`FewIn::norm`].
    Swiglu(&'a Tiles),
}

/// The product of `matrix` with the first `tokens` rows of x, and what `out` says.
pub fn matmul_coop_few(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    FewIn { x, norm }: FewIn<'_>,
    out: FewOut<'_>,
    tokens: usize,
) {
    assert!(tokens <= FEW, "matmul_coop_few: {tokens} tokens, {FEW} are the most");
    let (y, y_rows, y_cols, y_stride) = match out {
        FewOut::Plain { y, .. } | FewOut::Next { y, .. } => (&y.buffer, y.rows, y.cols, y.stride),
        // A row of z for two of the matrix.
        FewOut::Swiglu(z) => (&z.buffer, z.rows, 2 * z.cols, z.cols),
    };
    matmul_coop::check("matmul_coop_few", gpu, matrix, x, (y_rows, y_cols), (FEW, tokens));
    let mut squares = 0;
    let mut extra: Vec<&Buffer> = Vec::new();
    let mut options: Vec<&str> = Vec::new();
    if let Some((of, _)) = norm {
        assert_eq!(of.parts * 16, matrix.cols, "matmul_coop_few: squares of other rows");
        squares = of.parts;
        extra.push(&of.buffer);
        options.push("NORM");
    }
    match out {
        FewOut::Plain { .. } => {}
        FewOut::Next { gain, z, squares: of, .. } => {
            assert!(norm.is_none(), "matmul_coop_few: no variant has a norm on either side");
            assert!(
                z.cols == matrix.rows && of.parts * 16 == matrix.rows && z.rows >= FEW,
                "matmul_coop_few: z or squares"
            );
            assert!(gain.bytes() >= matrix.rows as u64 * 4, "matmul_coop_few: the gain is too short");
            squares = of.parts;
            extra.extend([gain, &z.buffer, &of.buffer]);
            options.push("NEXT");
        }
        FewOut::Swiglu(z) => {
            assert!(norm.is_some() && matrix.is_whole(), "matmul_coop_few: gate and up take a norm and one part");
            assert!(z.cols * 2 == matrix.rows && z.rows >= FEW, "matmul_coop_few: z is {}×{}", z.rows, z.cols);
            options.push("SWIGLU");
        }
    }
    for part in &matrix.parts {
        let params = params::MatmulCoopFew {
            cols8: matrix.cols as u32 / 8,
            blocks: matrix.cols as u32 / 32,
            rows: part.rows as u32,
            tokens: tokens as u32,
            y_stride: y_stride as u32,
            y_offset: part.first_row as u32,
            flags: u32::from(matches!(out, FewOut::Plain { add: true, .. })),
            squares: squares as u32,
            eps: norm.map_or(0.0, |(_, eps)| eps),
        };
        let mut defines = matmul_coop::defines(part.dtype);
        defines.extend((part.dtype.block_len() > 1).then_some("BLOCKS"));
        defines.extend(&options);
        let mut buffers = vec![&part.w, &part.s, &x.buffer, y];
        buffers.extend(&extra);
        recording.dispatch(gpu, ("matmul_coop_few", &defines), params, &buffers, [part.rows / 16, 1, 1]);
    }
}
