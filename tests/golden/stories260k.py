"""stories260K (Karpathy, MIT): llama2.c's checkpoint v1 as a Hugging Face folder with logits and greedy text.

    stories260k.py /work/shared/data

The conversion is checked against llama2.c's own published greedy text (`test_stories260K` in its test_all.py).
"""

import struct
import sys
from pathlib import Path

import numpy as np
import torch
from common import HERE, floats, greedy, logits_of, margin, unpermute, write_f32, write_json
from transformers import LlamaConfig, LlamaForCausalLM

EXPECTED = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball."
PROMPT = "In the forest there was a rabbit"  # its greedy text has no near tie: the smallest margin of 100 steps is 0.04


def read_checkpoint(path: Path) -> LlamaForCausalLM:
    """Format v1: 256-byte header ('ak42', version, seven sizes, shared-classifier byte), then f32 tensors by kind, layer after layer."""
    data = path.read_bytes()
    magic, version, dim, hidden, n_layers, n_heads, n_kv, vocab, context, tied = struct.unpack("<I8iB", data[:37])
    assert magic == 0x616B3432 and version == 1 and tied == 1
    values, at = torch.from_numpy(np.frombuffer(data, "<f4", offset=256).copy()), 0

    def take(*shape: int) -> torch.Tensor:
        nonlocal at
        n = int(np.prod(shape))
        at += n
        return values[at - n : at].view(*shape)

    head, kv, state = dim // n_heads, dim // n_heads * n_kv, {}
    kinds = [
        ("input_layernorm", (dim,)), ("post_attention_layernorm", (dim,)), None,
        ("self_attn.q_proj", (dim, dim)), ("self_attn.k_proj", (kv, dim)), ("self_attn.v_proj", (kv, dim)), ("self_attn.o_proj", (dim, dim)),
        ("mlp.gate_proj", (hidden, dim)), ("mlp.down_proj", (dim, hidden)), ("mlp.up_proj", (hidden, dim)),
    ]  # fmt: skip
    for kind in kinds:
        if kind is None:
            state["model.norm.weight"], state["model.embed_tokens.weight"] = take(dim), take(vocab, dim)
            continue
        for layer in range(n_layers):
            weight = take(*kind[1])
            if kind[0].endswith(("q_proj", "k_proj")):
                weight = unpermute(weight, weight.shape[0] // head)
            state[f"model.layers.{layer}.{kind[0]}.weight"] = weight
    assert at == len(values), f"{len(values) - at} values left over"
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = LlamaForCausalLM(LlamaConfig(
        hidden_size=dim, intermediate_size=hidden, num_hidden_layers=n_layers, num_attention_heads=n_heads, num_key_value_heads=n_kv,
        head_dim=head, vocab_size=vocab, max_position_embeddings=context, rope_theta=10000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    ))  # fmt: skip
    model.load_state_dict(state, strict=True)
    return model.eval()


class Vocabulary:
    """llama2.c's tokenizer.bin: u32 longest piece, then per piece f32 score, u32 length, bytes."""

    def __init__(self, path: Path, n: int) -> None:
        data, at, self.pieces, self.scores = path.read_bytes(), 4, [], []
        for _ in range(n):
            score, length = struct.unpack_from("<fI", data, at)
            self.pieces.append(data[at + 8 : at + 8 + length])
            self.scores.append(score)
            at += 8 + length
        self.ids = {p: i for i, p in enumerate(self.pieces)}

    def encode(self, text: str) -> list[int]:
        """BOS, dummy space, then the best-scoring merge until none is left."""
        ids = [self.ids[bytes([b])] for b in (" " + text).encode()]
        while True:
            pairs = [(self.scores[m], -i, m) for i in range(len(ids) - 1) if (m := self.ids.get(self.pieces[ids[i]] + self.pieces[ids[i + 1]])) is not None]
            if not pairs:
                return [1] + ids
            _, i, merged = max(pairs)
            ids[-i : -i + 2] = [merged]

    def decode(self, ids: list[int]) -> str:
        pieces = (self.pieces[i] for i in ids)
        return b"".join(bytes([int(p[3:5], 16)]) if p[:3] == b"<0x" else p for p in pieces).decode(errors="replace").lstrip()


def main() -> None:
    data = Path(sys.argv[1])
    model = read_checkpoint(data / "stories260k_checkpoint_v1.bin")
    vocabulary = Vocabulary(data / "stories260k_tokenizer.bin", model.config.vocab_size)
    published, _ = greedy(model, [1], 100)
    text = vocabulary.decode(published)
    assert text.startswith(EXPECTED), f"not llama2.c's text: {text}"

    folder = HERE / "stories260k"
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokens = vocabulary.encode(PROMPT)
    logits = logits_of(model, tokens)
    tail, rows = greedy(model, tokens, 100)
    write_f32(folder / "logits.f32", logits)
    write_json(folder / "golden.json", {
        "made_by": "tests/golden/stories260k.py", "prompt": PROMPT, "tokens": tokens, "logits_shape": list(logits.shape),
        "greedy": tail, "greedy_text": vocabulary.decode(tail), "greedy_margin": float(f"{margin(rows):.4g}"),
        "from_bos": published, "from_bos_text": text, "logsumexp": floats(torch.logsumexp(logits, -1)),
    })  # fmt: skip


main()
