//! Promise: full fine-tuning computes what PyTorch computes, goes on after a kill bit by bit, and its checkpoints are models. Golden: golden/training.py.

#[path = "common/training.rs"]
mod training;

use selfrag::{
    platform::block_on,
    tokenizer::{Tokenizer, reflection::NAMES},
    train::{
        AdamW, AdamWConfig, Base, Gradients, Layout, LoraConfig, NewRows, Pieces, Place, Schedule, Trainee, Trainer,
        clip_factor, joined, norm, run, scaled,
    },
    weights::{open, read_values},
};
use serde_json::json;
use training::{Scratch, Tensor, assert_close, counted, golden, golden_batch, read_safetensors, tiny_run, vector};

/// The golden's model, every weight a parameter.
fn whole(name: &str, place: &Place) -> (Trainee, Vec<Tensor>) {
    let weights = open(&golden("training").join(name), None).unwrap();
    let (base, parameters) = Base::load_whole(place, weights.as_ref(), &[301, 302, 303], NewRows::Mean, 1).unwrap();
    let layout = Layout::whole(&base.config, base.columns(), base.tied);
    (Trainee { base, lora: LoraConfig { targets: Vec::new(), ..LoraConfig::default() }, layout }, parameters)
}

#[test]
fn three_steps_of_all_weights_are_those_of_pytorch() {
    for name in ["tied", "untied"] {
        let folder = golden("training").join(name);
        let (steps, full) =
            (read_safetensors(&folder.join("steps.safetensors")), read_safetensors(&folder.join("full.safetensors")));
        let (trainee, mut parameters) = whole(name, &Place::cpu());
        let mut optimizer = AdamW::new(AdamWConfig { weight_decay: 0.01, ..AdamWConfig::default() }, &parameters);
        for step in 0..3 {
            let mut sums = Gradients::new(&trainee.layout);
            for micro in 0..2 {
                let batch = golden_batch(&steps, step, micro);
                let n = counted(&batch) as f64;
                let pieces = Pieces { segment: 1, loss_chunk: 7 };
                let loss = trainee.add_gradients(&parameters, &batch, 0.5 / n, None, pieces, &mut sums);
                let loss = (f64::from(loss.into_scalar::<f32>()) / n) as f32;
                assert_close(&format!("{name} loss {step}.{micro}"), &[loss], &[full["loss"][step * 2 + micro]], 1e-5);
            }
            let gradients = sums.into_tensors(&parameters);
            let found = norm(&gradients).unwrap();
            assert_close(&format!("{name} norm {step}"), &[found as f32], &[full["norm"][step]], 1e-5);
            if step == 0 {
                for (slot, gradient) in trainee.layout.slots.iter().zip(&gradients) {
                    let expected = &full[&format!("gradient.{}", slot.name)];
                    assert_close(&format!("{name} gradient of {}", slot.name), &vector(gradient), expected, 1e-5);
                }
            }
            let rate = 1e-2 * Schedule::Linear.factor(step as u64, 1, 5);
            optimizer.step(&mut parameters, scaled(joined(gradients), clip_factor(found, 0.5)), rate);
        }
        assert_eq!(full.keys().filter(|key| key.starts_with("end.")).count(), trainee.layout.slots.len());
        for (slot, parameter) in trainee.layout.slots.iter().zip(&parameters) {
            let expected = &full[&format!("end.{}", slot.name)];
            assert_close(&format!("{name} {}", slot.name), &vector(parameter), expected, 1e-5);
        }
    }
}

#[test]
fn segments_give_the_whole_graphs_gradients_of_all_weights() {
    for (name, place, tolerance) in [("tied", Place::cpu_f64(), 1e-9), ("untied", Place::cpu(), 1e-5)] {
        let steps = read_safetensors(&golden("training").join(name).join("steps.safetensors"));
        let (trainee, parameters) = whole(name, &place);
        let batch = golden_batch(&steps, 0, 1);
        let double = |tensor: &Tensor| -> Vec<f64> { tensor.try_to_vec_as::<f64>().unwrap() };
        let mut all = Gradients::new(&trainee.layout);
        let loss = trainee.add_gradients_whole(&parameters, &batch, 0.25, None, &mut all).into_scalar::<f64>();
        let all = all.into_tensors(&parameters);
        for (segment, loss_chunk) in [(1, 4), (2, 1), (usize::MAX, usize::MAX)] {
            let (pieces, mut sums) = (Pieces { segment, loss_chunk }, Gradients::new(&trainee.layout));
            let found = trainee.add_gradients(&parameters, &batch, 0.25, None, pieces, &mut sums).into_scalar::<f64>();
            assert!((found - loss).abs() < tolerance * loss, "{found} {loss}");
            for ((slot, found), expected) in trainee.layout.slots.iter().zip(sums.into_tensors(&parameters)).zip(&all) {
                let expected = double(expected);
                assert!(expected.iter().any(|&value| value != 0.0), "{} has a gradient", slot.name);
                for (found, expected) in double(&found).iter().zip(expected) {
                    let error = (found - expected).abs() / expected.abs().max(1.0);
                    assert!(error < tolerance, "{name} {} {pieces:?}: {found} {expected}", slot.name);
                }
            }
        }
    }
}

#[test]
fn a_killed_run_goes_on_bit_by_bit_and_leaves_a_model() {
    let scratch = Scratch::new("full");
    let over = |out: &str| json!({"method": "full", "save_every": 1, "keep": 0, "max_steps": 4, "output": scratch.0.join(out)});
    let config = tiny_run(&scratch, over("whole"));
    let mut whole = Trainer::new(config.clone(), None).unwrap();
    let last = run(&mut whole, &mut |_, _| ()).unwrap();
    let killed = tiny_run(&scratch, over("killed"));
    let mut first = Trainer::new(killed.clone(), None).unwrap();
    first.step().unwrap();
    first.step().unwrap();
    let saved = first.save().unwrap();
    let resumed = run(&mut Trainer::new(killed.clone(), Some(&saved)).unwrap(), &mut |_, _| ()).unwrap();
    for name in ["model.safetensors", "optimizer.safetensors", "state.json", "config.json", "tokenizer.json"] {
        assert!(std::fs::read(last.join(name)).unwrap() == std::fs::read(resumed.join(name)).unwrap(), "{name}");
    }
    // A run by LoRA is another one, and the reverse.
    let lora =
        tiny_run(&scratch, json!({"save_every": 1, "keep": 0, "max_steps": 4, "output": scratch.0.join("killed")}));
    let error = Trainer::new(lora, Some(&saved)).err().unwrap().to_string();
    assert!(error.contains("settings.method: \"full\" when the run began, unset now"), "{error}");

    // The checkpoint is a model with the trained weights and the enlarged vocabulary.
    let (base, model) = (open(&config.model, None).unwrap(), open(&last, None).unwrap());
    let before = Tokenizer::from_metadata("base", base.metadata()).unwrap();
    let tokenizer = Tokenizer::from_metadata("model", model.metadata()).unwrap();
    assert_eq!(tokenizer.vocab_size(), before.vocab_size() + 16);
    NAMES.iter().zip(before.vocab_size() as u32..).for_each(|(name, id)| assert_eq!(tokenizer.id(name), Some(id)));
    for text in ["who is 3?", "  two  spaces\nand a line", "ünïcode 漢字"] {
        use selfrag::tokenizer::EncodeOptions;
        let encode = |tokenizer: &Tokenizer| tokenizer.encode(text, EncodeOptions::START).unwrap();
        assert_eq!(encode(&tokenizer), encode(&before), "{text}");
    }
    assert_eq!(tokenizer.eos(), before.eos());
    let found = read_safetensors(&last.join("model.safetensors"));
    let table = model.tensor("token_embd.weight").unwrap();
    assert_eq!(table.shape, [before.vocab_size() + 16, 24]);
    let values = block_on(read_values(model.as_ref(), table, 0, table.shape[0])).unwrap();
    assert_close("embedding", &values, &found["model.embed_tokens.weight"], 0.0);
    // All of it was trained.
    let first = base.tensor("token_embd.weight").unwrap();
    let old = block_on(read_values(base.as_ref(), first, 0, first.shape[0])).unwrap();
    assert!(old.iter().zip(&values).any(|(old, new)| old != new));
    for name in ["model.layers.0.self_attn.q_proj", "model.layers.1.input_layernorm", "model.norm"] {
        let values = &found[&format!("{name}.weight")];
        assert!(!values.iter().all(|&value| value == values[0]), "{name}");
    }
    // And the next run's base.
    let next = tiny_run(&scratch, json!({"model": last, "output": scratch.0.join("next"), "max_steps": 1}));
    Trainer::new(next, None).unwrap().step().unwrap();
}

#[test]
fn all_weights_learn_in_f32_and_with_f16_products() {
    let scratch = Scratch::new("full-learns");
    let losses = |precision: &str| -> Vec<f64> {
        let over = json!({
            "method": "full", "precision": precision, "max_steps": 30, "learning_rate": 0.01, "output": scratch.0.join(precision),
        });
        let mut trainer = Trainer::new(tiny_run(&scratch, over), None).unwrap();
        (0..30).map(|_| trainer.step().unwrap().loss).collect()
    };
    let (exact, half) = (losses("f32"), losses("f16"));
    assert!(exact[29] < exact[0] / 3.0, "{exact:?}");
    for (exact, half) in exact.iter().zip(&half).take(4) {
        assert!((exact - half).abs() < 0.01 * exact, "{exact} {half}");
    }
    assert!(half[29] < half[0] / 3.0, "{half:?}");
}
