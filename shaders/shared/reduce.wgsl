// Sum and maximum over a workgroup of 64 invocations; every invocation gets the result.
// With subgroups: one value per subgroup goes through workgroup memory. Any subgroup size works, since the number of
// slots in use is counted, not assumed. Without: a tree.
const WORKGROUP: u32 = 64u;

var<workgroup> reduce_slots: array<f32, 64>;

#ifdef SUBGROUPS
fn reduce_sum(value: f32, local: u32, lane: u32, lanes: u32) -> f32 {
    let partial = subgroupAdd(value);
    if lane == 0u {
        reduce_slots[local / lanes] = partial;
    }
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i * lanes < WORKGROUP; i++) {
        total += reduce_slots[i];
    }
    workgroupBarrier();
    return total;
}

fn reduce_max(value: f32, local: u32, lane: u32, lanes: u32) -> f32 {
    let partial = subgroupMax(value);
    if lane == 0u {
        reduce_slots[local / lanes] = partial;
    }
    workgroupBarrier();
    var total = reduce_slots[0];
    for (var i = 1u; i * lanes < WORKGROUP; i++) {
        total = max(total, reduce_slots[i]);
    }
    workgroupBarrier();
    return total;
}
#else
fn reduce_sum(value: f32, local: u32, lane: u32, lanes: u32) -> f32 {
    reduce_slots[local] = value;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if local < half {
            reduce_slots[local] += reduce_slots[local + half];
        }
        workgroupBarrier();
    }
    let total = reduce_slots[0];
    workgroupBarrier();
    return total;
}

fn reduce_max(value: f32, local: u32, lane: u32, lanes: u32) -> f32 {
    reduce_slots[local] = value;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if local < half {
            reduce_slots[local] = max(reduce_slots[local], reduce_slots[local + half]);
        }
        workgroupBarrier();
    }
    let total = reduce_slots[0];
    workgroupBarrier();
    return total;
}
#endif
