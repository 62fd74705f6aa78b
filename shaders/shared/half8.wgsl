// Eight weights as f16, what cooperative matrices take. RAW: weights that are f16 already go as they are.
struct Half8 {
    a: vec4<f16>,
    b: vec4<f16>,
}

fn half8(row: u32, k8: u32) -> Half8 {
#ifdef RAW
    let at = (row * params.cols8 + k8) * 2u;
    return Half8(w[at], w[at + 1u]);
#else
    let v = weights8(row, k8);
    return Half8(
        vec4<f16>(f16(v.a.x), f16(v.a.y), f16(v.a.z), f16(v.a.w)),
        vec4<f16>(f16(v.b.x), f16(v.b.y), f16(v.b.z), f16(v.b.w)),
    );
#endif
}
