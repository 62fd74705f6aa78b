// q5_0: w = d · (q - 16).
#import blocks/fives
#import blocks/half_scale

fn load_block(row: u32, block: u32) -> Block {
    let d = half_scale(row, block);
    return five_block(row, block, d, -16.0 * d);
}
