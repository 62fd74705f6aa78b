//! What cubecl-cuda 0.11.3 names of cubecl-llvm 0.11.3, without LLVM.
//!
//! The real crate downloads a built LLVM of some hundred megabytes while it is compiled, from a host that is not a package registry. cubecl-cuda
//! can go two ways from a kernel to the GPU, through CUDA C++ and NVRTC or through LLVM; both are always compiled, and its feature `cpp` decides
//! which is taken. With that feature (`training-cuda` sets it) nothing here is called, and should it be, it is an error.

use cubecl_core::ir::{DeviceProperties, nvidia::SmArch};
use cubecl_core::prelude::KernelDefinition;
use cubecl_environment::backtrace::BackTrace;
use cubecl_runtime::{
    compiler::{CompilationError, Compiler},
    kernel::BufferIOAttr,
};

/// Versions of PTX.
pub mod nvptx {
    /// The one for a driver.
    pub mod ptx_version {
        /// There is none.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct PtxVersion(());

        impl PtxVersion {
            /// None.
            pub fn for_driver(_: i32) -> Option<Self> {
                None
            }
        }

        impl std::fmt::Display for PtxVersion {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("ptx")
            }
        }
    }
}

/// What the real compiler can not do.
pub mod shared {
    /// Restrictions.
    pub mod lowered_features {
        /// A GPU's kind.
        #[derive(Debug, Clone, Copy)]
        pub enum GpuTarget {
            /// NVIDIA's.
            Nvptx,
        }

        /// Restricts nothing.
        pub fn restrict_features(_: &mut crate::DeviceProperties, _: GpuTarget) {}
    }
}

/// What is compiled for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    /// The host.
    #[default]
    Cpu,
    /// NVIDIA's GPUs.
    Nvptx,
}

/// Compiles nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlironCompiler {
    /// For what.
    pub target: LlvmTarget,
}

/// How.
#[derive(Debug, Clone, Default)]
pub struct PlironOptions {
    /// AMD's.
    pub arch: Option<()>,
    /// NVIDIA's.
    pub sm_arch: Option<SmArch>,
    /// Of PTX.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Whether arguments are constants of the grid.
    pub grid_constants: bool,
}

/// A kernel in PTX.
#[derive(Debug, Clone)]
pub struct NvptxModule {
    /// Ends with a zero.
    pub ptx: Vec<core::ffi::c_char>,
    /// The kernel's name.
    pub entrypoint: String,
    /// For people.
    pub ir: String,
    /// Bytes.
    pub shared_memory_size: usize,
    /// By binding.
    pub io: Vec<BufferIOAttr>,
}

/// A kernel, compiled.
pub enum PlironArtifact {
    /// In PTX.
    NvptxCode(NvptxModule),
    /// For the host.
    Jit,
}

impl std::fmt::Display for PlironArtifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nothing: LLVM is not in this build")
    }
}

impl Compiler for PlironCompiler {
    type CompilationOptions = PlironOptions;
    type Representation = PlironArtifact;

    fn compile(&mut self, _: KernelDefinition, _: &PlironOptions) -> Result<PlironArtifact, CompilationError> {
        let reason = "LLVM is not in this build: kernels for CUDA go through NVRTC (feature `cpp` of cubecl-cuda)";
        Err(CompilationError::Generic { reason: reason.into(), backtrace: BackTrace::capture() })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "llvm"
    }
}
