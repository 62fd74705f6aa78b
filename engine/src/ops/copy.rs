//! `shaders/copy.wgsl`: a copy between buffers by a kernel, to measure the memory's speed.

use crate::gpu::{Buffer, Gpu, Recording, params};

/// Invocations of a workgroup.
const WORKGROUP: usize = 256;
/// Workgroups of a row; with 65,535 rows at most, a copy reaches 512 GB.
const ROW: usize = 32_768;

/// to ← from, the first `bytes` of both: a multiple of 16.
pub fn copy(gpu: &Gpu, recording: &mut Recording, from: &Buffer, to: &Buffer, bytes: u64) {
    assert!(
        bytes.is_multiple_of(16) && bytes <= from.bytes().min(to.bytes()),
        "copy: {bytes} bytes of {} into {}",
        from.bytes(),
        to.bytes()
    );
    let quads = u32::try_from(bytes / 16).expect("a binding has less than 64 GB");
    let (params, groups) = grid(quads);
    recording.dispatch(gpu, ("copy", &[]), params, &[from, to], groups);
}

fn grid(quads: u32) -> (params::Copy, [usize; 3]) {
    let groups = (quads as usize).div_ceil(WORKGROUP);
    let row = groups.min(ROW);
    (params::Copy { quads, row: (row * WORKGROUP) as u32 }, [row, groups.div_ceil(row.max(1)), 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quad_has_its_invocation_and_no_dimension_is_too_long() {
        for quads in [0, 1, 255, 256, 257, 8_388_608, 8_388_609, 1 << 26, u32::MAX] {
            let (params, [x, y, z]) = grid(quads);
            assert!(x <= 65_535 && y <= 65_535 && z == 1, "{quads}: {x}×{y}×{z} workgroups");
            assert_eq!(params.row as usize, x * WORKGROUP, "{quads}");
            let reached = y as u64 * u64::from(params.row);
            assert!(reached >= u64::from(quads), "{quads}: {reached} invocations");
        }
    }
}
