"""Makes k_quants.bin: 4096 values, and what ggml's own C code makes of them as Q4_K, Q5_K and Q6_K.

    npm pack @node-llama-cpp/linux-x64@3.22.1 && tar xzf node-llama-cpp-linux-x64-3.22.1.tgz
    python3 k_quants.py package/bins/linux-x64/libggml-base.so        # needs numpy

Layout: 4096 × f32 · Q4_K bytes · Q5_K bytes · Q6_K bytes.
"""

import ctypes
import pathlib
import sys

import numpy as np

N = 4096
ggml = ctypes.CDLL(sys.argv[1])
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
rng = np.random.default_rng(4)
# Weights of a trained layer: normal, with heavier tails and a scale that differs from block to block.
values = (rng.standard_t(6, N) * 0.03 * np.exp(rng.normal(0, 0.5, N // 256).repeat(256))).astype(np.float32)
out = values.tobytes()
for type_id, block_bytes in [(12, 144), (13, 176), (14, 210)]:
    blocks = np.zeros(N // 256 * block_bytes, np.uint8)
    written = ggml.ggml_quantize_chunk(type_id, values.ctypes.data, blocks.ctypes.data, 0, N // 256, 256, None)
    assert written == blocks.size
    out += blocks.tobytes()
pathlib.Path(__file__).with_name("k_quants.bin").write_bytes(out)
