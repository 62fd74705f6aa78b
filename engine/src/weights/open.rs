//! A model by its path, whatever it is: a GGUF file, or a Hugging Face folder.

use std::path::Path;

use super::{Gguf, Weights, hf::HfFolder, peft::Merged};
use crate::Result;

/// Opens the model at `path`, with the PEFT adapter of a folder merged into it when one is given.
pub fn open(path: &Path, adapter: Option<&Path>) -> Result<Box<dyn Weights>> {
    let base: Box<dyn Weights> =
        if path.is_dir() { Box::new(HfFolder::open(path)?) } else { Box::new(Gguf::open_path(path)?) };
    Ok(match adapter {
        Some(folder) => Box::new(Merged::open(base, folder)?),
        None => base,
    })
}
