// Numbers below 2^23 as f32, exactly.
fn exact(numbers: vec4<u32>) -> vec4<f32> {
#ifdef SOFTWARE
    return vec4<f32>(numbers);
#else
    // Put into the mantissa of 2^23, which is then taken off: GPUs convert integers at a quarter of the speed of the two operations
    // that this takes, and a 4-bit product is mostly conversion. On a CPU it is the other way round.
    return bitcast<vec4<f32>>(numbers | vec4<u32>(0x4b000000u)) - 8388608.0;
#endif
}
