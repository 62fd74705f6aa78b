//! Launches kernels: one file per shader.
