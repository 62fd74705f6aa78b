// q4_k: w = d · scale · q - dmin · minimum.
#import blocks/block
#import blocks/k_scale
@group(0) @binding(1) var<storage, read> w: array<vec4<u32>>;  // (rows, blocks)

fn load_block(row: u32, block: u32) -> Block {
    let words = w[row * params.blocks + block];
    let dm = block_dm(row, block);
    return Block(even_nibbles(words), odd_nibbles(words), vec2<f32>(dm.x), vec2<f32>(dm.y));
}
