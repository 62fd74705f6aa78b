// Activations as blocks of 32 integers of 16 bits, each in two bytes for `dot4I8Packed`: v = dx · (256 · high + low).
// A row of `blocks` blocks is five planes of vec4<u32>, so that neighbouring invocations read neighbouring blocks:
//   0 high bytes of every second value (word g: values 8g, 8g + 2, 8g + 4, 8g + 6)   1 high bytes of those between
//   2, 3 the low bytes    4 as f32: dx, sum of the first 16 values, of the last 16, sum of squares that a norm needs
// The file that imports this declares `q16_values` (what is stored), `q16_raw` (what is squared) and `z`.

struct Word16 {
    high: u32,
    low: u32,
    dx: f32,
}

// Word `j` (0..3 even, 4..7 odd) of the block whose values begin at `at` in workgroup memory.
fn word16(at: u32, j: u32) -> Word16 {
    var largest = 0.0;
    for (var i = 0u; i < 32u; i++) {
        largest = max(largest, abs(q16_values[at + i]));
    }
    let dx = largest / 32512.0;
    let inverse = select(0.0, 32512.0 / largest, largest > 0.0);
    var high = 0u;
    var low = 0u;
    for (var i = 0u; i < 4u; i++) {
        let q = i32(round(q16_values[at + (j & 3u) * 8u + j / 4u + 2u * i] * inverse));
        let l = ((q + 128) & 255) - 128;
        low |= (u32(l) & 255u) << (8u * i);
        high |= (u32((q - l) >> 8u) & 255u) << (8u * i);
    }
    return Word16(high, low, dx);
}

// Writes what invocation `j` of a block's eight has to write; `z0` is the block's first word in plane 0.
fn write16(at: u32, j: u32, z0: u32, plane: u32) {
    let word = word16(at, j);
    let to = z0 + (j / 4u) * plane + (j & 3u);
    z[to] = word.high;
    z[to + 2u * plane] = word.low;
    if j < 4u {
        var sum = word.dx;
        if j > 0u {
            sum = 0.0;
            // j = 1: the first half, 2: the second, 3: all squares.
            for (var i = 0u; i < 16u; i++) {
                if j == 3u {
                    let a = q16_raw[at + i];
                    let b = q16_raw[at + 16u + i];
                    sum += a * a + b * b;
                } else {
                    sum += q16_values[at + (j - 1u) * 16u + i];
                }
            }
        }
        z[z0 + 4u * plane + j] = bitcast<u32>(sum);
    }
}
