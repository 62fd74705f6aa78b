// Exact search: inner products of stored vectors, in f32, f16 or in bytes with one scale a row, with QUESTIONS questions in f32.
// Rows lie in tiles of 64, a tile by quads (16 bytes of each of its rows), so that the invocations of a workgroup, one a row, read
// neighbouring quads: each byte is read once for all questions. Each invocation has a row of four tiles and reads two quads of
// each: eight loads are under way at a time, and what is read of the questions, the same for all invocations, serves four rows. No
// reduction, so no subgroups.

struct Params {
    quads: u32,      // of a row, an even number: 4 values each in f32, 8 in f16, 16 in int8
    rows: u32,
    tiles: u32,
    x_stride: u32,   // in vec4s
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> codes: array<vec4<u32>>;  // (tiles, quads, 64)
@group(0) @binding(2) var<storage, read> scales: array<f32>;       // (tiles, 64); int8 only
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;      // (QUESTIONS, x_stride), finite to the last quad's end
@group(0) @binding(4) var<storage, read_write> y: array<f32>;      // (QUESTIONS, y_stride)

// Workgroup (four tiles), in two dimensions since one has 65,535 at most.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let first = (group.y * groups.x + group.x) * 4u;
    if first >= params.tiles {
        return;
    }
    // Past the last tile: the last tile again, unwritten.
#for t in 0..4
    let at$t = min(first + $tu, params.tiles - 1u) * params.quads * 64u + local;
#end
#for q in 0..$QUESTIONS
#for t in 0..4
    var sum_$q_$t = 0.0;
#end
#end
    for (var quad = 0u; quad < params.quads; quad += 2u) {
#for u in 0..2
#for t in 0..4
        let code_$u_$t = codes[at$t + (quad + $uu) * 64u];
#end
#end
#for u in 0..2
#ifdef INT8
#for w in 0..4
        {
#for t in 0..4
            let row$t = vec4<f32>(unpack4xI8(code_$u_$t[$w]));
#end
#for q in 0..$QUESTIONS
            let question_$q = x[$qu * params.x_stride + (quad + $uu) * 4u + $wu];
#for t in 0..4
#for i in 0..4
            sum_$q_$t += row$t[$i] * question_$q[$i];
#end
#end
#end
        }
#end
#else
#ifdef F32
        {
#for t in 0..4
            let row$t = bitcast<vec4<f32>>(code_$u_$t);
#end
#for q in 0..$QUESTIONS
            let question_$q = x[$qu * params.x_stride + quad + $uu];
#for t in 0..4
#for i in 0..4
            sum_$q_$t += row$t[$i] * question_$q[$i];
#end
#end
#end
        }
#else
#for w in 0..2
        {
#for t in 0..4
            let row$t = vec4<f32>(unpack2x16float(code_$u_$t[2 * $w]), unpack2x16float(code_$u_$t[2 * $w + 1]));
#end
#for q in 0..$QUESTIONS
            let question_$q = x[$qu * params.x_stride + (quad + $uu) * 2u + $wu];
#for t in 0..4
#for i in 0..4
            sum_$q_$t += row$t[$i] * question_$q[$i];
#end
#end
#end
        }
#end
#endif
#endif
#end
    }
#for t in 0..4
    {
        let row = (first + $tu) * 64u + local;
        if row < params.rows {
#ifdef INT8
            let scale = scales[row];
#else
            let scale = 1.0;
#endif
#for q in 0..$QUESTIONS
            y[$qu * params.y_stride + row] = sum_$q_$t * scale;
#end
        }
    }
#end
}
