// q5_1: w = d · q + m.
#import blocks/fives
@group(0) @binding(2) var<storage, read> s: array<u32>;  // (rows, blocks): d and m

fn load_block(row: u32, block: u32) -> Block {
    let dm = unpack2x16float(s[row * params.blocks + block]);
    return five_block(row, block, dm.x, dm.y);
}
