// Eight 4-bit numbers of a u32, lowest first.
#import weights/exact
fn nibbles_low(bits: u32) -> vec4<u32> {
    return (vec4<u32>(bits) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
}

fn nibbles_high(bits: u32) -> vec4<u32> {
    return nibbles_low(bits >> 16u);
}
