// q5_k: as q4_k with a fifth bit.
#import blocks/fives
#import blocks/k_scale

fn load_block(row: u32, block: u32) -> Block {
    let dm = block_dm(row, block);
    return five_block(row, block, dm.x, dm.y);
}
