//! Twin of `shaders/logits_chunk.wgsl`.

/// What is known of one chunk of logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Partial {
    /// Largest logit.
    pub highest: f32,
    /// Σ exp(logit - highest)
    pub sum: f32,
    /// Index of the largest; the lowest of equals.
    pub index: u32,
}

/// The chunks of one row of logits.
pub fn logits_chunk(logits: &[f32], chunk: usize) -> Vec<Partial> {
    let partial = |(c, values): (usize, &[f32])| {
        let mut index = 0;
        for (i, value) in values.iter().enumerate() {
            if *value > values[index] {
                index = i;
            }
        }
        let highest = values[index];
        let sum: f64 = values.iter().map(|v| f64::from(v - highest).exp()).sum();
        Partial { highest, sum: sum as f32, index: (c * chunk + index) as u32 }
    };
    logits.chunks(chunk).enumerate().map(partial).collect()
}
