//! Promise: training computes what PyTorch and peft compute, and a run that was killed goes on as if it had not been. Golden: golden/training.py.

#[path = "common/training.rs"]
mod training;

use std::{collections::BTreeMap, path::Path};

use selfrag::{
    platform::block_on,
    tokenizer::{ReflectionTokens, Tokenizer, reflection::NAMES},
    train::{
        AdamW, AdamWConfig, Base, Batch, Begin, Checkpoints, Gradients, Key, Layout, LoraConfig, LossMean, NewRows,
        Pieces, Place, Projection, Schedule, Settings, TrainConfig, Trainee, Trainer, checkpoint_of, clip_factor,
        joined, norm, run, scaled,
    },
    weights::{open, read_values},
};
use serde_json::json;
use training::{Scratch, Tensor, assert_close, counted, golden, golden_batch, read_safetensors, tiny_run, vector};

const ALL: Pieces = Pieces { segment: usize::MAX, loss_chunk: usize::MAX };

/// The golden's model with its first parameters.
fn golden_trainee(name: &str, place: &Place, dropout: f64) -> (Trainee, Vec<Tensor>, BTreeMap<String, Vec<f64>>) {
    let folder = golden("training").join(name);
    let steps = read_safetensors(&folder.join("steps.safetensors"));
    let weights = open(&folder, None).unwrap();
    let rows = vec![301, 302, 303];
    let base = Base::load(place, weights.as_ref(), &rows, NewRows::Mean, 1).unwrap();
    let lora = LoraConfig { rank: 5, alpha: 10.0, dropout, targets: Projection::ALL.to_vec() };
    let layout = Layout::new(&base.config, &lora, rows, base.tied);
    let mut parameters = base.start(&layout, 1);
    for (slot, parameter) in layout.slots.iter().zip(&mut parameters) {
        let values: Vec<f32> = steps[&format!("start.{}", slot.name)].iter().map(|&v| v as f32).collect();
        if slot.name.contains("token_adapter") {
            assert_eq!(vector(parameter), values, "rows that the base has begin as they are");
        }
        let data = burn::TensorData::new(values, slot.shape);
        *parameter = Tensor::from_data(data, (&parameter.device(), parameter.dtype()));
    }
    (Trainee { base, lora, layout }, parameters, steps)
}

#[test]
fn three_steps_are_those_of_pytorch_and_peft() {
    for name in ["tied", "untied"] {
        let (trainee, mut parameters, steps) = golden_trainee(name, &Place::cpu(), 0.0);
        let mut optimizer = AdamW::new(AdamWConfig { weight_decay: 0.01, ..AdamWConfig::default() }, &parameters);
        for step in 0..3 {
            let mut sums = Gradients::new(&trainee.layout);
            for micro in 0..2 {
                let batch = golden_batch(&steps, step, micro);
                let n = counted(&batch) as f64;
                let pieces = Pieces { segment: 1, loss_chunk: 7 };
                let loss = trainee.add_gradients(&parameters, &batch, 0.5 / n, None, pieces, &mut sums);
                let loss = f64::from(loss.into_scalar::<f32>()) / n;
                assert_close(
                    &format!("{name} loss {step}.{micro}"),
                    &[loss as f32],
                    &[steps["loss"][step * 2 + micro]],
                    1e-5,
                );
            }
            let gradients = sums.into_tensors(&parameters);
            let found = norm(&gradients).unwrap();
            assert_close(&format!("{name} norm {step}"), &[found as f32], &[steps["norm"][step]], 1e-5);
            if step == 0 {
                for (slot, gradient) in trainee.layout.slots.iter().zip(&gradients) {
                    let expected = &steps[&format!("gradient.{}", slot.name)];
                    assert_close(&format!("{name} gradient of {}", slot.name), &vector(gradient), expected, 1e-5);
                }
            }
            let rate = 1e-2 * Schedule::Linear.factor(step as u64, 1, 5);
            assert_close("rate", &[rate as f32], &[steps["rate"][step]], 1e-7);
            optimizer.step(&mut parameters, scaled(joined(gradients), clip_factor(found, 0.5)), rate);
        }
        for (slot, parameter) in trainee.layout.slots.iter().zip(&parameters) {
            assert_close(
                &format!("{name} {}", slot.name),
                &vector(parameter),
                &steps[&format!("end.{}", slot.name)],
                1e-5,
            );
        }
    }
}

#[test]
fn segments_give_the_whole_graphs_gradients() {
    for (name, place, tolerance) in [("tied", Place::cpu_f64(), 1e-9), ("untied", Place::cpu(), 1e-5)] {
        let (trainee, parameters, steps) = golden_trainee(name, &place, 0.3);
        let batch = golden_batch(&steps, 0, 1);
        let key = Some(Key::new(&[5, 3]));
        let double = |tensor: &Tensor| -> Vec<f64> { tensor.try_to_vec_as::<f64>().unwrap() };
        let mut whole = Gradients::new(&trainee.layout);
        let loss = trainee.add_gradients_whole(&parameters, &batch, 0.25, key, &mut whole).into_scalar::<f64>();
        let whole = whole.into_tensors(&parameters);
        for pieces in [Pieces { segment: 1, loss_chunk: 4 }, Pieces { segment: 2, loss_chunk: 1 }, ALL] {
            let mut sums = Gradients::new(&trainee.layout);
            let found = trainee.add_gradients(&parameters, &batch, 0.25, key, pieces, &mut sums).into_scalar::<f64>();
            assert!((found - loss).abs() < tolerance * loss, "{found} {loss}");
            for ((slot, found), expected) in trainee.layout.slots.iter().zip(sums.into_tensors(&parameters)).zip(&whole)
            {
                for (found, expected) in double(&found).iter().zip(double(expected)) {
                    let error = (found - expected).abs() / expected.abs().max(1.0);
                    assert!(error < tolerance, "{name} {} {pieces:?}: {found} {expected}", slot.name);
                }
            }
        }
        let mut other = Gradients::new(&trainee.layout);
        let loss_of_other = trainee.add_gradients(&parameters, &batch, 0.25, Some(Key::new(&[6])), ALL, &mut other);
        assert!((loss_of_other.into_scalar::<f64>() - loss).abs() > 1e-3, "dropout does something");
    }
}

/// Central differences of the whole loss in f64, for some values of every trained matrix.
#[test]
fn gradients_of_the_model_are_derivatives() {
    const H: f64 = 1e-5;
    let place = Place::cpu_f64();
    let (trainee, parameters, steps) = golden_trainee("tied", &place, 0.2);
    let batch = golden_batch(&steps, 1, 0);
    let key = Some(Key::new(&[8]));
    let mut sums = Gradients::new(&trainee.layout);
    trainee.add_gradients(&parameters, &batch, 1.0, key, Pieces { segment: 1, loss_chunk: 5 }, &mut sums);
    let gradients = sums.into_tensors(&parameters);
    for (slot, gradient) in gradients.iter().enumerate() {
        let gradient = gradient.try_to_vec_as::<f64>().unwrap();
        for at in [0, gradient.len() / 2, gradient.len() - 1] {
            let moved = |by: f64| {
                let mut parameters = parameters.clone();
                let mut values = parameters[slot].try_to_vec_as::<f64>().unwrap();
                values[at] += by;
                let data = burn::TensorData::new(values, parameters[slot].dims());
                parameters[slot] = Tensor::from_data(data, (&parameters[slot].device(), parameters[slot].dtype()));
                trainee.whole_loss(&parameters, &batch, key).into_scalar::<f64>()
            };
            let expected = (moved(H) - moved(-H)) / (2.0 * H);
            let name = &trainee.layout.slots[slot].name;
            let error = (gradient[at] - expected).abs() / expected.abs().max(1.0);
            assert!(error < 1e-6, "{name} value {at}: {} found, {expected} expected", gradient[at]);
        }
    }
}

/// Rows beside each other, the shorter ones padded, give the sum of what each gives alone.
#[test]
fn padding_changes_nothing() {
    let (trainee, parameters, steps) = golden_trainee("tied", &Place::cpu_f64(), 0.0);
    let whole = golden_batch(&steps, 0, 0);
    let rows: Vec<(&[u32], &[bool])> =
        [0..11, 11..18, 22..30].map(|range| (&whole.ids[range.clone()], &whole.trained[range])).into();
    let gradients = |batch: &Batch| {
        let mut sums = Gradients::new(&trainee.layout);
        let loss = trainee.add_gradients(&parameters, batch, 1.0, None, ALL, &mut sums).into_scalar::<f64>();
        (loss, sums.into_tensors(&parameters))
    };
    let (loss, together) = gradients(&Batch::new(&rows, 303, 16));
    let alone: Vec<_> = rows.iter().map(|row| gradients(&Batch::new(&[*row], 0, 0))).collect();
    assert!((loss - alone.iter().map(|(loss, _)| loss).sum::<f64>()).abs() < 1e-9);
    for (slot, together) in together.iter().enumerate() {
        let sum = alone.iter().map(|(_, gradients)| gradients[slot].clone()).reduce(|a, b| a + b).unwrap();
        let most = (together.clone() - sum).abs().max().into_scalar::<f64>();
        assert!(most < 1e-9, "{}: {most}", trainee.layout.slots[slot].name);
    }
}

/// Promise: kill it after any step; what goes on is the run that was never killed, bit by bit.
#[test]
fn a_killed_run_goes_on_bit_by_bit() {
    let scratch = Scratch::new("resume");
    let config = tiny_run(&scratch, json!({"keep": 0, "save_every": 1, "output": scratch.0.join("whole")}));
    let mut whole = Trainer::new(config, None).unwrap();
    let mut steps = Vec::new();
    run(&mut whole, &mut |step, _| steps.push(step.clone())).unwrap();
    assert_eq!(steps.len(), 6);
    let expected = whole.parameters().unwrap();
    for killed_at in [1, 3, 5] {
        let out = scratch.0.join(format!("killed-{killed_at}"));
        let config = tiny_run(&scratch, json!({"keep": 0, "save_every": 1, "output": out}));
        let mut first = Trainer::new(config.clone(), None).unwrap();
        for step in &steps[..killed_at] {
            assert_eq!(first.step().unwrap(), *step);
        }
        let saved = first.save().unwrap();
        // What a kill while writing the next leaves behind.
        std::fs::create_dir(out.join(format!(".step-{:07}.part", killed_at + 1))).unwrap();
        // And while removing one.
        std::fs::create_dir(out.join(".old")).unwrap();
        drop(first);
        assert!(checkpoint_of(&config, &Begin::New).unwrap_err().to_string().contains("--resume"));
        let checkpoint = checkpoint_of(&config, &Begin::Newest).unwrap().unwrap();
        assert_eq!(checkpoint, saved);
        let mut second = Trainer::new(config.clone(), Some(&checkpoint)).unwrap();
        let mut after = Vec::new();
        let last = run(&mut second, &mut |step, _| after.push(step.clone())).unwrap();
        assert_eq!(after, steps[killed_at..]);
        // Nothing is left to do for it once more, and nothing is touched.
        std::fs::write(last.join("mark"), "").unwrap();
        let mut third = Trainer::new(config, Some(&last)).unwrap();
        assert_eq!(run(&mut third, &mut |step, _| panic!("{step:?}")).unwrap(), last);
        std::fs::remove_file(last.join("mark")).expect("the checkpoint is the one that was there");
        let bits = |values: Vec<Vec<f32>>| values.into_iter().flatten().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(second.parameters().unwrap()), bits(expected.clone()));
        let file = |folder: &Path, name: &str| std::fs::read(folder.join(name)).unwrap();
        for name in ["adapter_model.safetensors", "optimizer.safetensors", "state.json", "adapter_config.json"] {
            assert!(file(&last, name) == file(&scratch.0.join("whole/step-0000006"), name), "{name}");
        }
    }
}

#[test]
fn checkpoints_are_adapters_that_merge() {
    let scratch = Scratch::new("merge");
    let config = tiny_run(&scratch, json!({"max_steps": 5, "keep": 2}));
    let mut trainer = Trainer::new(config.clone(), None).unwrap();
    assert_eq!((trainer.census().used, trainer.census().broken), (10, 0));
    let last = run(&mut trainer, &mut |_, _| ()).unwrap();
    let kept: Vec<u64> = Checkpoints::open(&config.output).unwrap().list().unwrap().into_keys().collect();
    assert_eq!(kept, [4, 5]);
    let log = std::fs::read_to_string(config.output.join("log.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 5);

    let (base, merged) = (open(&config.model, None).unwrap(), open(&config.model, Some(&last)).unwrap());
    let tokenizer = Tokenizer::from_metadata("merged", merged.metadata()).unwrap();
    let first = Tokenizer::from_metadata("base", base.metadata()).unwrap().vocab_size();
    assert_eq!(tokenizer.vocab_size(), first + 16);
    assert_eq!(ReflectionTokens::find(&tokenizer).unwrap().no_retrieval as usize, first);
    assert_eq!(tokenizer.id(NAMES[14]), Some(first as u32 + 14));
    assert_eq!(tokenizer.id("<pad>"), Some(first as u32 + 15));

    let adapter = read_safetensors(&last.join("adapter_model.safetensors"));
    let values = |weights: &dyn selfrag::weights::Weights, name: &str| {
        let tensor = weights.tensor(name).unwrap().clone();
        block_on(read_values(weights, &tensor, 0, tensor.matrix().0)).unwrap()
    };
    let rows = &adapter["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"];
    let embedding = values(merged.as_ref(), "token_embd.weight");
    assert_close("new rows", &embedding[first * 24..], rows, 1e-7);
    let (before, after) =
        (values(base.as_ref(), "blk.1.ffn_down.weight"), values(merged.as_ref(), "blk.1.ffn_down.weight"));
    let [a, b] =
        ["A", "B"].map(|half| &adapter[&format!("base_model.model.model.layers.1.mlp.down_proj.lora_{half}.weight")]);
    let product = |row: usize, col: usize| (0..3).map(|r| b[row * 3 + r] * a[r * 40 + col]).sum::<f64>();
    let expected: Vec<f64> = (0..24 * 40).map(|at| f64::from(before[at]) + 2.0 * product(at / 40, at % 40)).collect();
    assert_close("merged", &after, &expected, 1e-6);
    assert!(b.iter().any(|&value| value != 0.0));
}

#[test]
fn rows_are_learned() {
    let scratch = Scratch::new("learned");
    let over = json!({"max_steps": 60, "learning_rate": 0.03, "lora": {"rank": 8, "alpha": 16.0, "dropout": 0.0}});
    let mut trainer = Trainer::new(tiny_run(&scratch, over), None).unwrap();
    let losses: Vec<f64> = (0..60).map(|_| trainer.step().unwrap().loss).collect();
    let last = losses[56..].iter().sum::<f64>() / 4.0;
    assert!(losses[0] > 6.0 && last < losses[0] / 3.0, "{losses:?}");
}

/// Products in 16 bits learn the same, to some 11 bits (with a scaled loss) or 8 (bf16).
#[test]
fn sixteen_bits_follow_f32() {
    let scratch = Scratch::new("16bit");
    let losses = |precision: &str| {
        let over = json!({"precision": precision, "output": scratch.0.join(precision), "max_steps": 4});
        let mut trainer = Trainer::new(tiny_run(&scratch, over), None).unwrap();
        (0..4).map(|_| trainer.step().unwrap()).collect::<Vec<_>>()
    };
    let exact = losses("f32");
    for precision in ["f16", "bf16"] {
        for (exact, half) in exact.iter().zip(losses(precision)) {
            assert_ne!(exact.loss, half.loss, "{precision} was not taken");
            assert!((exact.loss - half.loss).abs() < 0.01 * exact.loss, "{precision} {exact:?} {half:?}");
            assert!(
                (exact.grad_norm - half.grad_norm).abs() < 0.05 * exact.grad_norm,
                "{precision} {exact:?} {half:?}"
            );
        }
    }
}

#[test]
fn going_on_from_an_earlier_checkpoint_sets_the_later_ones_aside() {
    let scratch = Scratch::new("aside");
    let config = tiny_run(&scratch, json!({"max_steps": 4, "keep": 0, "save_every": 1}));
    let last = run(&mut Trainer::new(config.clone(), None).unwrap(), &mut |_, _| ()).unwrap();
    for set_aside in ["step-0000004.set-aside", "step-0000004.set-aside-1"] {
        std::fs::write(last.join(set_aside), "").unwrap();
        let second = last.with_file_name("step-0000002");
        let mut trainer = Trainer::new(config.clone(), Some(&second)).unwrap();
        let found = run(&mut trainer, &mut |step, _| assert!(step.step > 2)).unwrap();
        assert_eq!(found, last);
        assert!(!last.join(set_aside).exists() && last.with_file_name(set_aside).join(set_aside).exists());
    }
    assert_eq!(checkpoint_of(&config, &Begin::Newest).unwrap().unwrap(), last);
}

/// From `selfrag train` to peft and back (golden/handover.py): what each computes with the other's adapter.
#[test]
fn adapters_go_to_peft_and_come_back() {
    let folder = golden("handover");
    let scratch = Scratch::new("handover");
    let config = |adapter: &Path, lora: serde_json::Value| {
        let settings = json!({
            "model": folder.join("base"), "data": folder.join("rows.jsonl"), "output": scratch.0.join("out"), "adapter": adapter,
            "max_length": 160, "lora": lora,
        });
        TrainConfig::read(None, &Settings::new(), settings.as_object().unwrap()).unwrap()
    };
    let tensors = read_safetensors(&folder.join("batch.safetensors"));
    let ids: Vec<u32> = tensors["ids"].iter().map(|&id| id as u32).collect();
    let trained = tensors["labels"].iter().map(|&label| label >= 0.0).collect();
    let batch = Batch { rows: 3, length: ids.len() / 3, ids, trained };
    for name in ["ours", "theirs"] {
        let run = config(&folder.join(name), json!({"rank": 3, "alpha": 6.0, "dropout": 0.0}));
        let values = Trainer::new(run.clone(), None).unwrap().parameters().unwrap();
        let adapter = std::fs::read(folder.join(name).join("adapter_config.json")).unwrap();
        let adapter: serde_json::Value = serde_json::from_slice(&adapter).unwrap();
        let rows: Vec<u32> = serde_json::from_value(adapter["trainable_token_indices"].clone()).unwrap();
        let merged = open(&run.model, Some(&folder.join(name))).unwrap();
        let table = merged.tensor("token_embd.weight").unwrap();
        let new = block_on(read_values(merged.as_ref(), table, rows[0] as usize, rows.len())).unwrap();
        assert_eq!(&new, values.last().unwrap(), "{name}: merging finds the same rows");
        assert!(merged.tensor("output.weight").is_none(), "{name}: a tied head stays tied");
        let weights = open(&run.model, None).unwrap();
        let base = Base::load(&Place::cpu(), weights.as_ref(), &rows, NewRows::Mean, 1).unwrap();
        let layout = Layout::new(&base.config, &run.lora, rows, base.tied);
        let mut parameters = base.start(&layout, 1);
        for (parameter, values) in parameters.iter_mut().zip(values) {
            let data = burn::TensorData::new(values, parameter.dims());
            *parameter = Tensor::from_data(data, (&parameter.device(), parameter.dtype()));
        }
        let loss = Trainee { base, lora: run.lora, layout }.whole_loss(&parameters, &batch, None);
        assert_close(name, &[loss.into_scalar::<f32>() / counted(&batch) as f32], &tensors[name], 1e-5);
    }
    let error = |adapter: &Path, lora| Trainer::new(config(adapter, lora), None).err().unwrap().to_string();
    let theirs = folder.join("theirs");
    let found = error(&theirs, json!({"rank": 4, "alpha": 6.0, "dropout": 0.0}));
    assert!(found.contains("adapter_config.json: r: 3 found, 4 expected"), "{found}");
    let found = error(&theirs, json!({"rank": 3, "alpha": 6.0, "dropout": 0.0, "targets": ["q_proj"]}));
    assert!(found.contains("target_modules: ") && found.contains("[\"q_proj\"] expected"), "{found}");
    // The same ids in another order: the rows would be other tokens'.
    let swapped = scratch.0.join("swapped");
    std::fs::create_dir(&swapped).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors", "added_tokens.json"] {
        std::fs::copy(folder.join("ours").join(file), swapped.join(file)).unwrap();
    }
    let tokens = std::fs::read_to_string(swapped.join("added_tokens.json")).unwrap();
    let tokens =
        tokens.replace("[Relevant]", "[-]").replace("[Irrelevant]", "[Relevant]").replace("[-]", "[Irrelevant]");
    std::fs::write(swapped.join("added_tokens.json"), tokens).unwrap();
    let found = error(&swapped, json!({"rank": 3, "alpha": 6.0, "dropout": 0.0}));
    assert!(found.contains("added_tokens.json: tokens: \"[Irrelevant]\" is token"), "{found}");
    let config = std::fs::read_to_string(swapped.join("adapter_config.json")).unwrap();
    let config = config.replace("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]");
    std::fs::write(swapped.join("adapter_config.json"), config).unwrap();
    let found = error(&swapped, json!({"rank": 3, "alpha": 6.0, "dropout": 0.0}));
    assert!(found.contains("modules_to_save: [\"lm_head\"] found, nothing expected"), "{found}");
    let found = error(&golden("tiny_peft/adapter"), json!({"rank": 4, "alpha": 8.0, "dropout": 0.0}));
    assert!(found.contains("trainable_token_indices: "), "{found}");
}

#[test]
fn bad_settings_and_data_are_named() {
    let scratch = Scratch::new("bad");
    let config = tiny_run(&scratch, json!({}));
    let fails = |config: &TrainConfig, checkpoint: Option<&Path>, part: &str| {
        let error = Trainer::new(config.clone(), checkpoint).err().expect(part).to_string();
        assert!(error.contains(part), "{error}\n{part}");
    };
    fails(&TrainConfig { end_token: Some("<end>".into()), ..config.clone() }, None, "setting end_token: \"<end>\"");
    fails(&TrainConfig { max_length: 300, ..config.clone() }, None, "made for 256 tokens");
    fails(&TrainConfig { model: "/nowhere".into(), ..config.clone() }, None, "/nowhere");
    fails(&TrainConfig { max_length: 2, ..config.clone() }, None, "none of 10 can be trained on");
    #[cfg(not(feature = "training-vulkan"))]
    fails(&TrainConfig { backend: selfrag::train::Backend::Vulkan, ..config.clone() }, None, "training-vulkan");
    #[cfg(not(feature = "training-cuda"))]
    fails(&TrainConfig { backend: selfrag::train::Backend::Cuda, ..config.clone() }, None, "training-cuda");
    let bf16 = TrainConfig { precision: selfrag::train::Precision::Bf16, ..config.clone() };
    fails(&TrainConfig { backend: selfrag::train::Backend::Vulkan, ..bf16 }, None, "setting precision");
    let rows = scratch.0.join("bad.jsonl");
    std::fs::write(&rows, "{\"instruction\": \"i\"}\n{\"instruction\": \"i\", \"output\": \"o\"}\n").unwrap();
    let trainer = Trainer::new(TrainConfig { data: rows.clone(), ..config.clone() }, None).unwrap();
    assert_eq!((trainer.census().used, trainer.census().broken), (1, 1));
    assert!(trainer.census().first_broken[0].contains("line 1: missing field `output`"));
    std::fs::write(&rows, "{\"instruction\": \"i\"}\n").unwrap();
    fails(&TrainConfig { data: rows.clone(), ..config.clone() }, None, "none of 1 can be trained on");

    let mut trainer = Trainer::new(config.clone(), None).unwrap();
    trainer.step().unwrap();
    let saved = trainer.save().unwrap();
    fails(
        &TrainConfig { learning_rate: 0.5, ..config.clone() },
        Some(&saved),
        "settings.learning_rate: 0.01 when the run began, 0.5 now",
    );
    fails(&TrainConfig { loss_mean: LossMean::Tokens, ..config.clone() }, Some(&saved), "settings.loss_mean");
    std::fs::write(&rows, "{\"instruction\": \"i\", \"output\": \"o\"}\n").unwrap();
    fails(&TrainConfig { data: rows, ..config.clone() }, Some(&saved), "another data");
    let adapter = saved.join("adapter_model.safetensors");
    let bytes = std::fs::read(&adapter).unwrap();
    std::fs::write(&adapter, &bytes[..bytes.len() / 2]).unwrap();
    fails(&config, Some(&saved), "adapter_model.safetensors");
    std::fs::remove_file(saved.join("state.json")).unwrap();
    fails(&config, Some(&saved), "state.json");
    let infinite = TrainConfig { learning_rate: 1e30, warmup_ratio: 0.0, ..config };
    let mut trainer = Trainer::new(infinite, None).unwrap();
    let error = (0..6).find_map(|_| trainer.step().err()).expect("such a rate cannot work").to_string();
    assert!(error.contains("setting learning_rate: step"), "{error}");
}
