//! The kernels twins in plain loops: one file per shader.
