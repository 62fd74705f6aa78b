// q8_0: w = d · q, q in -128..127.
#import blocks/block
#import blocks/half_scale
@group(0) @binding(1) var<storage, read> w: array<vec4<u32>>;  // (rows, blocks, 2): even and odd bytes of each group of eight

fn load_block(row: u32, block: u32) -> Block {
    let at = (row * params.blocks + block) * 2u;
    let first = w[at];
    let second = w[at + 1u];
    return Block(
        vec4<u32>(first.xz, second.xz),
        vec4<u32>(first.yw, second.yw),
        vec2<f32>(half_scale(row, block)),
        vec2<f32>(0.0),
    );
}
