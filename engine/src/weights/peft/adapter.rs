//! A PEFT adapter's folder: adapter_config.json and the tensors, sorted by the base tensor that each changes.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use serde_json::Value as Json;

use crate::{
    Error, Result,
    platform::{ByteSource, FileSource},
    weights::{
        folder::{self, StoredTensors},
        names::Family,
        stored::StoredTensor,
    },
};

/// A tensor and the number of its file.
pub(super) type Located = (usize, StoredTensor);

/// lora_A and lora_B by module and whether it is an embedding, while the file is being sorted.
type Halves = BTreeMap<(String, bool), (Option<Located>, Option<Located>)>;

/// What the adapter does to one base tensor, in the order in which it is done.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The whole tensor is replaced (`modules_to_save`, saved embeddings).
    pub(super) replacement: Option<Located>,
    /// A: (r, cols) · B: (rows, r) · added as scale·B·A.
    pub(super) lora: Option<(Located, Located, f32)>,
    /// The same for an embedding, stored transposed: A (r, rows) · B (cols, r) · added as scale·(B·A)ᵀ.
    pub(super) lora_embedding: Option<(Located, Located, f32)>,
    /// New values of single rows: row of the base tensor → row of the stored one.
    pub(super) rows: Option<(Located, HashMap<usize, usize>)>,
}

/// An opened adapter.
pub(super) struct Adapter {
    /// The folder.
    pub(super) name: String,
    /// The weight file.
    pub(super) files: Vec<FileSource>,
    /// By GGUF name of the changed tensor.
    pub(super) changes: BTreeMap<String, Change>,
}

/// Options of LoRA variants whose result is not W + s·B·A. Each must be absent, null, false or empty.
const REFUSED: [&str; 12] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "fan_in_fan_out",
    "layer_replication",
    "alora_invocation_tokens",
    "target_parameters",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
];

/// Initialisations that leave the base weights as they are. Others (PiSSA, OLoRA, CorDA, LoftQ …) change them, so the plain base would be wrong.
const NEUTRAL_INITS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

impl Adapter {
    pub(super) fn open(path: &Path, family: Family) -> Result<Self> {
        let name = path.display().to_string();
        let config_name = path.join("adapter_config.json").display().to_string();
        let config = folder::read_json(path, "adapter_config.json")?;
        let config = config.ok_or_else(|| Error::input(&config_name, "file", "missing: a PEFT adapter has one"))?;
        let settings = Settings::read(&config_name, &config)?;
        let stored = StoredTensors::open(path, "adapter_model", "adapter_model")?;
        let mut adapter = Self { name, files: stored.files, changes: BTreeMap::new() };
        let mut halves: Halves = BTreeMap::new();
        for located in stored.tensors {
            adapter.sort(located, family, &settings, &mut halves)?;
        }
        for ((module, is_embedding), (a, b)) in halves {
            let (Some(a), Some(b)) = (a, b) else {
                return Err(adapter.bad(&module, "lora_A without lora_B or the reverse"));
            };
            adapter.add_lora(&module, is_embedding, a, b, family, &settings)?;
        }
        Ok(adapter)
    }

    /// Puts one stored tensor where its name says; the halves of a LoRA pair wait for each other.
    fn sort(&mut self, located: Located, family: Family, settings: &Settings, halves: &mut Halves) -> Result<()> {
        let full_name = located.1.name.clone();
        let name = full_name
            .strip_prefix("base_model.model.")
            .ok_or_else(|| self.bad(&full_name, "'base_model.model.' expected first"))?;
        let pairs = [
            (".lora_A.weight", false),
            (".lora_B.weight", false),
            (".lora_embedding_A", true),
            (".lora_embedding_B", true),
        ];
        for (index, (suffix, is_embedding)) in pairs.into_iter().enumerate() {
            if let Some(module) = name.strip_suffix(suffix) {
                let pair = halves.entry((module.to_owned(), is_embedding)).or_default();
                *(if index % 2 == 0 { &mut pair.0 } else { &mut pair.1 }) = Some(located);
                return Ok(());
            }
        }
        if let Some((module, part)) = name.split_once(".token_adapter.") {
            // A head that the configuration names no rows of is tied: peft may save the embedding's tensors again under its name.
            if module.ends_with("lm_head") && settings.indices(module).is_none() {
                return Ok(());
            }
            // The table beneath, which peft saves unasked when the vocabulary has grown.
            if part == "base_layer.weight" {
                self.change(module, family)?.replacement = Some(located);
                return Ok(());
            }
        }
        if let Some(module) = name.strip_suffix(".token_adapter.trainable_tokens_delta") {
            let rows = self.trained_rows(module, &located.1, settings)?;
            self.change(module, family)?.rows = Some((located, rows));
            return Ok(());
        }
        let plain = name.replace(".modules_to_save", "").replace(".base_layer", "");
        match plain.strip_suffix(".weight").filter(|module| settings.saves(module)) {
            Some(module) => self.change(module, family)?.replacement = Some(located),
            None => return Err(self.bad(&full_name, "a tensor of this kind is not supported")),
        }
        Ok(())
    }

    fn trained_rows(&self, module: &str, tensor: &StoredTensor, settings: &Settings) -> Result<HashMap<usize, usize>> {
        let ids = settings.indices(module);
        let ids =
            ids.ok_or_else(|| self.bad(&tensor.name, "adapter_config.json has no trainable_token_indices for it"))?;
        let rows: HashMap<usize, usize> = ids.iter().enumerate().map(|(row, &id)| (id, row)).collect();
        if tensor.shape.len() != 2 || tensor.shape[0] != ids.len() || rows.len() != ids.len() {
            let problem = format!("shape {:?} for {} different trainable_token_indices", tensor.shape, rows.len());
            return Err(self.bad(&tensor.name, &problem));
        }
        Ok(rows)
    }

    fn add_lora(
        &mut self,
        module: &str,
        is_embedding: bool,
        a: Located,
        b: Located,
        family: Family,
        settings: &Settings,
    ) -> Result<()> {
        let (a_shape, b_shape) = (&a.1.shape, &b.1.shape);
        if a_shape.len() != 2 || b_shape.len() != 2 || a_shape[0] != b_shape[1] || a_shape[0] == 0 {
            return Err(self.bad(module, &format!("lora_A {a_shape:?} and lora_B {b_shape:?} do not multiply")));
        }
        let scale = settings.scale(module, a_shape[0]);
        let change = self.change(module, family)?;
        let slot = if is_embedding { &mut change.lora_embedding } else { &mut change.lora };
        *slot = Some((a, b, scale));
        Ok(())
    }

    fn change(&mut self, module: &str, family: Family) -> Result<&mut Change> {
        let name = family.gguf_name(&format!("{module}.weight"));
        let name = name.ok_or_else(|| self.bad(module, "no tensor of the base model is known by this name"))?;
        Ok(self.changes.entry(name).or_default())
    }

    pub(super) fn file(&self, located: &Located) -> &dyn ByteSource {
        &self.files[located.0]
    }

    pub(super) fn bad(&self, place: &str, problem: &str) -> Error {
        Error::input(&self.name, place, problem)
    }
}

/// What adapter_config.json says about arithmetic.
struct Settings {
    alpha: f64,
    rank_stabilised: bool,
    /// Module name (or its end) → its own alpha.
    alpha_pattern: Vec<(String, f64)>,
    modules_to_save: Vec<String>,
    /// Module name → trained token ids, in the order of the stored rows.
    token_indices: BTreeMap<String, Vec<usize>>,
}

/// Refuses what is no plain LoRA (see [`REFUSED`]), as merging does.
#[cfg(feature = "training")]
pub(crate) fn check_config(file: &str, config: &Json) -> Result<()> {
    Settings::read(file, config).map(drop)
}

impl Settings {
    fn read(file: &str, config: &Json) -> Result<Self> {
        let bad = |key: &str, problem: String| Err(Error::input(file, key, problem));
        if config["peft_type"] != "LORA" {
            return bad("peft_type", format!("{} found, \"LORA\" expected", config["peft_type"]));
        }
        for key in REFUSED {
            if !is_unset(&config[key]) {
                return bad(key, format!("{} is not supported", config[key]));
            }
        }
        if !matches!(config["bias"].as_str(), None | Some("none")) {
            return bad("bias", format!("{} is not supported, \"none\" expected", config["bias"]));
        }
        match &config["init_lora_weights"] {
            Json::Null | Json::Bool(_) => {}
            Json::String(init) if NEUTRAL_INITS.contains(&init.as_str()) => {}
            other => return bad("init_lora_weights", format!("{other} changes the base weights and is not supported")),
        }
        let Some(alpha) = config["lora_alpha"].as_f64() else {
            return bad("lora_alpha", "a number expected".to_owned());
        };
        Ok(Self {
            alpha,
            rank_stabilised: config["use_rslora"].as_bool() == Some(true),
            alpha_pattern: alpha_pattern(file, &config["alpha_pattern"])?,
            modules_to_save: strings(&config["modules_to_save"]),
            token_indices: token_indices(file, &config["trainable_token_indices"])?,
        })
    }

    /// alpha / r, or alpha / √r when rank-stabilised.
    fn scale(&self, module: &str, r: usize) -> f32 {
        let matches =
            |pattern: &str| module == pattern || module.strip_suffix(pattern).is_some_and(|rest| rest.ends_with('.'));
        let own = self.alpha_pattern.iter().find(|(pattern, _)| matches(pattern));
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        let r = r as f64;
        (alpha / if self.rank_stabilised { r.sqrt() } else { r }) as f32
    }

    /// The ids of a module's trained rows.
    fn indices(&self, module: &str) -> Option<&Vec<usize>> {
        let last = module.rsplit('.').next().unwrap_or(module);
        self.token_indices.get(last).or_else(|| self.token_indices.get(module))
    }

    /// Whether a whole tensor of this module may be in the file. Embedding and head are saved unasked when the vocabulary has grown.
    fn saves(&self, module: &str) -> bool {
        let last = module.rsplit('.').next().unwrap_or(module);
        matches!(last, "embed_tokens" | "lm_head")
            || self.modules_to_save.iter().any(|name| name == last || name == module)
    }
}

fn is_unset(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(items) => items.is_empty(),
        _ => false,
    }
}

fn strings(value: &Json) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// PEFT reads the keys as regular expressions; only plain module names are taken here.
fn alpha_pattern(file: &str, pattern: &Json) -> Result<Vec<(String, f64)>> {
    let bad = |problem: String| Error::input(file, "alpha_pattern", problem);
    let entries = pattern.as_object().into_iter().flatten();
    let entry = |(key, alpha): (&String, &Json)| {
        let key = key.strip_prefix('^').unwrap_or(key);
        if !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
            return Err(bad(format!("{key:?}: only plain module names are supported, no regular expressions")));
        }
        let alpha = alpha.as_f64().ok_or_else(|| bad(format!("{key:?}: a number expected")))?;
        Ok((key.to_owned(), alpha))
    };
    entries.map(entry).collect()
}

/// A list of ids for `embed_tokens`, or an object of such lists by module.
fn token_indices(file: &str, indices: &Json) -> Result<BTreeMap<String, Vec<usize>>> {
    let ids = |list: &Json| -> Option<Vec<usize>> {
        list.as_array()?.iter().map(|id| usize::try_from(id.as_u64()?).ok()).collect()
    };
    let found = match indices {
        Json::Null => Some(BTreeMap::new()),
        Json::Array(_) => ids(indices).map(|ids| BTreeMap::from([("embed_tokens".to_owned(), ids)])),
        Json::Object(lists) => lists.iter().map(|(module, list)| Some((module.clone(), ids(list)?))).collect(),
        _ => None,
    };
    found.ok_or_else(|| Error::input(file, "trainable_token_indices", "lists of token ids expected"))
}
