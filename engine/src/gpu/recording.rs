//! A recording: what to run, apart from running it.

use std::{cell::RefCell, rc::Rc};

use super::{
    Gpu,
    device::Reading,
    pipeline::Pipeline,
    shaders::Binding,
    tensor::Buffer,
    timing::{Grain, RECORDING},
};

/// Dispatches in order, to be run as one compute pass. Each sees the writes of those before it.
#[derive(Default)]
pub struct Recording {
    steps: Vec<Step>,
    /// Parameters of all steps, each at a multiple of [`SLOT`].
    params: Vec<u8>,
}

struct Step {
    pipeline: Rc<Pipeline>,
    buffers: Vec<Buffer>,
    params_offset: u32,
    groups: [u32; 3],
    /// The bind group and the arena that it names, so that a recording that runs again looks nothing up.
    bound: RefCell<Option<(u64, wgpu::BindGroup)>>,
}

/// Distance between two steps' parameters: WebGPU's largest minUniformBufferOffsetAlignment.
const SLOT: usize = 256;
/// Steps whose parameters fit the arena before it first grows.
const ARENA_SLOTS: usize = 1024;

/// The uniform buffer that holds a recording's parameters. Writes are ordered with submits, so every recording reuses it.
pub(super) struct Arena {
    buffer: wgpu::Buffer,
    /// Counts the buffers there were.
    generation: u64,
    /// What the buffer holds: a decoded token's parameters are mostly the last one's, and need not travel again.
    held: Vec<u8>,
}

impl Arena {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        Self { buffer: Self::create(device, ARENA_SLOTS * SLOT), generation: 0, held: Vec::new() }
    }

    fn create(device: &wgpu::Device, bytes: usize) -> wgpu::Buffer {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters"),
            size: bytes as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recording({} dispatches)", self.steps.len())
    }
}

impl Recording {
    /// An empty recording.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of dispatches so far.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds a dispatch: the shader's parameters go to binding 0, `buffers` to the bindings from 1 on.
    pub fn dispatch<P: bytemuck::Pod>(
        &mut self,
        gpu: &Gpu,
        (shader, defines): (&str, &[&str]),
        params: P,
        buffers: &[&Buffer],
        groups: [usize; 3],
    ) {
        if groups.contains(&0) {
            return;
        }
        assert!(groups.iter().all(|g| *g <= 65_535), "{shader}: {groups:?} workgroups, 65535 a dimension are the most");
        let pipeline = gpu.pipeline(shader, defines);
        assert_eq!(buffers.len() + 1, pipeline.bindings.len(), "{shader}: one buffer a binding");
        let params_offset = u32::try_from(self.params.len()).expect("a recording has few steps");
        self.params.extend_from_slice(bytemuck::bytes_of(&params));
        self.params.resize(params_offset as usize + SLOT, 0);
        self.steps.push(Step {
            pipeline,
            buffers: buffers.iter().map(|b| (*b).clone()).collect(),
            params_offset,
            groups: groups.map(|g| g as u32),
            bound: RefCell::default(),
        });
    }

    /// Runs everything in one compute pass.
    pub fn submit(&self, gpu: &Gpu) {
        if self.is_empty() {
            return;
        }
        let mut encoder = gpu.encoder("recording");
        self.encode(gpu, &mut encoder);
        gpu.inner.queue.submit([encoder.finish()]);
    }

    /// Runs everything and copies the first `bytes` of `from` to where [`Gpu::collect`] finds them, in one submit.
    pub fn submit_and_read(&self, gpu: &Gpu, from: &Buffer, bytes: u64) -> Reading {
        let mut encoder = gpu.encoder("recording and read");
        self.encode(gpu, &mut encoder);
        gpu.read_in(encoder, from, 0, bytes)
    }

    fn encode(&self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) {
        gpu.forget_dropped_buffers();
        gpu.write_params(&self.params);
        let generation = gpu.inner.arena.borrow().generation;
        gpu.inner.launches.set(gpu.inner.launches.get() + self.steps.len() as u64);
        let launch = |pass: &mut wgpu::ComputePass<'_>, step: &Step| {
            let mut bound = step.bound.borrow_mut();
            if bound.as_ref().is_none_or(|(of, _)| *of != generation) {
                let mut groups = gpu.inner.bind_groups.borrow_mut();
                let group = groups.entry(step.key()).or_insert_with(|| gpu.bind_group(step));
                *bound = Some((generation, group.clone()));
            }
            let (_, group) = bound.as_ref().expect("just bound");
            pass.set_pipeline(&step.pipeline.raw);
            pass.set_bind_group(0, group, &[step.params_offset]);
            pass.dispatch_workgroups(step.groups[0], step.groups[1], step.groups[2]);
        };
        // Timestamps are taken at the ends of passes: that is all that browsers offer.
        let each = gpu.inner.timing.borrow().as_ref().is_some_and(|timing| timing.grain == Grain::Kernel);
        for steps in self.steps.chunks(if each { 1 } else { self.steps.len() }) {
            let mut timing = gpu.inner.timing.borrow_mut();
            let name = if each { steps[0].pipeline.name } else { RECORDING };
            let timestamp_writes = timing.as_mut().and_then(|timing| timing.next(name));
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
            let mut pass = encoder.begin_compute_pass(&descriptor);
            steps.iter().for_each(|step| launch(&mut pass, step));
        }
    }
}

impl Step {
    fn key(&self) -> Vec<u64> {
        std::iter::once(self.pipeline.index as u64).chain(self.buffers.iter().map(Buffer::id)).collect()
    }
}

impl Gpu {
    fn write_params(&self, params: &[u8]) {
        let mut arena = self.inner.arena.borrow_mut();
        if params.len() as u64 > arena.buffer.size() {
            arena.buffer = Arena::create(&self.inner.device, params.len().next_power_of_two());
            arena.generation += 1;
            arena.held.clear();
            self.inner.bind_groups.borrow_mut().clear();
        }
        if arena.held != params {
            self.inner.queue.write_buffer(&arena.buffer, 0, params);
            arena.held.clear();
            arena.held.extend_from_slice(params);
        }
    }

    fn forget_dropped_buffers(&self) {
        let dropped = std::mem::take(&mut *self.inner.dropped.borrow_mut());
        if !dropped.is_empty() {
            self.inner.bind_groups.borrow_mut().retain(|key, _| !key[1..].iter().any(|id| dropped.contains(id)));
        }
    }

    fn bind_group(&self, step: &Step) -> wgpu::BindGroup {
        let arena = self.inner.arena.borrow();
        let uniform = wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &arena.buffer,
                offset: 0,
                size: std::num::NonZeroU64::new(SLOT as u64),
            }),
        };
        debug_assert_eq!(step.pipeline.bindings.first(), Some(&Binding::Uniform), "binding 0 holds the parameters");
        let storage = step
            .buffers
            .iter()
            .zip(1..)
            .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.raw().as_entire_binding() });
        self.inner.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &step.pipeline.layout,
            entries: &std::iter::once(uniform).chain(storage).collect::<Vec<_>>(),
        })
    }
}
