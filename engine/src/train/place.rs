//! Where tensors live and in which type: the one place that names a backend.

use burn::{
    DType, Device, Tensor, TensorData,
    kind::{Basic, Float, Int},
};
use serde::{Deserialize, Serialize};

use super::random::Key;
use crate::{Error, Result};

/// What computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// burn's pure Rust backend.
    #[default]
    Cpu,
    /// A GPU through Vulkan (feature `training-vulkan`).
    Vulkan,
    /// An NVIDIA GPU through CUDA (feature `training-cuda`), which has to be installed with NVRTC and its headers.
    Cuda,
}

/// In which type products are computed: with frozen matrices, LoRA's own and their sum, and attention's two. Norms, softmax, loss, trained parameters
/// and the residual stream are f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, with the loss scaled so that small gradients stay representable: half the memory, and a GPU's matrix units.
    F16,
    /// 16 bits with f32's range: the same without scaling. Vulkan has no arithmetic for it.
    Bf16,
}

impl Precision {
    fn matrices(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// A device with the type of its floating-point tensors.
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) device: Device,
    /// Of everything that is not a frozen matrix or an operand of a product with one.
    pub(super) dtype: DType,
    /// Of these.
    pub(super) matrices: DType,
    on_host: bool,
}

impl Place {
    /// f32 on the CPU: what tests and small runs use.
    pub fn cpu() -> Self {
        Self { device: Device::flex(), dtype: DType::F32, matrices: DType::F32, on_host: true }
    }

    /// f64 on the CPU: gradients against finite differences.
    pub fn cpu_f64() -> Self {
        Self { device: Device::flex(), dtype: DType::F64, matrices: DType::F64, on_host: true }
    }

    /// The device that a configuration asks for; of several GPUs number `local`, where that is given.
    pub fn open(backend: Backend, precision: Precision, local: Option<usize>) -> Result<Self> {
        let on_gpu = |device| Self { device, dtype: DType::F32, matrices: precision.matrices(), on_host: false };
        match backend {
            Backend::Cpu => Ok(Self { matrices: precision.matrices(), ..Self::cpu() }),
            Backend::Vulkan if precision == Precision::Bf16 => {
                Err(Error::config("precision", "Vulkan has no arithmetic in \"bf16\"; \"f16\" is as fast there"))
            }
            Backend::Vulkan => vulkan(local).map(on_gpu),
            Backend::Cuda => cuda(local).map(on_gpu),
        }
    }

    /// The same with matrices in everything else's type: masters of weights that are trained.
    pub(super) fn of_masters(&self) -> Self {
        Self { matrices: self.dtype, ..self.clone() }
    }

    /// A tensor of these values.
    pub(super) fn tensor<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D, Float> {
        Tensor::from_data(TensorData::new(values, shape), (&self.device, self.dtype))
    }

    /// A frozen matrix.
    pub(super) fn matrix(&self, values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, shape), (&self.device, self.matrices))
    }

    /// Zeros.
    pub(super) fn zeros<const D: usize>(&self, shape: [usize; D]) -> Tensor<D, Float> {
        Tensor::zeros(shape, (&self.device, self.dtype))
    }

    /// Factors of dropout, made on the host for a CPU's backend and on the GPU for a GPU's: the same ones.
    pub(super) fn dropout(&self, key: Key, p: f64, shape: [usize; 2]) -> Tensor<2> {
        if self.on_host {
            self.tensor(key.dropout(p, shape[0] * shape[1]), shape)
        } else {
            key.dropout_there(p, shape, &self.device)
        }
    }

    /// A tensor of indices.
    pub(super) fn indices<const D: usize>(&self, values: Vec<i32>, shape: [usize; D]) -> Tensor<D, Int> {
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }
}

#[cfg(feature = "training-vulkan")]
fn vulkan(local: Option<usize>) -> Result<Device> {
    Ok(Device::vulkan(local.map_or(burn::DeviceKind::DefaultDevice, burn::DeviceKind::DiscreteGpu)))
}

#[cfg(not(feature = "training-vulkan"))]
fn vulkan(_: Option<usize>) -> Result<Device> {
    Err(Error::config("backend", "this build has no \"vulkan\"; build with `--features training-vulkan` for it"))
}

#[cfg(feature = "training-cuda")]
fn cuda(local: Option<usize>) -> Result<Device> {
    Ok(Device::cuda(local.unwrap_or(0)))
}

#[cfg(not(feature = "training-cuda"))]
fn cuda(_: Option<usize>) -> Result<Device> {
    Err(Error::config("backend", "this build has no \"cuda\"; build with `--features training-cuda` for it"))
}

/// A tensor's values on the host, row-major. What a device has to say against it (lost, out of memory) becomes an error.
pub(super) fn values<const D: usize, K: Basic>(tensor: &Tensor<D, K>) -> Result<Vec<f32>> {
    tensor.try_to_vec_as::<f32>().map_err(|e| device_error(&e.to_string()))
}

/// What a device refused, with what to change when it was memory.
pub(super) fn device_error(problem: &str) -> Error {
    let lower = problem.to_lowercase();
    let memory = ["memory", "alloc"].iter().any(|word| lower.contains(word));
    let advice = "segment = 1 keeps one block's activations at a time, and a run may go on with it; or halve micro_batch and double accumulation, or \
                  lower max_length, in a new run";
    Error::config("backend", if memory { format!("{problem}; {advice}") } else { problem.to_owned() })
}
