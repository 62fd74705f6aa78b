"""PyTorch at its best: a Llama with a static KV cache, compiled layers and CUDA graphs.

`decode`, `decode-10`, `decode-2048`: a step is one CUDA graph of layers compiled by Inductor (with coordinate descent, which
turns products with one token into reductions), the arg-max fed back on the device, the new tokens read by the host after every
step, as an answer that is streamed needs it. Attention is tried twice, as scaled_dot_product_attention and as two plain
products; the faster counts. `prefill`: eager, causal scaled_dot_product_attention, all logits but the last left out, best of
three. `short-form`: eager prefill of ten times prompt and passage, then the graph. The ten sequences share no cache here.

A layer is compiled once for all layers: as fast as compiling the whole model, in seconds instead of minutes.
"""

import math

from common import (DEEP, GEOMETRIES, MANY, NEW, PASSAGE, PREFIX, PROMPT, WARM_UP, Geometry, arguments, emit, say, seconds,
                    synchronizer, tokens, torch_or_missing)

PEER = "PyTorch compiled"
parser = arguments(__doc__, PEER, dtype=True)
parser.add_argument("--workloads", default="prefill,decode,decode-10,short-form,decode-2048")
args = parser.parse_args()
torch = torch_or_missing(PEER, args.device)

import torch._dynamo  # noqa: E402
import torch._inductor.config  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

g = GEOMETRIES[args.geometry]
synchronize = synchronizer(torch, args.device)
DTYPE = {"f16": torch.float16, "bf16": torch.bfloat16}[args.dtype]
ON_GPU = args.device == "cuda"


def random(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=DTYPE, device=args.device).normal_(std=0.02)


def norm(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * weight


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of [..., head]; cos and sin hold half a head."""
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def feed_forward(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    gate, up = F.linear(norm(x, w["norm2"]), w["gate_up"]).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, w["down"])


def decode_layer(x: Tensor, w: dict[str, Tensor], k_cache: Tensor, v_cache: Tensor, position: Tensor, cos: Tensor, sin: Tensor,
                 seen: Tensor, sdpa: bool) -> Tensor:
    """One new token a sequence: x [batch, hidden], caches [batch, heads, length, head], seen [length]."""
    batch, heads, _, head = k_cache.shape
    q, k, v = F.linear(norm(x, w["norm1"]), w["qkv"]).view(batch, 3, heads, 1, head).unbind(1)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    k_cache[:, :, position], v_cache[:, :, position] = k, v
    if sdpa:
        mixed = F.scaled_dot_product_attention(q, k_cache, v_cache, attn_mask=seen[None])
    else:
        scores = (q @ k_cache.transpose(-1, -2)).float() / math.sqrt(head)
        mixed = scores.masked_fill(~seen, -1e30).softmax(-1).to(x.dtype) @ v_cache
    x = x + F.linear(mixed.reshape(batch, -1), w["out"])
    return feed_forward(x, w)


def greedy(x: Tensor, weight: Tensor, output: Tensor) -> Tensor:
    return F.linear(norm(x, weight), output).argmax(-1)


class Llama:
    """Random weights and what is done with them."""

    def __init__(self, g: Geometry):
        self.g, self.head = g, g.hidden // g.heads
        self.embed, self.output = random(g.vocabulary, g.hidden), random(g.vocabulary, g.hidden)
        self.norm = torch.ones(g.hidden, dtype=DTYPE, device=args.device)
        self.layers = [
            {"qkv": random(3 * g.hidden, g.hidden), "out": random(g.hidden, g.hidden),
             "gate_up": random(2 * g.feed_forward, g.hidden), "down": random(g.hidden, g.feed_forward),
             "norm1": self.norm.clone(), "norm2": self.norm.clone()}
            for _ in range(g.layers)
        ]
        angles = torch.outer(torch.arange(g.context_length), 10_000.0 ** (-torch.arange(0, self.head, 2) / self.head))
        self.cos, self.sin = angles.cos().to(args.device), angles.sin().to(args.device)

    def bytes_per_token(self) -> int:
        """Weights that a pass reads: all but the embedding table."""
        parts = [self.output] + [part for layer in self.layers for part in layer.values()]
        return sum(part.numel() * part.element_size() for part in parts)

    def cache(self, batch: int, length: int) -> list[tuple[Tensor, Tensor]]:
        shape = (batch, self.g.heads, length, self.head)
        return [(random(*shape), random(*shape)) for _ in self.layers]

    def prefill(self, ids: Tensor, cache: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """Eager; the token after each sequence of `ids` [batch, length]."""
        batch, length = ids.shape
        cos, sin = self.cos[:length], self.sin[:length]
        x = self.embed[ids]
        for i, w in enumerate(self.layers):
            qkv = F.linear(norm(x, w["norm1"]), w["qkv"]).view(batch, length, 3, self.g.heads, self.head)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            if cache:
                cache[i][0][:, :, :length], cache[i][1][:, :, :length] = k, v
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + F.linear(mixed.transpose(1, 2).reshape(batch, length, -1), w["out"])
            x = feed_forward(x, w)
        return greedy(x[:, -1], self.norm, self.output)


class Decoder:
    """Greedy steps over a static cache: on a GPU one graph, replayed."""

    def __init__(self, model: Llama, batch: int, length: int, sdpa: bool):
        torch._dynamo.reset()
        self.model, self.sdpa, self.cache = model, sdpa, model.cache(batch, length)
        self.token = torch.zeros(batch, dtype=torch.long, device=args.device)
        self.position = torch.zeros(1, dtype=torch.long, device=args.device)
        self.slots = torch.arange(length, device=args.device)
        self.layer = torch.compile(decode_layer, fullgraph=True, dynamic=False)
        self.greedy = torch.compile(greedy, fullgraph=True, dynamic=False)
        self.graph = None
        if ON_GPU:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self.once()
            torch.cuda.current_stream().wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.once()

    def once(self) -> None:
        m = self.model
        x, cos, sin = m.embed[self.token], m.cos[self.position], m.sin[self.position]
        seen = self.slots <= self.position
        for w, (k, v) in zip(m.layers, self.cache):
            x = self.layer(x, w, k, v, self.position, cos, sin, seen, self.sdpa)
        self.token.copy_(self.greedy(x, m.norm, m.output))
        self.position.add_(1)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.graph.replay() if self.graph else self.once()
            self.token.tolist()

    def start(self, token: Tensor, position: int) -> None:
        self.token.copy_(token)
        self.position.fill_(position)


def timed_decode(decoder: Decoder, context: int) -> float:
    start = torch.tensor(tokens(len(decoder.token), 1, decoder.model.g.vocabulary), device=args.device)
    decoder.start(start, context)
    decoder.steps(WARM_UP)
    synchronize()
    return seconds(lambda: decoder.steps(args.steps))


def timed_short_form(decoder: Decoder) -> float:
    ids = [tokens(PROMPT, 0, g.vocabulary) + tokens(PASSAGE, i, g.vocabulary) for i in range(MANY)]

    def answer() -> None:
        batch = torch.tensor(ids, device=args.device)
        decoder.start(decoder.model.prefill(batch, decoder.cache), PROMPT + PASSAGE)
        decoder.steps(NEW - 1)

    answer()
    return seconds(answer, 2)


def result(workload: str, count: int, secs: float, detail: str) -> None:
    emit(PEER, weights=args.dtype, workload=workload, tokens_per_sec=count / secs, seconds=secs, detail=detail)


@torch.no_grad()
def main() -> None:
    torch._inductor.config.coordinate_descent_tuning = True
    wanted = args.workloads.split(",")
    say("random weights")
    model = Llama(g)
    if "prefill" in wanted:
        say("prefill")
        ids = torch.tensor([tokens(PREFIX, i, g.vocabulary) for i in range(MANY)], device=args.device)

        def prefill() -> None:
            model.prefill(ids).tolist()

        prefill()
        result("prefill", MANY * PREFIX, seconds(prefill, 3), "eager, last logits only")
    for workload, batch, context in (("decode", 1, PREFIX), ("decode-10", MANY, PREFIX), ("decode-2048", 1, DEEP)):
        wants_short_form = workload == "decode-10" and "short-form" in wanted
        if workload not in wanted and not wants_short_form:
            continue
        # Long enough for all steps and for `short-form`, and even.
        length = (max(context + WARM_UP + args.steps, PROMPT + PASSAGE + NEW) + 63) // 64 * 64
        best = (float("inf"), "")
        short_form = best
        for sdpa in (True, False):
            name = "sdpa" if sdpa else "plain products"
            say(f"{workload}, attention as {name}")
            try:
                decoder = Decoder(model, batch, length, sdpa)
                best = min(best, (timed_decode(decoder, context), name))
                if wants_short_form:
                    short_form = min(short_form, (timed_short_form(decoder), name))
            except Exception as e:  # One way may not compile where the other does.
                say(f"{name} failed: {type(e).__name__}: {str(e)[:300]}")
            decoder = None
        secs, name = best
        if not name:
            emit(PEER, missing=f"{workload} did not compile")
            continue
        if workload in wanted:
            rate = model.bytes_per_token() * args.steps / secs / 1e9
            result(workload, batch * args.steps, secs, f"attention as {name}; {rate:.0f} GB/s of weights")
        if wants_short_form and short_form[1]:
            secs, name = short_form
            result("short-form", MANY * NEW, secs, f"attention as {name}; prefill eager, nothing shared")


main()
