// Blocks of five words: four of nibbles, one of fifth bits.
#import blocks/block
@group(0) @binding(1) var<storage, read> w: array<u32>;  // (rows, blocks, 5)

fn five_block(row: u32, block: u32, d: f32, m: f32) -> Block {
    let at = (row * params.blocks + block) * 5u;
    let words = vec4<u32>(w[at], w[at + 1u], w[at + 2u], w[at + 3u]);
    let bits = w[at + 4u];
    return Block(
        even_nibbles(words) | even_fifths(bits),
        odd_nibbles(words) | odd_fifths(bits),
        vec2<f32>(d),
        vec2<f32>(m),
    );
}
