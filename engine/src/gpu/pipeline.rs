//! Pipelines by shader variant, compiled on first use.

use std::{collections::HashMap, rc::Rc};

use super::{
    Gpu, preprocess,
    shaders::{Binding, FILES, VARIANTS, Variant},
};

pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) bindings: &'static [Binding],
    pub(super) name: &'static str,
    /// Index into `VARIANTS`, which identifies the pipeline in the bind-group cache.
    pub(super) index: usize,
}

pub(super) type Pipelines = HashMap<usize, Rc<Pipeline>>;

/// Options that the device switches on, not the caller.
const DEVICE_FLAGS: [&str; 3] = ["SUBGROUPS", "F16", "SOFTWARE"];

impl Gpu {
    /// The pipeline of `shader` with the caller's `defines` and whatever the device adds.
    pub(super) fn pipeline(&self, shader: &str, defines: &[&str]) -> Rc<Pipeline> {
        let (index, variant) = self.variant(shader, defines);
        if let Some(pipeline) = self.inner.pipelines.borrow().get(&index) {
            return Rc::clone(pipeline);
        }
        let pipeline = Rc::new(self.compile(index, variant));
        self.inner.pipelines.borrow_mut().insert(index, Rc::clone(&pipeline));
        pipeline
    }

    fn variant(&self, shader: &str, defines: &[&str]) -> (usize, &'static Variant) {
        let offered = [self.inner.facts.subgroups, self.inner.facts.f16, self.inner.facts.software];
        let fits = |variant: &Variant| {
            variant.shader == shader
                && defines.iter().all(|d| variant.defines.contains(d))
                && variant.defines.iter().all(|d| match DEVICE_FLAGS.iter().position(|flag| flag == d) {
                    Some(flag) => offered[flag],
                    None => defines.contains(d),
                })
        };
        let best = VARIANTS.iter().enumerate().filter(|(_, v)| fits(v)).max_by_key(|(_, v)| v.defines.len());
        best.unwrap_or_else(|| panic!("shaders/variants lists no {shader} with {defines:?}"))
    }

    fn compile(&self, index: usize, variant: &'static Variant) -> Pipeline {
        let read = |path: &str| FILES.iter().find(|(name, _)| *name == path).map(|(_, text)| *text);
        let mut source = preprocess::expand(variant.shader, variant.defines, &read).expect("validated by build.rs");
        if cfg!(target_family = "wasm") && variant.defines.contains(&"SUBGROUPS") {
            // Browsers require the directive, naga refuses it.
            source.insert_str(0, "enable subgroups;\n");
        }
        let label = format!("{} {}", variant.shader, variant.defines.join(" "));
        let device = &self.inner.device;
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(&label), source: wgpu::ShaderSource::Wgsl(source.into()) };
        // Safety: the text is this crate's own; every kernel guards its range, ends its loops and divides by what `ops` checked.
        // Clamped indices cost a matrix product 17 to 40 % (gpuweb issue 1202). Browsers check all the same.
        let module = unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
        let entries: Vec<_> = variant.bindings.iter().zip(0..).map(|(binding, i)| layout_entry(i, *binding)).collect();
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(&label), entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes its workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { raw, layout, bindings: variant.bindings, name: variant.shader, index }
    }
}

fn layout_entry(binding: u32, kind: Binding) -> wgpu::BindGroupLayoutEntry {
    let ty = match kind {
        Binding::Uniform => wgpu::BufferBindingType::Uniform,
        Binding::Read => wgpu::BufferBindingType::Storage { read_only: true },
        Binding::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: kind == Binding::Uniform, min_binding_size: None },
        count: None,
    }
}
