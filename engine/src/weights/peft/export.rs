//! An adapter in another type. Training keeps f32, which a run goes on from; what ships in f16 is half as large.

use std::path::Path;

use crate::{
    Error, Result,
    platform::block_on,
    weights::{DType, convert::PendingFile, folder, folder::StoredTensors, hf, quant, safetensors},
};

const WEIGHTS: &str = "adapter_model.safetensors";
/// What else an adapter's folder may have that says what it means; the last of them makes the copy complete.
const BESIDE: [&str; 5] =
    ["tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json", "adapter_config.json"];

/// Writes an adapter's folder with its tensors in `dtype` to a folder that is new or empty; returns the bytes of the tensors' file.
///
/// # Errors
/// A value that the type cannot hold (f16 ends at 65,504) is an error that names its tensor.
pub fn export(adapter: &Path, output: &Path, dtype: DType) -> Result<u64> {
    let io = |e: std::io::Error| Error::io(output.display().to_string(), e);
    if !hf::TYPES.contains(&dtype) {
        return Err(Error::config("type", format!("{}; an adapter has f32, f16 or bf16", dtype.name())));
    }
    let stored = StoredTensors::open(adapter, "adapter_model", "adapter_model")?;
    std::fs::create_dir_all(output).map_err(io)?;
    if output.read_dir().map_err(io)?.next().is_some() {
        return Err(Error::io(output.display().to_string(), "is not empty: name a new folder"));
    }
    let entry = |(_, tensor): &(usize, crate::weights::stored::StoredTensor)| {
        let bytes = tensor.shape.iter().product::<usize>() * dtype.block_bytes();
        (tensor.name.clone(), hf::type_names(dtype).0, tensor.shape.clone(), bytes)
    };
    let mut file = PendingFile::create(&output.join(WEIGHTS))?;
    file.write(&safetensors::header(stored.tensors.iter().map(entry)))?;
    for (number, tensor) in &stored.tensors {
        let source = &stored.files[*number];
        let (rows, cols) = tensor.matrix();
        let values = block_on(tensor.read_values(source, 0, rows))?;
        let mut bytes = vec![0; rows * dtype.row_bytes(cols)];
        quant::quantize(dtype, &values, &mut bytes);
        let mut rounded = vec![0.0; values.len()];
        quant::dequantize(dtype, &bytes, &mut rounded);
        if let Some(at) = rounded.iter().position(|value| !value.is_finite()) {
            let problem = format!("value {at} is {}, which {} cannot hold", values[at], dtype.name());
            return Err(Error::input(adapter.display().to_string(), &tensor.name, problem));
        }
        file.write(&bytes)?;
    }
    let n_bytes = file.written();
    file.finish()?;
    for name in BESIDE {
        if let Some(text) = folder::read_bytes(adapter, name)? {
            let mut copy = PendingFile::create(&output.join(name))?;
            copy.write(&text)?;
            copy.finish()?;
        }
    }
    Ok(n_bytes)
}
