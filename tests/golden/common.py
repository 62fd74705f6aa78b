"""Helpers of the golden scripts: GGUF into transformers, f32 logits, small files.

The references are other people's libraries, on the CPU in f32: `transformers` runs the model, `gguf` (llama.cpp's own
Python package) dequantises the blocks, `peft` merges adapters, `tokenizers` encodes. README.md tells how to run the scripts.
"""

import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent


def write_json(path: Path, value: dict) -> None:
    """One key a line, arrays on one line: small, and still readable in a diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"wrote {path} ({path.stat().st_size} bytes)")


def write_f32(path: Path, values: torch.Tensor) -> None:
    """Raw little-endian f32, row-major; the shape stands in the JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(values.detach().to(torch.float32).contiguous().numpy().astype("<f4").tobytes())
    print(f"wrote {path} {tuple(values.shape)}")


def floats(values: torch.Tensor) -> list[float]:
    """Seven significant digits: enough for f32 and short in JSON."""
    return [float(f"{v:.7g}") for v in values.tolist()]


def read_gguf(path: str) -> LlamaForCausalLM:
    """A llama GGUF as a transformers model in f32, each block dequantised by the `gguf` package."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)

    def meta(key: str, default=None):
        field = reader.fields.get(key)
        return default if field is None else field.contents()

    assert meta("general.architecture") == "llama", "a llama GGUF is expected"
    tensors = {}
    for t in reader.tensors:
        shape = [int(n) for n in reversed(t.shape)]  # GGUF lists the innermost dimension first
        tensors[t.name] = torch.from_numpy(np.array(dequantize(t.data, t.tensor_type), dtype=np.float32).reshape(shape))

    n_heads = meta("llama.attention.head_count")
    n_kv_heads = meta("llama.attention.head_count_kv", n_heads)
    hidden = meta("llama.embedding_length")
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=meta("llama.feed_forward_length"),
        num_hidden_layers=meta("llama.block_count"),
        num_attention_heads=n_heads,
        num_key_value_heads=n_kv_heads,
        head_dim=meta("llama.attention.key_length", hidden // n_heads),
        vocab_size=tensors["token_embd.weight"].shape[0],
        max_position_embeddings=meta("llama.context_length"),
        rms_norm_eps=meta("llama.attention.layer_norm_rms_epsilon"),
        rope_theta=meta("llama.rope.freq_base", 10000.0),
        tie_word_embeddings="output.weight" not in tensors,
        bos_token_id=meta("tokenizer.ggml.bos_token_id", 1),
        eos_token_id=meta("tokenizer.ggml.eos_token_id", 2),
    )
    state = {"model.embed_tokens.weight": tensors.pop("token_embd.weight"), "model.norm.weight": tensors.pop("output_norm.weight")}
    state["lm_head.weight"] = tensors.pop("output.weight", state["model.embed_tokens.weight"])
    names = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    for name, value in tensors.items():
        _, layer, part, _ = name.split(".")
        if part in ("attn_q", "attn_k"):
            value = unpermute(value, n_heads if part == "attn_q" else n_kv_heads)
        state[f"model.layers.{layer}.{names[part]}.weight"] = value
    model = LlamaForCausalLM(config)
    model.load_state_dict(state, strict=True)
    return model.eval()


def unpermute(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Rows of q or k from interleaved RoPE pairs (GGUF, llama2.c: 0,1 · 2,3 · …) to halves (transformers: i with i + d/2)."""
    rows, cols = weight.shape
    return weight.view(n_heads, rows // n_heads // 2, 2, cols).transpose(1, 2).reshape(rows, cols).contiguous()


@torch.no_grad()
def logits_of(model: LlamaForCausalLM, tokens: list[int]) -> torch.Tensor:
    """Logits after every token: (len(tokens), vocabulary)."""
    return model(input_ids=torch.tensor([tokens])).logits[0].float()


@torch.no_grad()
def greedy(model: LlamaForCausalLM, tokens: list[int], n: int, stop: int | None = None) -> tuple[list[int], list[torch.Tensor]]:
    """Up to `n` arg-max tokens and the logits each was taken from; the token `stop` ends it and is kept."""
    ids, cache, out, rows = torch.tensor([tokens]), None, [], []
    for _ in range(n):
        step = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache, row = step.past_key_values, step.logits[0, -1].float()
        token = int(row.argmax())
        out.append(token)
        rows.append(row)
        if token == stop:
            break
        ids = torch.tensor([[token]])
    return out, rows


def margin(rows: list[torch.Tensor]) -> float:
    """Smallest gap between best and second logit: what a reader's rounding may cost before a greedy token changes."""
    return min(float(r.topk(2).values.diff().abs()) for r in rows)
