// q4_0: w = d · (q - 8).
#import blocks/block
#import blocks/half_scale
@group(0) @binding(1) var<storage, read> w: array<vec4<u32>>;  // (rows, blocks)

fn load_block(row: u32, block: u32) -> Block {
    let words = w[row * params.blocks + block];
    let d = half_scale(row, block);
    return Block(even_nibbles(words), odd_nibbles(words), vec2<f32>(d), vec2<f32>(-8.0 * d));
}
