//! Promise: a model takes the GPU memory that its file says, and answers leave nothing behind.

use selfrag::{
    Result,
    bench::{Geometry, RandomLlama},
    generator::{
        Generator,
        llama::{Llama, LlamaOptions},
    },
    gpu::{Gpu, Options},
    platform::block_on,
    weights::DType,
};

fn gpu() -> Gpu {
    block_on(Gpu::open(Options::default())).expect("the tests need a GPU; lavapipe will do")
}

fn load(gpu: &Gpu, dtype: DType) -> (RandomLlama, Llama) {
    let weights = RandomLlama::new(Geometry { layers: 1, vocabulary: 512, ..Geometry::TINY }, dtype);
    let options = LlamaOptions { kv_tokens: Some(512), max_rows: Some(64), ..LlamaOptions::default() };
    let llama = block_on(Llama::load(gpu, &weights, options, &mut |_| {})).expect("the model loads");
    (weights, llama)
}

/// A prompt, three passages after it, a few tokens for each.
async fn answer(llama: &mut Llama, number: usize) -> Result<()> {
    // Watched tokens change with the question's model, and prompts differ in length.
    llama.watch(&[1, 2, 3][..1 + number % 3]);
    let root = llama.start()?;
    llama.forward(&[(root, (0..20 + number as u32 % 17).collect())]).await?;
    let passages = (0..3).map(|_| llama.fork(root)).collect::<Result<Vec<_>>>()?;
    let batch: Vec<_> = passages.iter().map(|seq| (*seq, vec![5, 6, 7, 8, 9])).collect();
    let mut next: Vec<u32> = llama.forward(&batch).await?.iter().map(|output| output.token).collect();
    for _ in 0..3 {
        let batch: Vec<_> = passages.iter().zip(&next).map(|(seq, token)| (*seq, vec![*token])).collect();
        next = llama.forward(&batch).await?.iter().map(|output| output.token).collect();
    }
    passages.iter().chain([&root]).for_each(|seq| llama.free(*seq));
    Ok(())
}

#[test]
fn a_hundred_answers_leave_nothing_behind() {
    let gpu = gpu();
    let before = gpu.allocated_bytes();
    let (_, mut llama) = load(&gpu, DType::Q4_0);
    let free = llama.free_tokens();
    // Whatever is made with the first questions stays.
    let mut bytes = [0; 2];
    let mut reserved = [None; 2];
    for (i, answers) in [0..12, 12..102].into_iter().enumerate() {
        for number in answers {
            block_on(answer(&mut llama, number)).expect("an answer");
        }
        llama.watch(&[1]);
        block_on(gpu.flush()).unwrap();
        (bytes[i], reserved[i]) = (gpu.allocated_bytes(), gpu.reserved_bytes());
    }
    assert_eq!(bytes[0], bytes[1]);
    assert!(reserved[1] <= reserved[0], "{reserved:?} bytes asked of the driver");
    assert_eq!(llama.free_tokens(), free);
    drop(llama);
    assert_eq!(gpu.allocated_bytes(), before, "a model that goes gives everything back");
}

#[test]
fn weights_take_what_the_file_says() {
    let gpu = gpu();
    for (dtype, most) in
        [(DType::Q4_0, 1.03), (DType::Q8_0, 1.03), (DType::F16, 1.03), (DType::Q4K, 1.15), (DType::Q6K, 1.15)]
    {
        let (weights, llama) = load(&gpu, dtype);
        let loaded = llama.loaded();
        assert_eq!(loaded.file_bytes, weights.bytes());
        let ratio = loaded.gpu_bytes as f64 / loaded.file_bytes as f64;
        assert!((1.0..=most).contains(&ratio), "{dtype:?}: {ratio}");
        // Keys and values of one layer, 512 tokens, one head of 64, in f16.
        assert_eq!(llama.cache_bytes(), 512 * 64 * 2 * 2);
    }
}
