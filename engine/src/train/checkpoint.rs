//! A run on disk: the adapter as PEFT and `selfrag convert --adapter` read it, and what it takes to go on.
//!
//! | file of `step-0000300/` | holds |
//! | --- | --- |
//! | adapter_config.json, adapter_model.safetensors | the adapter in PEFT's layout, f32, new token rows as `trainable_token_indices` |
//! | tokenizer.json, or added_tokens.json where the base has none | the enlarged vocabulary |
//! | optimizer.safetensors | AdamW's means and squares, f32, as `mean.NAME` and `square.NAME` |
//! | model.safetensors, config.json, tokenizer_config.json | in full fine-tuning instead of the adapter: a Hugging Face folder, f32 |
//! | state.json | [`State`]: step, fingerprints, settings |
//!
//! A folder is written under a temporary name, brought to disk and then renamed: one that has its name is complete.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use burn::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::{
    examples::NewTokens,
    gradients::Trainee,
    lora::{Layout, LoraConfig, Slot},
    place::{Place, values},
};
use crate::{
    Error, Result,
    platform::{ByteSource, FileSource, block_on},
    tokenizer::{Tokenizer, added_token},
    weights::{
        StoredTensor, StoredTensors, Weights, peft, read_folder_json as read_json, read_safetensors, safetensors_header,
    },
};

const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const ADAPTER: &str = "adapter_model.safetensors";
const MODEL: &str = "model.safetensors";

/// Where a run is, and what it must be continued with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Of this file's layout.
    pub version: u32,
    /// Optimizer steps done. Position in the data, learning rate and random numbers follow from it.
    pub step: u64,
    /// Tokens seen, padding left out.
    pub tokens: u64,
    /// What the loss is multiplied with before the backward pass; 1 in f32.
    pub scale: f64,
    /// Steps since that changed.
    pub scale_age: u64,
    /// Of the base's weights.
    pub base: String,
    /// Of the enlarged vocabulary.
    pub tokenizer: String,
    /// SHA-256 of the data (unpacked).
    pub data: String,
    /// The settings that numbers depend on.
    pub settings: serde_json::Map<String, Json>,
}

impl State {
    /// Refuses to go on with anything else; names what differs.
    pub(super) fn check_same(&self, file: &str, now: &Self) -> Result<()> {
        let bad = |place: &str, problem: String| Err(Error::input(file, place, problem));
        if self.version != now.version {
            return bad("version", format!("{}, {} expected", self.version, now.version));
        }
        for (what, before, now) in [
            ("base", &self.base, &now.base),
            ("tokenizer", &self.tokenizer, &now.tokenizer),
            ("data", &self.data, &now.data),
        ] {
            if before != now {
                return bad(what, format!("the run began with another {what} ({before:.12}… then, {now:.12}… now)"));
            }
        }
        let keys: std::collections::BTreeSet<&String> = self.settings.keys().chain(now.settings.keys()).collect();
        for key in keys {
            let (before, now) = (self.settings.get(key), now.settings.get(key));
            if before != now {
                let show = |value: Option<&Json>| value.map_or("unset".to_owned(), Json::to_string);
                return bad(
                    &format!("settings.{key}"),
                    format!("{} when the run began, {} now", show(before), show(now)),
                );
            }
        }
        Ok(())
    }
}

/// What tells two models apart without reading them whole: every tensor's name, type, shape and first row.
pub(super) fn fingerprint(weights: &dyn Weights) -> Result<String> {
    let mut hash = Sha256::new();
    for tensor in weights.tensors() {
        hash.update(format!("{} {} {:?}\n", tensor.name, tensor.dtype.name(), tensor.shape));
        hash.update(block_on(weights.read_rows(tensor, 0, 1))?);
    }
    Ok(hex(&hash.finalize()))
}

/// Of a vocabulary: its tokens in order.
pub(super) fn vocabulary_fingerprint(tokenizer: &Tokenizer) -> String {
    let mut hash = Sha256::new();
    for id in 0..tokenizer.vocab_size() as u32 {
        hash.update(tokenizer.token(id).unwrap_or_default());
        hash.update([0]);
    }
    hex(&hash.finalize())
}

/// Of parameters' values.
pub(super) fn digest(parameters: &[Tensor<2>]) -> Result<String> {
    let mut hash = Sha256::new();
    for parameter in parameters {
        values(parameter)?.iter().for_each(|value| hash.update(value.to_le_bytes()));
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What an adapter's folder says beside its tensors.
#[derive(Debug, Clone)]
pub(super) struct Adapter<'a> {
    pub(super) base_name: &'a str,
    pub(super) layout: &'a Layout,
    pub(super) lora: &'a LoraConfig,
    pub(super) tied: bool,
    pub(super) new_tokens: &'a NewTokens,
    /// The base's tokenizer.json.
    pub(super) tokenizer_json: Option<&'a str>,
    /// Further files of a model's folder: then the weights are a whole model's.
    pub(super) model_files: Option<&'a [(&'static str, Json)]>,
}

impl Adapter<'_> {
    fn config(&self) -> Json {
        let rows = &self.layout.rows;
        let indices = match (rows.is_empty(), self.tied) {
            (true, _) => Json::Null,
            (false, true) => json!(rows),
            (false, false) => json!({"embed_tokens": rows, "lm_head": rows}),
        };
        let targets: Vec<&str> = self.layout.targets().iter().map(|target| target.name()).collect();
        json!({
            "base_model_name_or_path": self.base_name, "bias": "none", "fan_in_fan_out": false, "inference_mode": true,
            "init_lora_weights": true, "lora_alpha": self.lora.alpha, "lora_dropout": self.lora.dropout, "modules_to_save": null,
            "peft_type": "LORA", "r": self.lora.rank, "target_modules": targets, "task_type": "CAUSAL_LM",
            "trainable_token_indices": indices, "use_dora": false, "use_rslora": false,
        })
    }

    /// The vocabulary's file: the base's tokenizer.json with the new tokens, or the new tokens alone.
    fn vocabulary(&self) -> Result<(&'static str, Json)> {
        let added = &self.new_tokens.added;
        let Some(text) = self.tokenizer_json else {
            return Ok(("added_tokens.json", added.iter().map(|(text, id)| (text.clone(), json!(id))).collect()));
        };
        let bad = |problem: String| Error::input(self.base_name, "tokenizer.json", problem);
        let mut tokenizer: Json = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if tokenizer["added_tokens"].is_null() {
            tokenizer["added_tokens"] = json!([]);
        }
        let list =
            tokenizer["added_tokens"].as_array_mut().ok_or_else(|| bad("added_tokens: a list expected".into()))?;
        for (text, id) in added {
            list.retain(|token| token["id"] != json!(id));
            list.push(added_token(*id as usize, text, true));
        }
        Ok(("tokenizer.json", tokenizer))
    }
}

/// Folders of a run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// In the run's output folder, which is made.
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder.display().to_string(), e))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where a step's checkpoint is.
    pub(super) fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:07}"))
    }

    /// The complete checkpoints by step.
    pub fn list(&self) -> Result<BTreeMap<u64, PathBuf>> {
        let io = |e: std::io::Error| Error::io(self.folder.display().to_string(), e);
        let entries = self.folder.read_dir().map_err(io)?.collect::<std::io::Result<Vec<_>>>().map_err(io)?;
        let step = |entry: &std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok();
        Ok(entries.iter().filter_map(|entry| Some((step(entry)?, entry.path()))).collect())
    }

    /// Writes a checkpoint and removes the oldest ones beyond `keep` (0: none).
    pub(super) fn write(
        &self,
        state: &State,
        adapter: &Adapter,
        parameters: &[Tensor<2>],
        moments: [&[Tensor<2>]; 2],
        keep: usize,
    ) -> Result<PathBuf> {
        let path = self.path(state.step);
        let part = self.folder.join(format!(".step-{:07}.part", state.step));
        let io = |path: &Path| {
            let name = path.display().to_string();
            move |e: std::io::Error| Error::io(name, e)
        };
        std::fs::remove_dir_all(&part).or_else(absent_is_fine).map_err(io(&part))?;
        std::fs::create_dir(&part).map_err(io(&part))?;
        let named = |prefix: &'static str, tensors: &'_ [Tensor<2>]| {
            let name = |slot: &Slot| (format!("{prefix}{}", slot.name), slot.stored_shape());
            adapter.layout.slots.iter().map(name).zip(tensors.iter().cloned()).collect::<Vec<_>>()
        };
        write_tensors(&part.join(weights_file(adapter.layout)), &named("", parameters))?;
        let moments = [named("mean.", moments[0]), named("square.", moments[1])].concat();
        write_tensors(&part.join(OPTIMIZER), &moments)?;
        let (vocabulary_name, vocabulary) = adapter.vocabulary()?;
        write_json(&part.join(vocabulary_name), &vocabulary)?;
        match adapter.model_files {
            None => write_json(&part.join("adapter_config.json"), &adapter.config())?,
            Some(files) => files.iter().try_for_each(|(name, json)| write_json(&part.join(name), json))?,
        }
        write_json(&part.join(STATE), &serde_json::to_value(state).expect("plain data"))?;
        sync_folder(&part)?;
        // A folder cannot be renamed onto a full one: the same step's, written before a resume, makes place.
        self.remove(&path)?;
        std::fs::rename(&part, &path).map_err(io(&path))?;
        sync_folder(&self.folder)?;
        let all = self.list()?;
        let superfluous = if keep == 0 { 0 } else { all.len().saturating_sub(keep) };
        for old in all.values().take(superfluous).filter(|old| **old != path) {
            self.remove(old)?;
        }
        Ok(path)
    }

    /// Renames the checkpoints after a step to `step-0000300.set-aside`: nothing goes on from them unasked any more.
    pub(super) fn set_aside_after(&self, step: u64) -> Result<()> {
        for (_, path) in self.list()?.range(step + 1..) {
            let name = |n: usize| {
                let mut name = path.clone().into_os_string();
                name.push(if n == 0 { ".set-aside".to_owned() } else { format!(".set-aside-{n}") });
                PathBuf::from(name)
            };
            let free = (0..).map(name).find(|name| !name.exists()).expect("numbers do not end");
            std::fs::rename(path, free).map_err(|e| Error::io(path.display().to_string(), e))?;
        }
        Ok(())
    }

    /// Removes a checkpoint, if it is there. It loses its name first: what has one is complete whenever the process ends.
    fn remove(&self, path: &Path) -> Result<()> {
        let io = |e: std::io::Error| Error::io(path.display().to_string(), e);
        let old = self.folder.join(".old");
        std::fs::remove_dir_all(&old).or_else(absent_is_fine).map_err(io)?;
        if path.exists() {
            std::fs::rename(path, &old).map_err(io)?;
            std::fs::remove_dir_all(&old).map_err(io)?;
        }
        Ok(())
    }
}

/// What a checkpoint holds: state, parameters, and the optimizer's means and squares.
pub(super) type Held = (State, Vec<Tensor<2>>, [Vec<Tensor<2>>; 2]);

/// Reads a checkpoint.
pub(super) fn read(path: &Path, layout: &Layout, place: &Place) -> Result<Held> {
    let state = read_state(path)?;
    let parameters = read_tensors(&path.join(weights_file(layout)), layout, "", place)?;
    let optimizer = path.join(OPTIMIZER);
    let moments =
        [read_tensors(&optimizer, layout, "mean.", place)?, read_tensors(&optimizer, layout, "square.", place)?];
    Ok((state, parameters, moments))
}

/// The state alone.
pub(super) fn read_state(path: &Path) -> Result<State> {
    let file = path.join(STATE);
    let name = file.display().to_string();
    let text = std::fs::read_to_string(&file).map_err(|e| Error::io(&name, e))?;
    serde_json::from_str(&text).map_err(|e| Error::input(name, "JSON", e.to_string()))
}

fn absent_is_fine(e: std::io::Error) -> std::io::Result<()> {
    if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

/// Brings a folder's entries to disk. Windows has no such call.
fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(|e| Error::io(path.display().to_string(), e))?;
    }
    Ok(())
}

fn write_json(path: &Path, value: &Json) -> Result<()> {
    write_file(path, |file| file.write_all(format!("{value:#}\n").as_bytes()))
}

fn write_file(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let done = File::create(path).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()
    });
    done.map_err(|e| Error::io(path.display().to_string(), e))
}

/// The file of the parameters.
fn weights_file(layout: &Layout) -> &'static str {
    if layout.ends().is_some() { MODEL } else { ADAPTER }
}

/// safetensors, f32; one tensor's values in host memory at a time.
fn write_tensors(path: &Path, tensors: &[((String, Vec<usize>), Tensor<2>)]) -> Result<()> {
    let io = |e: std::io::Error| Error::io(path.display().to_string(), e);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io)?);
    let entry = |((name, shape), _): &((String, Vec<usize>), _)| {
        (name.clone(), "F32", shape.clone(), 4 * shape.iter().product::<usize>())
    };
    file.write_all(&safetensors_header(tensors.iter().map(entry))).map_err(io)?;
    for (_, tensor) in tensors {
        let values = values(tensor)?;
        values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes())).map_err(io)?;
    }
    file.into_inner().map_err(|e| io(e.into_error()))?.sync_all().map_err(io)
}

/// The parameters of a PEFT adapter, from whichever program: it must be of this run's shape, for nothing of it is left out or made up.
pub(super) fn read_adapter(
    folder: &Path,
    trainee: &Trainee,
    new_tokens: &NewTokens,
    place: &Place,
) -> Result<Vec<Tensor<2>>> {
    let (layout, lora) = (&trainee.layout, &trainee.lora);
    let name = folder.join("adapter_config.json").display().to_string();
    let config = read_json(folder, "adapter_config.json")?.ok_or_else(|| Error::input(&name, "file", "missing"))?;
    let expect = |key: &str, same: bool, expected: String| match same {
        true => Ok(()),
        false => Err(Error::input(&name, key, format!("{} found, {expected} expected", config[key]))),
    };
    peft::check_config(&name, &config)?;
    expect("r", config["r"].as_u64() == Some(lora.rank as u64), lora.rank.to_string())?;
    expect("lora_alpha", config["lora_alpha"].as_f64() == Some(lora.alpha), lora.alpha.to_string())?;
    expect("use_rslora", !config["use_rslora"].as_bool().unwrap_or(false), "false".into())?;
    let saved = config["modules_to_save"].as_array().is_none_or(|modules| modules.is_empty());
    expect("modules_to_save", saved, "nothing".into())?;
    for key in ["rank_pattern", "alpha_pattern"] {
        expect(key, config[key].as_object().is_none_or(|patterns| patterns.is_empty()), "nothing".into())?;
    }
    let list = |value: &Json| -> Vec<Json> { value.as_array().cloned().unwrap_or_default() };
    let mut targets = list(&config["target_modules"]);
    targets.sort_by_key(Json::to_string);
    let mut expected: Vec<Json> = layout.targets().iter().map(|target| json!(target.name())).collect();
    expected.sort_by_key(Json::to_string);
    expect("target_modules", targets == expected, json!(expected).to_string())?;
    let rows = &config["trainable_token_indices"];
    let mut tables = rows.as_object().map_or(vec![list(rows)], |tables| tables.values().map(list).collect());
    let rows: Vec<Json> = layout.rows.iter().map(|row| json!(row)).collect();
    tables.retain(|table| *table != rows);
    expect("trainable_token_indices", tables.is_empty(), json!(rows).to_string())?;

    same_tokens(folder, new_tokens)?;

    let stored = StoredTensors::open(folder, "adapter_model", "adapter_model")?;
    let file = folder.display().to_string();
    // peft saves the whole table unasked when the vocabulary has grown; rows that were trained have a tensor of their own.
    let untrained = |name: &str| ["embed_tokens", "lm_head"].iter().any(|table| name.contains(table));
    let mut others = stored.tensors.iter().filter(|(_, t)| layout.slots.iter().all(|slot| slot.name != t.name));
    if let Some((_, tensor)) = others.find(|(_, tensor)| !untrained(&tensor.name)) {
        return Err(Error::input(file, &tensor.name, "this run trains no such tensor"));
    }
    let tensor = |slot: &Slot| {
        let found = stored.tensors.iter().find(|(_, tensor)| tensor.name == slot.name);
        let (number, found) = found.ok_or_else(|| Error::input(&file, &slot.name, "missing"))?;
        values_of(found, &stored.files[*number], slot, place)
    };
    layout.slots.iter().map(tensor).collect()
}

/// Where an adapter's folder says which tokens the rows are, they must be this run's: ids alone are the same in any order.
fn same_tokens(folder: &Path, new_tokens: &NewTokens) -> Result<()> {
    let mut said: Vec<(&'static str, String, Json)> = Vec::new();
    if let Some(Json::Object(tokens)) = read_json(folder, "added_tokens.json")? {
        said.extend(tokens.into_iter().map(|(text, id)| ("added_tokens.json", text, id)));
    }
    if let Some(tokenizer) = read_json(folder, "tokenizer.json")? {
        let tokens = tokenizer["added_tokens"].as_array().cloned().unwrap_or_default();
        let pair = |token: Json| Some(("tokenizer.json", token["content"].as_str()?.to_owned(), token["id"].clone()));
        said.extend(tokens.into_iter().filter_map(pair));
    }
    for (file, text, id) in said {
        let ours = new_tokens.added.iter().find(|(ours, at)| *ours == text || id == json!(at));
        if let Some((ours, at)) = ours.filter(|(ours, at)| *ours != text || id != json!(at)) {
            let problem = format!("{text:?} is token {id}, in this run token {at} is {ours:?}");
            return Err(Error::input(folder.join(file).display().to_string(), "tokens", problem));
        }
    }
    Ok(())
}

/// A stored tensor as a slot's parameter.
fn values_of(found: &StoredTensor, file: &FileSource, slot: &Slot, place: &Place) -> Result<Tensor<2>> {
    if found.shape != slot.stored_shape() {
        let problem = format!("shape {:?}, {:?} expected", found.shape, slot.stored_shape());
        return Err(Error::input(file.name(), &slot.name, problem));
    }
    Ok(place.tensor(block_on(found.read_values(file, 0, slot.shape[0]))?, slot.shape))
}

pub(super) fn read_tensors(path: &Path, layout: &Layout, prefix: &str, place: &Place) -> Result<Vec<Tensor<2>>> {
    let file = FileSource::open(path)?;
    let name = path.display().to_string();
    let table = read_safetensors(&file)?;
    let tensor = |slot: &Slot| {
        let wanted = format!("{prefix}{}", slot.name);
        let found = table.iter().find(|tensor| tensor.name == wanted);
        let found = found.ok_or_else(|| Error::input(&name, &wanted, "missing"))?;
        values_of(found, &file, slot, place)
    };
    layout.slots.iter().map(tensor).collect()
}
