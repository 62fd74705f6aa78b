// Weights as f32. Row length is padded to a multiple of 8; `params.cols8` is the padded length over 8.
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;  // (rows, cols8, 2)
@group(0) @binding(2) var<storage, read> s: array<u32>;        // unused

fn weights8(row: u32, k8: u32) -> Weights8 {
    let i = (row * params.cols8 + k8) * 2u;
    return Weights8(w[i], w[i + 1u]);
}
