// Eight consecutive weights of a row, as f32.
struct Weights8 {
    a: vec4<f32>,
    b: vec4<f32>,
}
