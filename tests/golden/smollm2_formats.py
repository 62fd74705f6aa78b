"""Goldens of SmolLM2 in every weight format: what `selfrag convert` wrote, dequantised by llama.cpp's `gguf` and run by transformers in f32.

    smollm2_formats.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --selfrag ../../target/release/selfrag --out smollm2/formats.json

The converted files are this project's, the numbers are not: every value that transformers sees went through `gguf`'s own dequantisation.
Each file's SHA-256 is kept, so that a reader whose converter has changed is told so instead of that its kernels are wrong.
"""

import argparse
import hashlib
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import torch
from common import floats, greedy, margin, read_gguf, write_json

SEED = 20260524
FORMATS = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k")
# "The Amazon rainforest is home to": short, because CI's GPU is two CPU cores and runs it eleven times
TOKENS = [504, 9860, 22450, 314, 1478, 288]
N_GREEDY = 3


def dtypes(path: Path) -> dict[str, int]:
    """How many tensors the file has of each format: what the policy made of the one asked for."""
    from gguf import GGUFReader

    return dict(sorted(Counter(t.tensor_type.name.lower() for t in GGUFReader(path).tensors).items()))


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--gguf", required=True)
    args.add_argument("--selfrag", required=True)
    args.add_argument("--out", required=True)
    args = args.parse_args()

    torch.manual_seed(SEED)
    sample = torch.randperm(49152)[:128].sort().values
    golden = {
        "made_by": "tests/golden/smollm2_formats.py", "seed": SEED, "gguf": Path(args.gguf).name,
        "tokens": TOKENS, "sample_ids": sample.tolist(),
    }  # fmt: skip
    for name in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.gguf"
            subprocess.run([args.selfrag, "convert", args.gguf, path, "--type", name], check=True, stdout=subprocess.DEVNULL)
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            stored, model = dtypes(path), read_gguf(str(path))
        tail, rows = greedy(model, TOKENS, N_GREEDY)
        top = rows[0].topk(32)
        # A tolerance of 1e-3 of the largest logit must not be able to change a greedy token; another prompt is needed if it could.
        assert margin(rows) > 4e-3 * float(top.values[0]), f"{name}: greedy tokens are too close, margin {margin(rows)}"
        golden[name] = {
            "sha256": sha256, "tensors": stored, "logsumexp": floats(torch.logsumexp(rows[0], -1).view(1))[0],
            "top_ids": top.indices.tolist(), "top_logits": floats(top.values), "sample_logits": floats(rows[0][sample]),
            "greedy": tail, "greedy_margin": float(f"{margin(rows):.4g}"),
        }  # fmt: skip
        print(name, stored, "greedy", tail, "margin", golden[name]["greedy_margin"])
    write_json(Path(args.out), golden)


main()
