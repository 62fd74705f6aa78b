"""Makes quants.bin: blocks and values through PyPI `gguf`'s quants.py, llama.cpp's own reference in numpy.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install gguf==0.19.0 && /tmp/venv/bin/python quants.py

Layout, little-endian, once for each format of FORMATS:
    name (8 bytes, zero-padded) · n_values u32 · n_bytes u32
    blocks (n_bytes, random) · their values (n_values × f32)
    for formats that quants.py can write: inputs (n_values × f32) · blocks made of them (n_bytes)
"""

import pathlib
import struct

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

FORMATS = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
WRITABLE = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
# Where each format has its f16 scales: random bits there could be infinities, which no weight file has.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}
N = 1024

rng = np.random.default_rng(2310_11511)
out = b""
for name in FORMATS:
    t = T[name]
    block_len, block_bytes = GGML_QUANT_SIZES[t]
    n_blocks = N // block_len
    if name in SCALES:
        blocks = rng.integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)
        for at in SCALES[name]:
            scale = rng.normal(0, 0.01, n_blocks).astype(np.float16)
            blocks[:, at:at + 2] = scale.view(np.uint8).reshape(n_blocks, 2)
    else:
        blocks = rng.normal(0, 1, N).astype(np.float32)
        blocks = quantize(blocks, t).view(np.uint8).reshape(n_blocks, block_bytes)
    values = dequantize(blocks.reshape(1, -1), t).astype(np.float32).ravel()
    assert values.size == N and np.isfinite(values).all()
    out += name.lower().encode().ljust(8, b"\0") + struct.pack("<II", N, blocks.size) + blocks.tobytes() + values.tobytes()
    if name in WRITABLE:
        inputs = (rng.normal(0, 1, N) * np.exp(rng.normal(0, 2, N // 32).repeat(32))).astype(np.float32)
        inputs[32:64] = 0  # a block of zeros
        inputs[64:96] = 0.5  # a block without spread
        inputs[96:128] = np.linspace(-127, 127, 32) / 2  # halves: rounding away from zero
        written = np.ascontiguousarray(quantize(inputs.reshape(1, -1), t)).view(np.uint8)
        assert written.size == blocks.size
        out += inputs.tobytes() + written.tobytes()
pathlib.Path(__file__).with_name("quants.bin").write_bytes(out)
print(len(out), "bytes")
