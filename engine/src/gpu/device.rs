//! The device: adapter choice, features, limits, errors and loss, transfers.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex},
};

use futures_channel::oneshot;
use serde::{Deserialize, Serialize};

use super::{pipeline::Pipelines, recording::Arena, tensor::Buffer, timing::Timing};
use crate::{Result, error::GpuError};

/// What to use of what the device offers; tests switch things off to run the other paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Use subgroup operations where they exist.
    pub subgroups: bool,
    /// Use shader-f16 where it exists.
    pub f16: bool,
    /// Use cooperative matrices where they exist; they need the other two.
    pub cooperative: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { subgroups: true, f16: true, cooperative: true }
    }
}

/// What a person may want to know about the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Adapter name as the driver or browser gives it; browsers often give none.
    pub name: String,
    /// `Vulkan` or `BrowserWebGpu`.
    pub backend: String,
    /// Whether it is a software renderer.
    pub software: bool,
    /// Subgroup operations in use.
    pub subgroups: bool,
    /// shader-f16 in use.
    pub f16: bool,
    /// Cooperative matrices (tensor cores) in use: 16 × 16 × 16, f16 in, f32 sums, subgroups of 32.
    pub cooperative: bool,
    /// Largest storage binding in bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Most invocations of a workgroup.
    pub max_invocations: u32,
}

/// A device with its queue and caches. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct Gpu {
    pub(super) inner: Rc<Inner>,
}

pub(super) struct Inner {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) facts: Facts,
    pub(super) pipelines: RefCell<Pipelines>,
    pub(super) arena: RefCell<Arena>,
    pub(super) bind_groups: RefCell<HashMap<Vec<u64>, wgpu::BindGroup>>,
    /// Buffers dropped since the last submit, whose bind groups can go.
    pub(super) dropped: RefCell<Vec<u64>>,
    pub(super) next_id: Cell<u64>,
    pub(super) allocated: Cell<u64>,
    pub(super) launches: Cell<u64>,
    pub(super) timing: RefCell<Option<Timing>>,
    /// Buffers for read-backs that are not in use: the next one is mostly of the same size.
    staging: RefCell<Vec<wgpu::Buffer>>,
    failure: Arc<Mutex<Option<GpuError>>>,
}

/// Bytes on their way from the GPU.
#[derive(Debug)]
pub struct Reading {
    staging: wgpu::Buffer,
    arrived: oneshot::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
    #[cfg_attr(target_family = "wasm", allow(dead_code, reason = "browsers run callbacks on their own"))]
    submission: wgpu::SubmissionIndex,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("facts", &self.inner.facts).finish_non_exhaustive()
    }
}

impl Gpu {
    /// Opens the best adapter. In the browser the first answers may be null while the GPU process restarts, so it asks again
    /// for four seconds.
    pub async fn open(options: Options) -> Result<Self> {
        #[cfg(target_family = "wasm")]
        super::web::prepare(options.subgroups)?;
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::BROWSER_WEBGPU;
        let instance = wgpu::Instance::new(descriptor);
        let adapter = request_adapter(&instance).await?;
        let info = adapter.get_info();
        let offered = adapter.features();
        let mut features = offered & wgpu::Features::TIMESTAMP_QUERY;
        if options.f16 {
            features |= offered & wgpu::Features::SHADER_F16;
        }
        if options.subgroups {
            features |= offered & wgpu::Features::SUBGROUP;
        }
        let cooperative = options.cooperative && options.f16 && options.subgroups && can_cooperate(&adapter);
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if cooperative {
            features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SUBGROUP_BARRIER;
            // Safety: asks wgpu for nothing but cooperative matrices, whose shaders are this crate's own and keep within their buffers.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("selfrag"),
            experimental_features,
            required_features: features,
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) =
            adapter.request_device(&descriptor).await.map_err(|e| GpuError::NoAdapter(e.to_string()))?;
        #[cfg(target_family = "wasm")]
        let subgroups = super::web::subgroups_granted();
        #[cfg(not(target_family = "wasm"))]
        let subgroups = features.contains(wgpu::Features::SUBGROUP);
        let limits = device.limits();
        let facts = Facts {
            name: info.name,
            backend: format!("{:?}", info.backend),
            software: info.device_type == wgpu::DeviceType::Cpu,
            subgroups,
            f16: features.contains(wgpu::Features::SHADER_F16),
            cooperative,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_buffer_bytes: limits.max_buffer_size,
            max_invocations: limits.max_compute_invocations_per_workgroup,
        };
        let failure = Arc::new(Mutex::new(None));
        watch_failures(&device, &failure);
        let arena = Arena::new(&device);
        Ok(Self {
            inner: Rc::new(Inner {
                device,
                queue,
                facts,
                pipelines: RefCell::default(),
                arena: RefCell::new(arena),
                bind_groups: RefCell::default(),
                dropped: RefCell::default(),
                next_id: Cell::new(1),
                allocated: Cell::new(0),
                launches: Cell::new(0),
                timing: RefCell::default(),
                staging: RefCell::default(),
                failure,
            }),
        })
    }

    /// Whether products may go to cooperative matrices. No browser has them: there this is known to the compiler, which leaves their code out.
    pub fn is_cooperative(&self) -> bool {
        cfg!(not(target_family = "wasm")) && self.inner.facts.cooperative
    }

    /// What this device is and offers.
    pub fn facts(&self) -> &Facts {
        &self.inner.facts
    }

    /// Bytes of GPU memory in buffers that are alive.
    pub fn allocated_bytes(&self) -> u64 {
        self.inner.allocated.get()
    }

    /// Bytes that the driver was asked for, staging and gaps between buffers included; none in browsers, which do not tell.
    pub fn reserved_bytes(&self) -> Option<u64> {
        self.inner.device.generate_allocator_report().map(|report| report.total_reserved_bytes)
    }

    /// The error that the device reported since it was opened, if any.
    pub fn check(&self) -> Result<()> {
        let failure = self.inner.failure.lock().expect("no holder panics");
        failure.clone().map_or(Ok(()), |error| Err(error.into()))
    }

    /// A zeroed buffer of at least `bytes`.
    pub fn buffer(&self, label: &str, bytes: u64) -> Result<Buffer> {
        // Zero-sized bindings are invalid, and copies go by four bytes.
        let bytes = bytes.max(16).next_multiple_of(4);
        for (limit, available) in [
            ("maxStorageBufferBindingSize", self.inner.facts.max_binding_bytes),
            ("maxBufferSize", self.inner.facts.max_buffer_bytes),
        ] {
            if bytes > available {
                let error = GpuError::Limit { limit, what: label.to_string(), needed: bytes, available };
                return Err(error.into());
            }
        }
        let raw = self.inner.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        self.check()?;
        Ok(Buffer::new(self.clone(), raw, bytes))
    }

    /// Writes bytes (a multiple of four of them) into a buffer, in order with submitted work.
    pub fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        assert!(
            bytes.len().is_multiple_of(4) && offset + bytes.len() as u64 <= buffer.bytes(),
            "write of {} bytes at {offset} into a buffer of {}",
            bytes.len(),
            buffer.bytes()
        );
        self.inner.queue.write_buffer(buffer.raw(), offset, bytes);
    }

    /// Copies a range within each of the buffers, after all submitted work.
    pub fn copy_within<'a>(&self, buffers: impl Iterator<Item = &'a Buffer>, from: u64, to: u64, bytes: u64) {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("copy") };
        let mut encoder = self.inner.device.create_command_encoder(&descriptor);
        // WebGPU forbids a copy within one buffer, so the bytes take a detour.
        let detour = self.inner.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("copy"),
            size: bytes,
            usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        for buffer in buffers {
            encoder.copy_buffer_to_buffer(buffer.raw(), from, &detour, 0, bytes);
            encoder.copy_buffer_to_buffer(&detour, 0, buffer.raw(), to, bytes);
        }
        self.inner.queue.submit([encoder.finish()]);
    }

    /// Fills `to` with what `from` holds, over and over, after all submitted work.
    pub fn repeat(&self, from: &Buffer, to: &Buffer) {
        let mut encoder = self.encoder("repeat");
        for at in (0..to.bytes()).step_by(from.bytes() as usize) {
            encoder.copy_buffer_to_buffer(from.raw(), 0, to.raw(), at, from.bytes().min(to.bytes() - at));
        }
        self.inner.queue.submit([encoder.finish()]);
    }

    /// Does `work`, which makes buffers; none where the device has not the memory or allows none so large: then it may be tried
    /// with less.
    pub async fn if_room<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let scope = self.inner.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let made = work();
        match (scope.pop().await, made) {
            (Some(_), _) | (None, Err(crate::Error::Gpu(GpuError::Limit { .. }))) => Ok(None),
            (None, made) => made.map(Some),
        }
    }

    /// Hands written data to the device and, natively, waits for it, so that staging memory stays bounded during a load.
    pub async fn flush(&self) -> Result<()> {
        self.inner.queue.submit([]);
        let (sender, receiver) = oneshot::channel();
        self.inner.queue.on_submitted_work_done(move || {
            let _ = sender.send(());
        });
        self.wait(None);
        receiver.await.map_err(|_| GpuError::Lost("work never finished".into()))?;
        self.check()
    }

    /// Reads `bytes` from a buffer, after all submitted work.
    pub async fn read(&self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let reading = self.read_in(self.encoder("read"), buffer, offset, bytes);
        self.collect(reading).await
    }

    /// Ends and submits `encoder` with a copy of the bytes to where [`Gpu::collect`] finds them.
    pub(super) fn read_in(
        &self,
        mut encoder: wgpu::CommandEncoder,
        buffer: &Buffer,
        offset: u64,
        bytes: u64,
    ) -> Reading {
        assert!(bytes.is_multiple_of(4) && offset + bytes <= buffer.bytes(), "read past a buffer's end");
        let idle = self.inner.staging.borrow_mut().pop().filter(|staging| staging.size() == bytes);
        let staging = idle.unwrap_or_else(|| {
            self.inner.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read"),
                size: bytes,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        encoder.copy_buffer_to_buffer(buffer.raw(), offset, &staging, 0, bytes);
        let submission = self.inner.queue.submit([encoder.finish()]);
        let (sender, arrived) = oneshot::channel();
        staging.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            let _ = sender.send(result);
        });
        Reading { staging, arrived, submission }
    }

    /// Waits for what was read.
    pub async fn collect(&self, reading: Reading) -> Result<Vec<u8>> {
        // Only for its own work: more may have been submitted since.
        self.wait(Some(reading.submission));
        let mapped = reading.arrived.await.map_err(|_| GpuError::Lost("the read-back never arrived".into()))?;
        self.check()?;
        mapped.map_err(|e| GpuError::Lost(e.to_string()))?;
        let view = reading.staging.slice(..).get_mapped_range().map_err(|e| GpuError::Refused(e.to_string()))?;
        let out = view.to_vec();
        drop(view);
        reading.staging.unmap();
        self.inner.staging.borrow_mut().push(reading.staging);
        Ok(out)
    }

    pub(super) fn encoder(&self, label: &str) -> wgpu::CommandEncoder {
        self.inner.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(label) })
    }

    /// Ends the device and gives its memory back at once; to whoever still uses it, it is lost as by a driver crash.
    pub fn destroy(&self) {
        self.inner.device.destroy();
    }

    /// Natively callbacks run only while somebody polls; browsers run them on their own.
    pub(super) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) {
        #[cfg(target_family = "wasm")]
        let _ = submission;
        #[cfg(not(target_family = "wasm"))]
        if let Err(error) = self.inner.device.poll(wgpu::PollType::Wait { submission_index: submission, timeout: None })
        {
            self.inner.failure.lock().expect("no holder panics").get_or_insert(GpuError::Lost(error.to_string()));
        }
    }
}

async fn request_adapter(instance: &wgpu::Instance) -> Result<wgpu::Adapter> {
    #[cfg(not(target_family = "wasm"))]
    if let Ok(wanted) = std::env::var("SELFRAG_GPU") {
        let all = instance.enumerate_adapters(wgpu::Backends::VULKAN).await;
        let names: Vec<String> = all.iter().map(|a| a.get_info().name).collect();
        let found = all.into_iter().find(|a| a.get_info().name.to_lowercase().contains(&wanted.to_lowercase()));
        return found.ok_or_else(|| {
            crate::Error::config("SELFRAG_GPU", format!("no adapter's name contains {wanted:?}; there are {names:?}"))
        });
    }
    let options =
        wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
    let tries = if cfg!(target_family = "wasm") { 8 } else { 1 };
    let mut problem = String::new();
    for attempt in 0..tries {
        match instance.request_adapter(&options).await {
            Ok(adapter) => return Ok(adapter),
            Err(error) => problem = error.to_string(),
        }
        if attempt + 1 < tries {
            crate::platform::sleep(std::time::Duration::from_millis(500)).await;
        }
    }
    Err(GpuError::NoAdapter(problem).into())
}

/// Whether the adapter multiplies 16 × 16 matrices of f16 into f32, in subgroups of the 32 invocations that the kernels count on.
fn can_cooperate(adapter: &wgpu::Adapter) -> bool {
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        | wgpu::Features::SUBGROUP
        | wgpu::Features::SUBGROUP_BARRIER
        | wgpu::Features::SHADER_F16;
    let info = adapter.get_info();
    adapter.features().contains(needed)
        && (info.subgroup_min_size, info.subgroup_max_size) == (32, 32)
        && adapter.limits().max_compute_invocations_per_workgroup >= 512
        && adapter.limits().max_compute_workgroup_storage_size >= 40 << 10
        && adapter.cooperative_matrix_properties().iter().any(|p| {
            (p.m_size, p.n_size, p.k_size) == (16, 16, 16)
                && p.ab_type == wgpu::wgt::CooperativeScalarType::F16
                && p.cr_type == wgpu::wgt::CooperativeScalarType::F32
        })
}

fn watch_failures(device: &wgpu::Device, failure: &Arc<Mutex<Option<GpuError>>>) {
    let first = Arc::clone(failure);
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        let error = match error {
            wgpu::Error::OutOfMemory { source } => GpuError::OutOfMemory(source.to_string()),
            other => GpuError::Refused(other.to_string()),
        };
        first.lock().expect("no holder panics").get_or_insert(error);
    }));
    let first = Arc::clone(failure);
    device.set_device_lost_callback(move |reason, message| {
        let error = GpuError::Lost(format!("{reason:?}: {message}"));
        // Loss outranks whatever error it caused first.
        *first.lock().expect("no holder panics") = Some(error);
    });
}
