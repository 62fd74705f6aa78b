"""llama.cpp through `cyllama`, whose wheels hold a Vulkan build (`cyllama-vulkan`), on random weights from random_gguf.py.

The workloads are those of `selfrag bench`, in the same order of calls: one llama_decode a step, greedy sampling on the host,
ten sequences that share their prefix's cache (memory_seq_cp over one unified cache). Flash attention and batch sizes are
llama.cpp's defaults. Each format's file is written to --folder and removed again.
"""

import os
import tempfile
from pathlib import Path

from common import (DEEP, GEOMETRIES, MANY, NEW, PASSAGE, PREFIX, PROMPT, WARM_UP, arguments, emit, missing, say, seconds,
                    tokens)

parser = arguments(__doc__, "llama.cpp")
parser.add_argument("--types", default="q4_0,q4_k,f16")
parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the model files go: 4 to 13 GB")
args = parser.parse_args()
ON_GPU = args.device != "cpu"
PEER = "llama.cpp"
try:
    import random_gguf  # numpy
    from cyllama.llama import llama_cpp as cpp
except ImportError as e:
    missing(PEER, e)

cpp.disable_logging()
cpp.ggml_backend_load_all()
gpus = [device for device in cpp.ggml_backend_dev_info() if "GPU" in device["type"].upper()]
if ON_GPU and not gpus:
    missing(PEER, f"it finds no GPU; its backends: {', '.join(cpp.ggml_backend_reg_names())}")
where = next((name for name in cpp.ggml_backend_reg_names() if name != "CPU"), "CPU") if ON_GPU else "CPU"
g = GEOMETRIES[args.geometry]


class Bench:
    """A loaded model with one context."""

    def __init__(self, path: Path):
        params = cpp.LlamaModelParams()
        params.n_gpu_layers = 999 if ON_GPU else 0
        self.model = cpp.LlamaModel(str(path), params, verbose=False)
        params = cpp.LlamaContextParams()
        deepest = max(DEEP, MANY * PREFIX, PROMPT + MANY * (PASSAGE + NEW))
        params.n_ctx = deepest + MANY * (args.steps + WARM_UP) + 256
        params.n_batch = MANY * PREFIX
        params.n_seq_max = MANY + 1
        params.n_outputs_max = MANY + 1
        params.kv_unified = True
        if not ON_GPU:
            params.n_threads = params.n_threads_batch = os.cpu_count() or 1
        self.context = cpp.LlamaContext(self.model, params, verbose=False)
        self.sampler = cpp.LlamaSampler(cpp.LlamaSamplerChainParams())
        self.sampler.add_greedy()
        self.batch = cpp.LlamaBatch(n_tokens=params.n_batch, embd=0, n_seq_max=MANY + 1)

    def forward(self, parts: list[tuple[int, int, list[int]]]) -> list[int]:
        """Sequence, position and tokens of each part; the token after each."""
        self.batch.reset()
        lasts, at = [], -1
        for seq, position, ids in parts:
            for i, token in enumerate(ids):
                self.batch.add(token, position + i, [seq], i + 1 == len(ids))
            at += len(ids)
            lasts.append(at)
        self.context.decode(self.batch)
        return [self.sampler.sample(self.context, at) for at in lasts]

    def forks(self, count: int, prefix: list[int]) -> None:
        """Sequences 1 to `count` over the prefix that sequence 0 read."""
        self.context.kv_cache_clear()
        self.forward([(0, 0, prefix)])
        for seq in range(1, count + 1):
            self.context.memory_seq_cp(0, seq, -1, -1)

    def steps(self, position: int, next: list[int], count: int) -> list[int]:
        for i in range(count):
            next = self.forward([(seq + 1, position + i, [token]) for seq, token in enumerate(next)])
        return next

    def decode(self, count: int, context: int) -> float:
        self.forks(count, tokens(context, 0, g.vocabulary))
        next = self.steps(context, tokens(count, 1, g.vocabulary), WARM_UP)
        return seconds(lambda: self.steps(context + WARM_UP, next, args.steps))

    def prefill(self) -> float:
        parts = [(seq, 0, tokens(PREFIX, seq, g.vocabulary)) for seq in range(MANY)]

        def run() -> None:
            self.context.kv_cache_clear()
            self.forward(parts)

        return seconds(run, 3)

    def short_form(self) -> float:
        def run() -> None:
            self.forks(MANY, tokens(PROMPT, 0, g.vocabulary))
            passages = [(i + 1, PROMPT, tokens(PASSAGE, i, g.vocabulary)) for i in range(MANY)]
            self.steps(PROMPT + PASSAGE, self.forward(passages), NEW - 1)

        return seconds(run, 2)


for kind in args.types.split(","):
    path = args.folder / f"random-{args.geometry}-{kind}-{os.getpid()}.gguf"
    try:
        say(f"{kind}: writing random weights")
        with open(path, "wb") as file:
            random_gguf.write(file, g, kind)
        say(f"{kind}: loading")
        bench = Bench(path)
        detail = f"{where}, llama.cpp {cpp.llama_version()}, greedy on the host, prefixes shared"

        def row(workload: str, count: int, secs: float) -> None:
            emit(PEER, weights=kind, workload=workload, tokens_per_sec=count / secs, seconds=secs, detail=detail)

        say(f"{kind}: measuring")
        row("decode", args.steps, bench.decode(1, PREFIX))
        row("decode-10", MANY * args.steps, bench.decode(MANY, PREFIX))
        row("short-form", MANY * NEW, bench.short_form())
        row("decode-2048", args.steps, bench.decode(1, DEEP))
        row("prefill", MANY * PREFIX, bench.prefill())
        bench = None
    finally:
        path.unlink(missing_ok=True)
