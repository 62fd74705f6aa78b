"""Writes a GGUF file of a Llama with random weights: `random_gguf.py OUT.gguf --type q4_0`.

Plain numpy. A tensor repeats a few random rows, so that 13 GB are written as fast as the disk takes them. All matrices have
the one format, as in `selfrag bench`; norms are f32. There is no tokenizer, as token numbers are all a benchmark needs, unless
`--tokenizer tokenizer.json` names Llama-2's: then the file has that vocabulary with Self-RAG's tokens after it, and `selfrag eval` can be
timed on it.
"""

import argparse
import json
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common import GEOMETRIES, Geometry

ALIGN = 32
ROWS = 61  # made; a tensor repeats them
FORMATS = {"f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q4_k": (12, 256, 144)}  # GGML's number, block, bytes
FILE_TYPES = {"f16": 1, "q4_0": 2, "q4_k": 14}


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key: str, value: str | int | float | list) -> bytes:
    numbers = {str: (8, string), int: (4, lambda v: struct.pack("<I", v)), float: (6, lambda v: struct.pack("<f", v))}
    many = isinstance(value, list)
    number, packed = numbers[type(value[0] if many else value)]
    if many:
        return string(key) + struct.pack("<IIQ", 9, number, len(value)) + b"".join(map(packed, value))
    return string(key) + struct.pack("<I", number) + packed(value)


REFLECTION = ["[No Retrieval]", "[Retrieval]", "[Continue to Use Evidence]", "[Irrelevant]", "[Relevant]", "<paragraph>", "</paragraph>",
              *(f"[Utility:{n}]" for n in range(1, 6)), "[Fully supported]", "[Partially supported]", "[No support / Contradictory]"]


def vocabulary(path: Path, size: int) -> dict[str, list]:
    """Llama-2's vocabulary, Self-RAG's tokens and padding, as metadata: token types are GGUF's 1 normal, 2 unknown, 3 control, 4 added, 6 byte."""
    ids = json.loads(path.read_text())["model"]["vocab"]
    tokens = [token for token, _ in sorted(ids.items(), key=lambda item: item[1])]
    added = [*REFLECTION, "<pad>"]
    if len(tokens) + len(added) != size:
        sys.exit(f"{path}: {len(tokens)} tokens and Self-RAG's {len(added)} are not the geometry's {size}")
    types = [2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259) + [4] * len(added)
    scores = [0.0 if at < 259 else float(259 - at) for at in range(size)]
    return {"tokenizer.ggml.tokens": tokens + added, "tokenizer.ggml.scores": scores, "tokenizer.ggml.token_type": types}


def random_rows(kind: str, columns: int, rng: np.random.Generator) -> bytes:
    """`ROWS` rows whose values spread by about 0.02 around zero."""
    if kind == "f32":
        return np.ones(columns, "<f4").tobytes()
    if kind == "f16":
        return (rng.standard_normal((ROWS, columns)) * 0.02).astype("<f2").tobytes()
    _, block, size = FORMATS[kind]
    blocks = rng.integers(0, 256, (ROWS * columns // block, size), dtype=np.uint8)
    # Four bits have a spread of 4.6 around 7.5. q4_0 takes 8 off; q4_k scales by six bits and takes a scaled minimum off.
    scales = [0.02 / 4.6] if kind == "q4_0" else [0.02 / 4.6 / 32, 7.5 * 0.02 / 4.6 / 32]
    blocks[:, : 2 * len(scales)] = np.frombuffer(np.array(scales, "<f2").tobytes(), np.uint8)
    return blocks.tobytes()


def tensors(g: Geometry, kind: str) -> list[tuple[str, str, int, int]]:
    """Name, format, rows and columns."""
    out = [("token_embd.weight", kind, g.vocabulary, g.hidden), ("output.weight", kind, g.vocabulary, g.hidden),
           ("output_norm.weight", "f32", 1, g.hidden)]
    for i in range(g.layers):
        square = [(f"blk.{i}.attn_{part}.weight", kind, g.hidden, g.hidden) for part in ("q", "k", "v", "output")]
        wide = [(f"blk.{i}.ffn_{part}.weight", kind, g.feed_forward, g.hidden) for part in ("gate", "up")]
        norms = [(f"blk.{i}.{part}_norm.weight", "f32", 1, g.hidden) for part in ("attn", "ffn")]
        out += square + wide + norms + [(f"blk.{i}.ffn_down.weight", kind, g.hidden, g.feed_forward)]
    return out


def write(file: BinaryIO, g: Geometry, kind: str, tokenizer: Path | None) -> None:
    meta = {
        "general.architecture": "llama", "general.name": "random", "general.file_type": FILE_TYPES[kind],
        "llama.vocab_size": g.vocabulary, "llama.context_length": g.context_length, "llama.embedding_length": g.hidden,
        "llama.feed_forward_length": g.feed_forward, "llama.block_count": g.layers, "llama.attention.head_count": g.heads,
        "llama.attention.head_count_kv": g.heads, "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": g.hidden // g.heads, "tokenizer.ggml.model": "llama" if tokenizer else "none",
        **(vocabulary(tokenizer, g.vocabulary) if tokenizer else {}),
    }
    listed = tensors(g, kind)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(meta)) + b"".join(pair(k, v) for k, v in meta.items())
    offset = 0
    for name, form, rows, columns in listed:
        number, block, size = FORMATS[form]
        dims = (columns,) if rows == 1 else (columns, rows)
        head += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, offset)
        offset += -(-rows * columns // block * size // ALIGN) * ALIGN
    file.write(head + b"\0" * (-len(head) % ALIGN))
    rng = np.random.default_rng(0)
    made: dict[tuple[str, int], bytes] = {}
    for _, form, rows, columns in listed:
        _, block, size = FORMATS[form]
        if (form, columns) not in made:
            made[form, columns] = random_rows(form, columns, rng)
        some = memoryview(made[form, columns])
        left = total = rows * columns // block * size
        while left:
            left -= file.write(some[:left])
        file.write(b"\0" * (-total % ALIGN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", choices=FILE_TYPES, default="q4_0")
    parser.add_argument("--geometry", choices=GEOMETRIES, default="llama2-7b")
    parser.add_argument("--tokenizer", type=Path, help="Llama-2's tokenizer.json")
    args = parser.parse_args()
    with open(args.out, "wb") as file:
        write(file, GEOMETRIES[args.geometry], args.type, args.tokenizer)
    print(f"wrote {args.out} ({args.out.stat().st_size / 1e9:.2f} GB)", file=sys.stderr)


if __name__ == "__main__":
    main()
