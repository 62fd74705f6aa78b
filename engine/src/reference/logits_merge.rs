//! Twin of `shaders/logits_merge.wgsl`, straight from the logits.

/// Arg-max token (the lowest of equals), its log-probability, and the log-probabilities of the watched tokens.
pub fn logits_merge(logits: &[f32], watch: &[u32]) -> (u32, f32, Vec<f32>) {
    let mut best = 0;
    for (i, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = i;
        }
    }
    let highest = f64::from(logits[best]);
    let log_sum = logits.iter().map(|v| (f64::from(*v) - highest).exp()).sum::<f64>().ln();
    let logprob = |i: usize| (f64::from(logits[i]) - highest - log_sum) as f32;
    (best as u32, logprob(best), watch.iter().map(|w| logprob(*w as usize)).collect())
}
