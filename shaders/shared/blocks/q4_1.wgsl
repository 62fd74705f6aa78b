// q4_1: w = d · q + m.
#import blocks/block
@group(0) @binding(1) var<storage, read> w: array<vec4<u32>>;  // (rows, blocks)
@group(0) @binding(2) var<storage, read> s: array<u32>;        // (rows, blocks): d and m

fn load_block(row: u32, block: u32) -> Block {
    let words = w[row * params.blocks + block];
    let dm = unpack2x16float(s[row * params.blocks + block]);
    return Block(even_nibbles(words), odd_nibbles(words), vec2<f32>(dm.x), vec2<f32>(dm.y));
}
