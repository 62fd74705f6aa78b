//! Promise: the engine's Llama gives transformers' logits, whatever the way there: token by token, in one pass, in a batch, as a
//! fork of a shared prefix, and in every weight format.

mod common;

use common::{Golden, gpu, relative_error};
use selfrag::{
    Result,
    generator::{
        Generator, SeqId,
        llama::{Llama, LlamaOptions, StepPlan},
        sampler::Sampling,
    },
    ops::self_test::{FORMATS, Random},
    platform::block_on,
    weights::{
        self, DType, Weights,
        convert::{FileType, convert},
    },
};

fn load(weights: &dyn Weights, options: LlamaOptions) -> Llama {
    block_on(Llama::load(&gpu(), weights, options, &mut |_| {})).expect("the model loads")
}

/// Logits after the last token, from one pass over all of them.
async fn prefill(llama: &mut Llama, tokens: &[u32]) -> Result<Vec<f32>> {
    let seq = llama.start()?;
    llama.forward(&[(seq, tokens.to_vec())]).await?;
    llama.free(seq);
    llama.last_logits().await
}

async fn greedy(llama: &mut Llama, tokens: &[u32], count: usize) -> Result<Vec<u32>> {
    let seq = llama.start()?;
    let mut next = llama.forward(&[(seq, tokens.to_vec())]).await?[0].token;
    let mut out = vec![next];
    while out.len() < count {
        next = llama.forward(&[(seq, vec![next])]).await?[0].token;
        out.push(next);
    }
    llama.free(seq);
    Ok(out)
}

/// Decode and prefill against transformers at every position and at the last, and greedy text.
fn check_model(folder: &str) {
    let golden = Golden::read(folder);
    let weights = weights::open(&golden.folder, None).expect("the folder opens");
    // Rounding keys and values to f16 costs these small models (heads of 8 and 10) a little over 1e-3.
    for (max_rows, kv_f32, fuse, tolerance) in
        [(256, true, false, 3e-4), (256, true, true, 3e-4), (7, true, true, 3e-4), (256, false, false, 3e-3)]
    {
        let options = LlamaOptions {
            max_rows: Some(max_rows),
            kv_f32,
            plan: Some(StepPlan { fuse_norm: fuse, integers: false, wide_attention: fuse }),
            ..Default::default()
        };
        let mut llama = load(&*weights, options);
        let vocabulary = llama.config().vocabulary;
        let expected = golden.logits(vocabulary);
        let found = block_on(llama.all_logits(&golden.tokens)).expect("decode");
        for (position, (f, e)) in found.chunks(vocabulary).zip(expected.chunks(vocabulary)).enumerate() {
            let error = relative_error(f, e);
            assert!(error < tolerance, "{folder}: logits at position {position} are off by {error}");
        }
        let last = block_on(prefill(&mut llama, &golden.tokens)).expect("prefill");
        let error = relative_error(&last, &expected[expected.len() - vocabulary..]);
        assert!(error < tolerance, "{folder}: prefill in passes of {max_rows} rows is off by {error}");
        let text = block_on(greedy(&mut llama, &golden.tokens, golden.greedy.len())).expect("greedy");
        assert_eq!(text, golden.greedy, "{folder}: greedy tokens");
    }
}

#[test]
fn tiny_llama_with_tied_head() {
    check_model("tiny_llama/tied");
}

#[test]
fn tiny_llama_with_its_own_head_in_bf16() {
    check_model("tiny_llama/untied");
}

#[test]
fn stories260k() {
    check_model("stories260k");
}

/// Everything that ends a step begun ahead, with the step's outputs on the way: other tokens than the most likely, other sequences,
/// forks, a sequence that ends, a prompt in between.
async fn zigzag(llama: &mut Llama, prompt: &[u32]) -> Result<Vec<(u32, f32)>> {
    let mut out = Vec::new();
    let root = llama.start()?;
    let first = llama.forward(&[(root, prompt.to_vec())]).await?[0].token;
    let mut seqs = vec![llama.fork(root)?, llama.fork(root)?, llama.fork(root)?];
    let mut next: Vec<u32> = vec![first, first + 1, first + 2];
    for step in 0..24 {
        let batch: Vec<_> = seqs.iter().zip(&next).map(|(seq, token)| (*seq, vec![*token])).collect();
        let outputs = llama.forward(&batch).await?;
        out.extend(outputs.iter().map(|output| (output.token, output.logprob)));
        next = outputs.iter().map(|output| output.token).collect();
        match step {
            5 => next[1] = next[1].wrapping_add(1) % 100,
            9 => seqs.push(llama.fork(seqs[0])?),
            13 => llama.free(seqs.remove(0)),
            17 => out.extend(llama.forward(&[(seqs[1], prompt.to_vec())]).await?.iter().map(|o| (o.token, o.logprob))),
            _ => {}
        }
        match step {
            9 => next.push(next[0]),
            13 => drop(next.remove(0)),
            _ => {}
        }
    }
    let free = llama.free_tokens();
    seqs.iter().chain([&root]).for_each(|seq| llama.free(*seq));
    assert!(llama.free_tokens() > free, "all pages came back");
    out.push((llama.free_tokens() as u32, 0.0));
    Ok(out)
}

/// Tuning tries every choice that matters to the model and leaves it as good as it was: the same text, all of the cache free.
#[test]
fn tuning_changes_no_answer() {
    let golden = Golden::read("stories260k");
    let weights = weights::open(&golden.folder, None).expect("the folder opens");
    let mut llama = load(&*weights, LlamaOptions::default());
    let (free, usual) = (llama.free_tokens(), llama.plan());
    let tuned = block_on(llama.tune()).expect("it is tuned");
    assert_eq!(tuned.tried[0].0, usual, "the usual plan comes first");
    assert_eq!(tuned.tried.len(), 3, "its floats leave no choice of integers");
    let best = tuned.tried.iter().find(|(plan, _)| *plan == tuned.plan).expect("what was chosen was tried");
    assert!(tuned.tried.iter().all(|(_, ms)| *ms > 0.0 && best.1 <= *ms * 1.04), "{tuned:?}");
    assert_eq!((llama.plan(), llama.free_tokens()), (tuned.plan, free));
    let text = block_on(greedy(&mut llama, &golden.tokens, golden.greedy.len())).expect("greedy");
    assert_eq!(text, golden.greedy);
    assert_eq!(load(&*weights, LlamaOptions::default()).tuning_key(), llama.tuning_key());

    // Without room for the steps nothing is tried.
    let mut small = load(&*weights, LlamaOptions { kv_tokens: Some(64), ..Default::default() });
    assert!(block_on(small.tune()).expect("nothing to do").tried.is_empty());
}

#[test]
fn looking_ahead_changes_no_output() {
    let golden = Golden::read("tiny_llama/tied");
    let weights = weights::open(&golden.folder, None).expect("the folder opens");
    let run = |look_ahead| {
        let mut llama = load(&*weights, LlamaOptions { look_ahead: Some(look_ahead), ..Default::default() });
        let text = block_on(greedy(&mut llama, &golden.tokens, golden.greedy.len())).expect("greedy");
        assert_eq!(text, golden.greedy, "greedy tokens, ahead {look_ahead}");
        block_on(zigzag(&mut llama, &golden.tokens)).expect("zigzag")
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn torch_shards_with_a_peft_adapter() {
    let golden = Golden::read("tiny_peft");
    let weights = weights::open(&golden.folder.join("base"), Some(&golden.folder.join("adapter"))).expect("opens");
    let mut llama = load(&*weights, LlamaOptions { kv_f32: true, ..Default::default() });
    let vocabulary = llama.config().vocabulary;
    let found = block_on(llama.all_logits(&golden.tokens)).expect("decode");
    let error = relative_error(&found, &golden.logits(vocabulary));
    assert!(error < 1e-3, "logits of the merged model are off by {error}");
}

#[test]
fn smollm2() {
    let golden = Golden::read("smollm2/base.json");
    let weights = weights::open(&common::model("SmolLM2-135M-Instruct.Q4_1.gguf"), None).expect("opens");
    let mut llama = load(
        &*weights,
        LlamaOptions {
            plan: Some(StepPlan { fuse_norm: false, integers: true, wide_attention: false }),
            ..Default::default()
        },
    );
    let logits = block_on(prefill(&mut llama, &golden.tokens)).expect("prefill");
    golden.check_sampled_logits(&logits, 1e-3);
    assert_eq!(block_on(greedy(&mut llama, &golden.tokens, golden.greedy.len())).expect("greedy"), golden.greedy);
}

/// SmolLM2 as `selfrag convert` writes it in each format, against transformers over the same file's values. Its rows of 576 are not whole
/// blocks of the K formats, whose rules give those tensors another; the 30 of 1,536 columns are truly theirs, as the golden counts.
#[test]
fn smollm2_in_every_format() {
    let all = Golden::read("smollm2/formats.json");
    let source = weights::open(&common::model("SmolLM2-135M-Instruct.Q4_1.gguf"), None).expect("opens");
    let scratch = common::Scratch::new("formats");
    for dtype in FORMATS {
        let (name, golden) = (dtype.name(), all.part(dtype.name()));
        let file = scratch.0.join(format!("{name}.gguf"));
        let file_type = FileType::from_name(name).expect("every format has a file type");
        convert(&*source, &file, file_type, None, &mut |_, _| {}).expect("the model converts");
        assert_eq!(
            common::sha256(&file),
            golden.json["sha256"].as_str().expect("a hash"),
            "{name}: the converter writes another file than the golden was made from. If that is meant, make \
             tests/golden/smollm2/formats.json anew (tests/golden/README.md): this says nothing about the kernels"
        );
        let weights = weights::open(&file, None).expect("opens");
        let n_tensors = weights.tensors().iter().filter(|tensor| tensor.dtype == dtype).count();
        assert_eq!(
            Some(n_tensors as u64),
            golden.json["tensors"][name].as_u64(),
            "{name}: tensors in the format itself"
        );
        let mut llama = load(&*weights, LlamaOptions { kv_tokens: Some(64), max_rows: Some(24), ..Default::default() });
        // Alone its 6 rows go through the kernel for few tokens, with two others beside it through the one for many. That one takes a software
        // device half a minute: one format of each kind does, and `kernels.rs` has them all.
        let three: Vec<_> = (0..3).map(|_| (llama.start().expect("a sequence"), all.tokens.clone())).collect();
        let alone = [(llama.start().expect("a sequence"), all.tokens.clone())];
        let many = [DType::F16, DType::Q4_0, DType::Q4K].contains(&dtype);
        for batch in [&three[..], &alone].into_iter().skip(usize::from(!many)) {
            let first = block_on(llama.forward(batch)).expect("prefill").remove(0).token;
            let error = golden.check_sampled_logits(&block_on(llama.last_logits()).expect("logits"), 1e-3);
            println!("{name}, batch of {}: off by {error:.1e}", batch.len());
            assert_eq!(first, golden.greedy[0], "{name}: first greedy token in a batch of {}", batch.len());
        }
        for (step, tokens) in golden.greedy.windows(2).enumerate() {
            let next = block_on(llama.forward(&[(alone[0].0, vec![tokens[0]])])).expect("decode").remove(0).token;
            assert_eq!(next, tokens[1], "{name}: greedy token {}", step + 1);
        }
        std::fs::remove_file(&file).expect("half a gigabyte goes before the next comes");
    }
}

/// N sequences over one prefix, decoded as one batch of unequal lengths, against N runs of their own.
#[test]
fn a_batch_of_forks_equals_single_runs() {
    let golden = Golden::read("stories260k");
    let weights = weights::open(&golden.folder, None).expect("the folder opens");
    let mut llama = load(&*weights, LlamaOptions { max_rows: Some(19), ..Default::default() });
    let watch = [3, 300, 511];
    llama.watch(&watch);
    for seed in 0..4 {
        let mut random = Random::new(seed);
        let mut tokens = |count| -> Vec<u32> { (0..count).map(|_| random.pick(3..=511) as u32).collect() };
        let prefix = tokens(5 + 9 * seed as usize);
        let tails: Vec<Vec<u32>> = (1..=6).map(|i| tokens(i * i % 23 + 1)).collect();
        let steps: Vec<Vec<u32>> = (0..6).map(|_| tokens(4)).collect();

        let root = llama.start().unwrap();
        block_on(llama.forward(&[(root, prefix.clone())])).unwrap();
        let forks: Vec<SeqId> = tails.iter().map(|_| llama.fork(root).unwrap()).collect();
        let mut batch: Vec<_> = forks.iter().zip(&tails).map(|(f, t)| (*f, t.clone())).collect();
        let mut together = vec![block_on(llama.forward(&batch)).unwrap()];
        for step in 0..4 {
            batch = forks.iter().zip(&steps).map(|(f, s)| (*f, vec![s[step]])).collect();
            together.push(block_on(llama.forward(&batch)).unwrap());
        }
        forks.iter().chain([&root]).for_each(|seq| llama.free(*seq));

        for (i, (tail, own)) in tails.iter().zip(&steps).enumerate() {
            let seq = llama.start().unwrap();
            let mut fed = [prefix.clone(), tail.clone()].concat();
            for (step, outputs) in together.iter().enumerate() {
                let alone = block_on(llama.forward(&[(seq, std::mem::take(&mut fed))])).unwrap().remove(0);
                let found = [&[outputs[i].logprob], outputs[i].watched.as_slice()].concat();
                let expected = [&[alone.logprob], alone.watched.as_slice()].concat();
                let error = relative_error(&found, &expected);
                assert!(error < 1e-4, "seed {seed}, fork {i}, step {step}: off by {error}");
                assert_eq!(outputs[i].token, alone.token, "seed {seed}, fork {i}, step {step}");
                fed = own.get(step).map(|t| vec![*t]).unwrap_or_default();
            }
            llama.free(seq);
        }
        assert_eq!(llama.free_tokens(), 16_384, "seed {seed}: every page came back");
    }
}

/// Four sequences from one prompt, decoded as one batch: tokens and log-probabilities.
async fn sampled(llama: &mut Llama, prompt: &[u32], sampling: Sampling) -> Result<Vec<Vec<(u32, f32)>>> {
    llama.set_sampling(sampling)?;
    let seqs: Vec<SeqId> = (0..4).map(|_| llama.start()).collect::<Result<_>>()?;
    let mut batch: Vec<_> = seqs.iter().map(|seq| (*seq, prompt.to_vec())).collect();
    let mut texts = vec![Vec::new(); seqs.len()];
    for _ in 0..12 {
        let outputs = llama.forward(&batch).await?;
        for ((text, entry), output) in texts.iter_mut().zip(&mut batch).zip(outputs) {
            text.push((output.token, output.logprob));
            entry.1 = vec![output.token];
        }
    }
    seqs.iter().for_each(|seq| llama.free(*seq));
    Ok(texts)
}

#[test]
fn sampling_is_greedy_at_temperature_zero_and_repeats_with_its_seed() {
    let golden = Golden::read("tiny_llama/tied");
    let weights = weights::open(&golden.folder, None).expect("the folder opens");
    // Passes of 5 rows cut the prompts: their outputs come from several passes.
    let mut llama = load(&*weights, LlamaOptions { kv_f32: true, max_rows: Some(5), ..Default::default() });
    let never_set = block_on(greedy(&mut llama, &golden.tokens, 12)).expect("greedy");
    let mut run = |sampling| block_on(sampled(&mut llama, &golden.tokens, sampling)).expect("a run");
    let warm = Sampling { temperature: 1.0, top_p: 0.95, seed: 11 };
    let first = run(warm);
    for text in run(Sampling { temperature: 0.0, ..warm }) {
        let tokens: Vec<u32> = text.iter().map(|(token, _)| *token).collect();
        assert_eq!(tokens, never_set, "temperature 0, after a run at temperature 1");
    }
    assert_eq!(run(warm), first, "a seed repeats");
    assert_ne!(run(Sampling { seed: 12, ..warm }), first, "another seed");
    assert!(first.iter().any(|text| text != &first[0]), "each sequence draws for itself");
    // The log-probability is the model's own: the tokens fed again, unsampled, watched.
    for text in &first {
        let seq = llama.start().expect("a sequence");
        llama.set_sampling(Sampling::GREEDY).expect("greedy");
        let mut fed = golden.tokens.clone();
        for (step, (token, logprob)) in text.iter().enumerate() {
            llama.watch(&[*token]);
            let expected =
                block_on(llama.forward(&[(seq, std::mem::replace(&mut fed, vec![*token]))])).unwrap()[0].watched[0];
            assert!((logprob - expected).abs() < 1e-3, "step {step}: {logprob} found, {expected} expected");
        }
        llama.free(seq);
    }
    let error = llama.set_sampling(Sampling { top_p: 0.0, ..warm }).unwrap_err();
    assert!(error.to_string().contains("top_p"), "{error}");
}

#[test]
fn token_ids_and_lengths_out_of_range_are_errors() {
    let golden = Golden::read("tiny_llama/tied");
    let weights = weights::open(&golden.folder, None).expect("the folder opens");
    let mut llama = load(&*weights, LlamaOptions { kv_tokens: Some(32), ..Default::default() });
    let seq = llama.start().unwrap();
    let error = block_on(llama.forward(&[(seq, vec![307])])).unwrap_err();
    assert!(error.to_string().contains("307"), "{error}");
    let error = block_on(llama.forward(&[(seq, vec![1; 33])])).unwrap_err();
    assert!(error.to_string().contains("33 tokens needed, 32 available"), "{error}");
}
