//! Device, tensors, pipelines: the only module that names wgpu.
