//! Twin of `shaders/copy.wgsl`.

/// to ← from, word by word, the first `bytes` of both.
pub fn copy(from: &[u32], to: &mut [u32], bytes: usize) {
    for (to, from) in to.iter_mut().zip(from).take(bytes / 4) {
        *to = *from;
    }
}
