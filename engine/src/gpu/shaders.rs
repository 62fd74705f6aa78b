//! What `build.rs` wrote: shader texts, validated variants, uniform structs.

/// How a binding is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    Uniform,
    Read,
    ReadWrite,
}

/// One validated combination of a shader's options.
pub(super) struct Variant {
    pub(super) shader: &'static str,
    pub(super) defines: &'static [&'static str],
    pub(super) bindings: &'static [Binding],
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
