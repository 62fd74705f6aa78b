//! Subgroups in the browser. wgpu 30's web back end knows no `subgroups` feature and so never asks for it; this wraps
//! `GPUAdapter.requestDevice` so that the feature is asked for where the adapter has it. Shader text reaches the browser
//! unparsed, so nothing else is needed.

use wasm_bindgen::JsValue;

use crate::{Result, error::GpuError};

const PATCH: &str = r#"
globalThis.__selfrag_subgroups = false;
globalThis.__selfrag_want_subgroups = want;
if (!globalThis.navigator || !navigator.gpu || typeof GPUAdapter === "undefined") { return false; }
if (!globalThis.__selfrag_patched) {
    globalThis.__selfrag_patched = true;
    const original = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = function (descriptor) {
        const has = globalThis.__selfrag_want_subgroups && this.features.has("subgroups");
        globalThis.__selfrag_subgroups = has;
        if (has) {
            descriptor = Object.assign({}, descriptor);
            descriptor.requiredFeatures = [...(descriptor.requiredFeatures || []), "subgroups"];
        }
        return original.call(this, descriptor);
    };
}
return true;
"#;

/// Patches `requestDevice`; fails where there is no WebGPU at all.
pub(super) fn prepare(want_subgroups: bool) -> Result<()> {
    let patch = js_sys::Function::new_with_args("want", PATCH);
    let present = patch.call1(&JsValue::NULL, &JsValue::from_bool(want_subgroups));
    if present.is_ok_and(|present| present.is_truthy()) { Ok(()) } else { Err(GpuError::NoWebGpu.into()) }
}

/// Whether the last device was given the feature.
pub(super) fn subgroups_granted() -> bool {
    js_sys::Reflect::get(&js_sys::global(), &"__selfrag_subgroups".into()).is_ok_and(|value| value.is_truthy())
}
