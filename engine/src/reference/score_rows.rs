//! Twin of `shaders/score_rows.wgsl`.

/// ⟨row, question⟩ for each question and row; rows are (rows, dim) decoded, questions (questions, dim).
pub fn score_rows(rows: &[f32], questions: &[f32], dim: usize) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
    questions.chunks(dim).flat_map(|question| rows.chunks(dim).map(move |row| dot(row, question))).collect()
}
