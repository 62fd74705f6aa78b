// Exact search: inner products of stored vectors, in f16 or in bytes with one scale a row, with a question in f32.
// Vectors are stored column-major by words, (words, rows), so that the invocations of a workgroup, one a row, read neighbouring
// words: each byte is read once, and the scan runs at the memory's speed. No reduction, so no subgroups.

struct Params {
    words: u32,      // of a row: 2 values each in f16, 4 in int8
    rows: u32,
    x_stride: u32,   // in f32
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> codes: array<u32>;        // (words, rows)
@group(0) @binding(2) var<storage, read> scales: array<f32>;       // (rows); int8 only
@group(0) @binding(3) var<storage, read> x: array<f32>;            // (questions, x_stride), zeros after the last value
@group(0) @binding(4) var<storage, read_write> y: array<f32>;      // (questions, y_stride)

// Workgroup (64 rows, question).
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = group.x * 64u + local;
    if row >= params.rows {
        return;
    }
    let question = group.y * params.x_stride;
    var sum = 0.0;
    for (var word = 0u; word < params.words; word++) {
        let code = codes[word * params.rows + row];
#ifdef INT8
        let i = question + word * 4u;
        let bytes = vec4<i32>(bitcast<i32>(code << 24u), bitcast<i32>(code << 16u), bitcast<i32>(code << 8u), bitcast<i32>(code));
        sum += dot(vec4<f32>(bytes >> vec4<u32>(24u)), vec4<f32>(x[i], x[i + 1u], x[i + 2u], x[i + 3u]));
#else
        let i = question + word * 2u;
        sum += dot(unpack2x16float(code), vec2<f32>(x[i], x[i + 1u]));
#endif
    }
#ifdef INT8
    sum *= scales[row];
#endif
    y[group.y * params.y_stride + row] = sum;
}
