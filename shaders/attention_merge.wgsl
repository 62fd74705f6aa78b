// Puts the pieces of `attention_decode` together: each is Σ w · v with its own maximum and sum of weights.
// QUANT: writes the result as integers too, for the product that comes next; heads are then whole blocks of 32.
// TILES: writes the result as f16 in tiles instead, for a product on cooperative matrices; heads are then whole tiles of 16.

struct Params {
    heads: u32,
    head_dim: u32,  // a multiple of 8, at most 256
    splits: u32,    // pieces that a row has room for
    y_stride: u32,
    z_blocks: u32,  // blocks of a row of z
}

struct Row {
    token: u32,
    position: u32,
    sequence: u32,
    slot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<Row>;           // (rows)
@group(0) @binding(2) var<storage, read> pieces: array<vec4<f32>>;   // (rows, heads, splits): maximum and sum, then Σ w · v
#ifdef TILES
@group(0) @binding(3) var<storage, read_write> y: array<vec2<u32>>;  // (rows / 16, y_stride / 16, 16, 4)
#else
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (rows, y_stride / 4)
#endif
#ifdef QUANT
@group(0) @binding(4) var<storage, read_write> z: array<u32>;        // (rows, 5, z_blocks, 4)

var<workgroup> q16_values: array<f32, 256>;
var<workgroup> q16_raw: array<f32, 256>;

#import q16
#endif

const SPAN: u32 = 64u;

// Workgroup (row, head); an invocation has four dimensions.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let count = rows[group.x].position / SPAN + 1u;
    let fours = params.head_dim / 4u;
    let pitch = fours + 1u;
    let base = (group.x * params.heads + group.y) * params.splits * pitch;
    // So many pieces are under way at a time: waiting for one after the other is all that this kernel would do. Past the last: the
    // last again, uncounted.
    var highest = pieces[base].x;
    for (var i = 0u; i < count; i += $AT_ONCEu) {
#for u in 0..$AT_ONCE
        let highest_$u = pieces[base + min(i + $uu, count - 1u) * pitch].x;
#end
#for u in 0..$AT_ONCE
        highest = max(highest, highest_$u);
#end
    }
    if local < fours {
        var sum = 0.0;
        var out = vec4<f32>(0.0);
        for (var i = 0u; i < count; i += $AT_ONCEu) {
#for u in 0..$AT_ONCE
            let at_$u = base + min(i + $uu, count - 1u) * pitch;
            let head_$u = pieces[at_$u];
            let value_$u = pieces[at_$u + 1u + local];
#end
#for u in 0..$AT_ONCE
            let weight_$u = select(0.0, exp(head_$u.x - highest), i + $uu < count);
            sum += weight_$u * head_$u.y;
            out += weight_$u * value_$u;
#end
        }
        out /= sum;
#ifdef TILES
        let col4 = group.y * fours + local;
        let tile = group.x / 16u * (params.y_stride / 16u) + col4 / 4u;
        y[(tile * 16u + group.x % 16u) * 4u + col4 % 4u] = vec2<u32>(pack2x16float(out.xy), pack2x16float(out.zw));
#else
        y[group.x * (params.y_stride / 4u) + group.y * fours + local] = out;
#endif
#ifdef QUANT
        for (var d = 0u; d < 4u; d++) {
            q16_values[local * 4u + d] = out[d];
            q16_raw[local * 4u + d] = 0.0;
        }
#endif
    }
#ifdef QUANT
    workgroupBarrier();
    let blocks = params.head_dim / 32u;
    if local < blocks * 8u {
        let block = group.y * blocks + local / 8u;
        write16(local / 8u * 32u, local % 8u, (group.x * 5u * params.z_blocks + block) * 4u, params.z_blocks * 4u);
    }
#endif
}
