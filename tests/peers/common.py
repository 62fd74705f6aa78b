"""What the peers' scripts share: the geometries, the command line, the JSON lines, and how to time.

Every script prints one JSON object a line to standard output, all else to standard error:

    {"peer": "transformers", "weights": "f16", "workload": "decode", "tokens_per_sec": 31.0, "seconds": 3.2, "detail": "…"}
    {"peer": "llama.cpp", "missing": "no module named 'cyllama'"}

The workloads have the names and sizes of `selfrag bench` (engine/src/bench/mod.rs); `encode-*` count passages instead of
tokens, `search` is seconds a question. Weights are random and made on the spot: speed does not depend on their values.
`--geometry tiny --device cpu` tries the code without a GPU; its numbers mean nothing.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """Sizes of a Llama."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    vocabulary: int
    context_length: int = 4096


GEOMETRIES = {
    "llama2-7b": Geometry(layers=32, hidden=4096, feed_forward=11_008, heads=32, vocabulary=32_016),
    "tiny": Geometry(layers=2, hidden=256, feed_forward=512, heads=4, vocabulary=512),
}

# The workloads' sizes, those of engine/src/bench/mod.rs.
PREFIX = 256  # tokens of context before `decode` and `decode-10`, and of each sequence of `prefill`
DEEP = 2048  # tokens of context before `decode-2048`
MANY = 10  # sequences of `decode-10` and `prefill`, passages of `short-form`
PROMPT, PASSAGE, NEW = 50, 150, 100  # tokens of `short-form`
WARM_UP = 4  # tokens of an answer that warm everything up


def arguments(doc: str | None, peer: str, dtype: bool = False) -> argparse.ArgumentParser:
    """The options that all scripts have."""
    parser = argparse.ArgumentParser(description=(doc or peer).split("\n")[0])
    parser.add_argument("--geometry", choices=GEOMETRIES, default="llama2-7b")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the code")
    parser.add_argument("--steps", type=int, default=100, help="tokens that a decode workload writes")
    if dtype:
        parser.add_argument("--dtype", choices=["f16", "bf16"], default="f16")
    return parser


def emit(peer: str, **fields: object) -> None:
    """One result."""
    rounded = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in fields.items()}
    print(json.dumps({"peer": peer} | rounded, ensure_ascii=False), flush=True)


def missing(peer: str, why: object) -> None:
    """Says that the peer cannot run here and ends the script: that is no failure."""
    emit(peer, missing=str(why))
    sys.exit(0)


def say(text: str) -> None:
    """Progress."""
    print(f"{text} …", file=sys.stderr, flush=True)


def tokens(count: int, seed: int, vocabulary: int) -> list[int]:
    """The same tokens as `selfrag bench`, where the vocabulary has them."""
    return [((i * 37 + seed * 101) % 30_000 + 100) % vocabulary for i in range(count)]


def seconds(run: Callable[[], object], times: int = 1) -> float:
    """Wall time of `run`, which waits for the device itself; the best of several."""
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def torch_or_missing(peer: str, device: str):
    """PyTorch with that device, or the end of the script."""
    try:
        import torch
    except ImportError as e:
        missing(peer, e)
    if device == "cuda" and not torch.cuda.is_available():
        missing(peer, "PyTorch sees no CUDA device")
    return torch


def synchronizer(torch, device: str) -> Callable[[], None]:
    """Waits for the device."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None
