// A block of 32 weights as integers: w = d · q + m, with d and m for either half of the block.
// `even` has the weights 8g, 8g + 2, 8g + 4, 8g + 6 as the bytes of its g-th word, `odd` those between.
struct Block {
    even: vec4<u32>,
    odd: vec4<u32>,
    d: vec2<f32>,
    m: vec2<f32>,
}

// Eight nibbles a word: every second one.
fn even_nibbles(words: vec4<u32>) -> vec4<u32> {
    return words & vec4<u32>(0x0f0f0f0fu);
}

fn odd_nibbles(words: vec4<u32>) -> vec4<u32> {
    return (words >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
}

// The 32 fifth bits of a block, at their places in `even` and `odd`: bit 4 of each byte.
fn even_fifths(bits: u32) -> vec4<u32> {
    let g = vec4<u32>(bits) >> vec4<u32>(0u, 8u, 16u, 24u);
    return ((g & vec4<u32>(1u)) << vec4<u32>(4u)) | ((g & vec4<u32>(4u)) << vec4<u32>(10u))
        | ((g & vec4<u32>(16u)) << vec4<u32>(16u)) | ((g & vec4<u32>(64u)) << vec4<u32>(22u));
}

fn odd_fifths(bits: u32) -> vec4<u32> {
    return even_fifths(bits >> 1u);
}
