"""Two random Llamas with odd sizes and grouped-query attention: `tied` (f32) and `untied` (bfloat16 weights,
RoPE base 7000: a reader that falls back to 10,000 must fail).

Writes tests/golden/tiny_llama/{tied,untied}/: a Hugging Face folder and `logits.f32`, the f32 logits after each of 23 tokens.
"""

import torch
from common import HERE, floats, greedy, logits_of, margin, write_f32, write_json
from transformers import LlamaConfig, LlamaForCausalLM

SEED = 20260523
N_TOKENS = 23


def build(tied: bool) -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=60, intermediate_size=101, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=10,
        vocab_size=307, max_position_embeddings=128, rope_theta=10000.0 if tied else 7000.0, rms_norm_eps=1e-5, tie_word_embeddings=tied,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Norm weights around 1 but not 1: a reader that forgets them must fail.
            torch.nn.init.normal_(weight, mean=1.0 if "norm" in name else 0.0, std=0.2)
    return model


def main() -> None:
    print(f"seed {SEED}")
    for variant, tied in (("tied", True), ("untied", False)):
        torch.manual_seed(SEED + int(tied))
        model = build(tied)
        if variant == "untied":
            model = model.to(torch.bfloat16)
        folder = HERE / "tiny_llama" / variant
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        # The rounded weights, computed with in f32. Not model.to(float32): that would keep RoPE's frequencies rounded to bfloat16.
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tokens = torch.randint(3, 307, (N_TOKENS,)).tolist()
        logits = logits_of(model, tokens)
        tail, rows = greedy(model, tokens, 16)
        write_f32(folder / "logits.f32", logits)
        write_json(folder / "golden.json", {
            "made_by": "tests/golden/tiny_llama.py", "seed": SEED + int(tied), "tokens": tokens, "logits_shape": list(logits.shape),
            "greedy": tail, "greedy_margin": float(f"{margin(rows):.4g}"),
            "logsumexp": floats(torch.logsumexp(logits, -1)),
        })  # fmt: skip


main()
