//! Whether a merged model says what base and adapter say apart: logits of fixed prompts, computed on the CPU in f32 by training's forward pass, once
//! as x·Wᵀ + s·(x·Aᵀ)·Bᵀ and once with the merged file's matrices alone. It shares no line with the code that merges.

use std::{collections::BTreeSet, path::Path};

use serde::Deserialize;

use super::{
    checkpoint::{ADAPTER, read_tensors},
    gradients::Trainee,
    lora::{Layout, LoraConfig, NewRows, Projection},
    model::{Base, Batch},
    place::{Place, values},
    run::guarded,
};
use crate::{
    Error, Result,
    platform::FileSource,
    tokenizer::{EncodeOptions, Tokenizer},
    weights::{self, DType, Weights, read_safetensors},
};

/// What the two are asked: plain text, and an answer with every kind of reflection token.
const PROMPTS: [&str; 3] = [
    "### Instruction:\nWhen does overfitting occur?\n\n### Response:\n",
    "### Instruction:\nWho wrote Hamlet?\n\n### Response:\n[Retrieval]<paragraph>Hamlet\nHamlet is a tragedy by William Shakespeare.</paragraph>[Relevant]\
     William Shakespeare wrote it.[Fully supported][Utility:5]",
    "### Instruction:\nSay hello.\n\n### Response:\n[No Retrieval]Hello, world.[Utility:4]",
];

/// How far a merged model's logits are from those of its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Positions that were compared, with all their logits.
    pub positions: usize,
    /// The largest difference over the largest logit.
    pub largest: f64,
    /// Positions at which the likeliest token is another.
    pub other_choice: usize,
    /// What `largest` may be: the rounding of the merged file's type; none for types of fewer than eight bits, where it says nothing about merging.
    pub limit: Option<f64>,
}

/// Compares base and adapter with a merged model; an error when it is further off than its type's rounding explains.
pub fn verify(base: &Path, adapter: Option<&Path>, merged: &Path) -> Result<Difference> {
    guarded(|| {
        let opened = weights::open(merged, None)?;
        let tokenizer = Tokenizer::from_metadata(opened.name(), opened.metadata())?;
        let encode = |text: &&str| tokenizer.encode(text, EncodeOptions::TRUSTED);
        let prompts = PROMPTS.iter().map(encode).collect::<Result<Vec<_>>>()?;
        let expected = {
            let base = weights::open(base, None)?;
            logits(base.as_ref(), adapter, &prompts)?
        };
        let found = logits(opened.as_ref(), None, &prompts)?;
        let matrix = opened.tensor("blk.0.attn_q.weight").map_or(DType::F32, |tensor| tensor.dtype);
        let limit = match matrix {
            DType::F32 => Some(1e-4),
            DType::F16 => Some(1e-2),
            DType::Bf16 | DType::Q8_0 => Some(5e-2),
            _ => None,
        };
        let difference = compare(&expected, &found, limit);
        if let Some(difference) = difference.filter(|d| limit.is_none_or(|limit| d.largest <= limit)) {
            return Ok(difference);
        }
        let problem = match difference {
            None => "not as many logits as base and adapter give".to_owned(),
            Some(d) => format!(
                "logits differ from those of base and adapter by {:.2e} of the largest; {} explains {:.0e}",
                d.largest,
                matrix.name(),
                limit.unwrap_or(0.0)
            ),
        };
        Err(Error::input(merged.display().to_string(), "logits", problem))
    })
}

/// None when they are not of the same shape.
fn compare(expected: &[Vec<f32>], found: &[Vec<f32>], limit: Option<f64>) -> Option<Difference> {
    let mut difference = Difference { positions: expected.len(), largest: 0.0, other_choice: 0, limit };
    if expected.len() != found.len() || expected.iter().zip(found).any(|(a, b)| a.len() != b.len()) {
        return None;
    }
    let size = expected.iter().flatten().fold(1e-6f32, |most, value| most.max(value.abs()));
    let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    for (expected, found) in expected.iter().zip(found) {
        difference.other_choice += usize::from(best(expected) != best(found));
        for (a, b) in expected.iter().zip(found) {
            let error = f64::from((a - b).abs() / size);
            // A NaN is infinitely wrong, not the smaller of two numbers.
            difference.largest = difference.largest.max(if error.is_nan() { f64::INFINITY } else { error });
        }
    }
    Some(difference)
}

/// Logits by position and id, of all prompts.
fn logits(weights: &dyn Weights, adapter: Option<&Path>, prompts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
    let place = Place::cpu();
    let (lora, rows) = match adapter {
        Some(folder) => read_config(folder)?,
        None => (LoraConfig { targets: Vec::new(), ..LoraConfig::default() }, Vec::new()),
    };
    let base = Base::load(&place, weights, &rows, NewRows::Mean, 0)?;
    let layout = Layout::new(&base.config, &lora, rows, base.tied);
    let parameters = match adapter {
        Some(folder) => {
            let path = folder.join(ADAPTER);
            refuse_unknown(&path, &layout)?;
            read_tensors(&path, &layout, "", &place)?
        }
        None => Vec::new(),
    };
    let columns = base.columns.clone();
    let trainee = Trainee { base, lora, layout };
    let mut all = Vec::new();
    for ids in prompts {
        let most = columns.len() as u32;
        if let Some(id) = ids.iter().find(|&&id| id >= most) {
            return Err(Error::input(weights.name(), "token_embd.weight", format!("{most} rows, but a token {id}")));
        }
        let batch = Batch { rows: 1, length: ids.len(), ids: ids.clone(), trained: vec![false; ids.len()] };
        let by_column = values(&trainee.logits(&parameters, &batch))?;
        let by_id = |row: &[f32]| columns.iter().map(|&column| row[column as usize]).collect();
        all.extend(by_column.chunks_exact(columns.len()).map(by_id));
    }
    Ok(all)
}

/// What adapter_config.json says of an adapter that this forward pass can compute apart: LoRA on projections, and trained rows.
fn read_config(folder: &Path) -> Result<(LoraConfig, Vec<u32>)> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Indices {
        Same(Vec<u32>),
        Tables { embed_tokens: Vec<u32> },
    }
    #[derive(Deserialize)]
    struct Config {
        r: usize,
        lora_alpha: f64,
        target_modules: Vec<Projection>,
        #[serde(default)]
        trainable_token_indices: Option<Indices>,
        #[serde(default)]
        use_rslora: bool,
    }
    let path = folder.join("adapter_config.json");
    let name = path.display().to_string();
    let bad = |place: &str, problem: String| Error::input(&name, place, problem);
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&name, e))?;
    let config: Config = serde_json::from_str(&text)
        .map_err(|e| bad("JSON", format!("{e}; --verify knows adapters as `selfrag train` writes them")))?;
    if config.use_rslora {
        return Err(bad("use_rslora", "--verify does not know it".into()));
    }
    let rows = match config.trainable_token_indices {
        None => Vec::new(),
        Some(Indices::Same(rows) | Indices::Tables { embed_tokens: rows }) => rows,
    };
    if !rows.is_sorted_by(|a, b| a < b) {
        return Err(bad("trainable_token_indices", "--verify expects ascending ids".into()));
    }
    let lora = LoraConfig { rank: config.r, alpha: config.lora_alpha, dropout: 0.0, targets: config.target_modules };
    lora.check()?;
    Ok((lora, rows))
}

fn refuse_unknown(path: &Path, layout: &Layout) -> Result<()> {
    let file = FileSource::open(path)?;
    let known: BTreeSet<&str> = layout.slots.iter().map(|slot| slot.name.as_str()).collect();
    match read_safetensors(&file)?.iter().find(|tensor| !known.contains(tensor.name.as_str())) {
        Some(tensor) => {
            Err(Error::input(path.display().to_string(), &tensor.name, "--verify does not know such a tensor"))
        }
        None => Ok(()),
    }
}
