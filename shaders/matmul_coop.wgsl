// Matrix product for many tokens on cooperative matrices (tensor cores): y[t, n] = Σ_k W[n, k] · x[t, k], + y[t, n].
// A workgroup computes 128 rows × 128 tokens, 64 of the inner dimension at a time through workgroup memory (2 × 18 KB); each of its
// 16 subgroups of 32 keeps 2 × 2 tiles of 16 × 16. What comes next is loaded while the tiles are multiplied. Neighbouring
// workgroups share rows of W, so that W is read from memory once and x comes from the cache.
// f16 in, f32 sums: weights of other formats are rounded to f16. Workgroup memory is padded by 16 bytes a row against bank conflicts.
// BIAS: + bias[n] in place of y[t, n]. TILES: y is f16 in tiles as x is, after GELU where asked for; sums cannot be converted where
// they are, so they pass through workgroup memory.
#import weights8

struct Params {
    cols8: u32,     // inner dimension over 8, a multiple of 8
    rows: u32,      // rows of this part of W, a multiple of 16
    tokens: u32,
    y_stride: u32,
    y_offset: u32,  // a multiple of 16
    flags: u32,     // 1: add to y
}

@group(0) @binding(0) var<uniform> params: Params;
#import weights/$FORMAT
#import half8
@group(0) @binding(3) var<storage, read> x: array<Half8>;      // tiles of 16 × 16 (see tiles), whole 128 tokens
#ifdef TILES
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f16>>;  // (tokens to whole 128 / 16, y_stride / 16, 16, 4)
#else
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // (tokens to whole 128, y_stride)
#endif
#ifdef BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>;     // (y_stride)
#endif

const PITCH: u32 = 18u;  // of vec4<f16>: 64 columns and 8 more
var<workgroup> w_tile: array<vec4<f16>, 128u * PITCH>;
var<workgroup> x_tile: array<vec4<f16>, 128u * PITCH>;
#ifdef TILES
var<workgroup> sums: array<f32, 8u * 256u>;
#endif
#ifdef GELU
#import gelu
#endif

@compute @workgroup_size(512)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let team = local / 32u;
    let row0 = group.y * 128u;
    let token0 = group.x * 128u;
    let team_row = team / 4u * 32u;
    let team_token = team % 4u * 32u;
    let y_stride = params.y_stride;
    let y0 = (token0 + team_token) * y_stride + params.y_offset + row0 + team_row;
#ifdef BIAS
    // A stride of 0: each token's column is the same.
    let same = 0u;
#endif
#for m in 0..2
    // Conditions of a subgroup's own are loops of one turn or none: naga takes a branch on them for one that parts invocations.
    let store$m = select(0u, 1u, row0 + team_row + $mu * 16u < params.rows);
    let add$m = select(0u, store$m, (params.flags & 1u) != 0u);
#ifdef BIAS
    let bias$m = coopLoad<coop_mat16x16<f32, C>>(&bias[params.y_offset + min(row0 + team_row + $mu * 16u, params.rows - 16u)], same);
#endif
#for n in 0..2
#ifdef BIAS
    var sum$m_$n = bias$m;
#else
    var sum$m_$n = coop_mat16x16<f32, C>();
#endif
    let to$m_$n = y0 + $nu * 16u * y_stride + $mu * 16u;
#ifndef BIAS
    for (var turn = 0u; turn < add$m; turn++) {
        sum$m_$n = coopLoad<coop_mat16x16<f32, C>>(&y[to$m_$n], y_stride);
    }
#endif
#end
#end
    // Two groups of eight of either operand an invocation. x's tiles lie in the order of the invocations.
#for i in 0..2
    let w_row$i = (local + $iu * 512u) / 8u;
    let w_part$i = local % 8u;
    let w_to$i = w_row$i * PITCH + w_part$i * 2u;
    let from_row$i = min(row0 + w_row$i, params.rows - 1u);
    let x_at$i = local + $iu * 512u;
    let x_to$i = (x_at$i / 128u * 16u + x_at$i / 2u % 16u) * PITCH + (x_at$i / 32u % 4u) * 4u + (x_at$i % 2u) * 2u;
    let x_from$i = ((token0 / 16u + x_at$i / 128u) * (params.cols8 / 2u) + x_at$i / 32u % 4u) * 32u + x_at$i % 32u;
    var next_w$i = half8(from_row$i, w_part$i);
    var next_x$i = x[x_from$i];
#end
    for (var k8 = 0u; k8 < params.cols8; k8 += 8u) {
#for i in 0..2
        w_tile[w_to$i] = next_w$i.a;
        w_tile[w_to$i + 1u] = next_w$i.b;
        x_tile[x_to$i] = next_x$i.a;
        x_tile[x_to$i + 1u] = next_x$i.b;
#end
        workgroupBarrier();
        let ahead = min(k8 + 8u, params.cols8 - 8u);
#for i in 0..2
        next_w$i = half8(from_row$i, ahead + w_part$i);
        next_x$i = x[x_from$i + ahead * 16u];
#end
#for k in 0..4
        {
#for m in 0..2
            let a$m = coopLoadT<coop_mat16x16<f16, A>>(&w_tile[(team_row + $mu * 16u) * PITCH + $ku * 4u], PITCH);
            let b$m = coopLoad<coop_mat16x16<f16, B>>(&x_tile[(team_token + $mu * 16u) * PITCH + $ku * 4u], PITCH);
#end
#for m in 0..2
#for n in 0..2
            sum$m_$n = coopMultiplyAdd(a$m, b$n, sum$m_$n);
#end
#end
        }
#end
        workgroupBarrier();
    }
#ifdef TILES
    // Eight subgroups at a time; an invocation has four rows of a token.
    let part = local / 64u;
    let token = local % 64u / 4u;
#for turn in 0..2
#for m in 0..2
#for n in 0..2
    for (var own = team / 8u; own == $turnu; own += 2u) {
        let stage = team % 8u * 256u;
        coopStore(sum$m_$n, &sums[stage], 16u);
    }
    workgroupBarrier();
    {
        let at = part * 256u + token * 16u + local % 4u * 4u;
        var value = vec4<f32>(sums[at], sums[at + 1u], sums[at + 2u], sums[at + 3u]);
#ifdef GELU
        value = gelu(value);
#endif
        let its_team = $turnu * 8u + part;
        let its_row = row0 + its_team / 4u * 32u + $mu * 16u;
        let tile = ((token0 + its_team % 4u * 32u) / 16u + $nu) * (y_stride / 16u) + (params.y_offset + its_row) / 16u;
        if its_row < params.rows {
            y[(tile * 16u + token) * 4u + local % 4u] = vec4<f16>(value);
        }
    }
    workgroupBarrier();
#end
#end
#end
#else
#for m in 0..2
    for (var turn = 0u; turn < store$m; turn++) {
#for n in 0..2
        coopStore(sum$m_$n, &y[to$m_$n], y_stride);
#end
    }
#end
#endif
}
