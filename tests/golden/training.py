"""Three optimizer steps of a small Llama with a LoRA adapter, as PyTorch, transformers and peft compute them (f32, CPU).

Writes tests/golden/training/{tied,untied}/: config.json and model.safetensors (the base), steps.safetensors. Two layers of odd sizes, two query heads for each key head, LoRA on all seven projections,
the rows of three new tokens trained (`trainable_token_indices`; of embedding and, where it is untied, head), padded rows with an attention
mask, labels with masked stretches, two micro-batches a step (each one's mean over its counted tokens, divided by two), clipping by the
global norm, AdamW with weight decay 0.01, linear schedule with a warm-up of one step of five.

full.safetensors has the same three steps of full fine-tuning (no adapter, every weight trained, norms decayed too): `gradient.*` of the first
step, `end.*` all weights, by the model's names; `loss`, `norm`; ids, labels, mask and rates are those of steps.safetensors.

Tensors of steps.safetensors: `start.*`, `end.*` the adapter's by PEFT's names; `gradient.*` the first step's gradients before clipping; `ids`, `labels`, `mask` (steps, micro-batches, rows, length); `loss` (steps, micro-batches), `norm`, `rate` (steps).
"""

import torch
from common import HERE
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, get_linear_schedule_with_warmup

SEED = 20261127
VOCAB, NEW = 301, 3  # rows 301 to 303 are new
STEPS, ACCUMULATION, ROWS, LENGTH = 3, 2, 3, 11
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def plain_name(name: str) -> str:
    """A parameter's name as in adapter_model.safetensors."""
    return name.replace(".default", "").replace("token_adapter.trainable_tokens_delta.default", "token_adapter.trainable_tokens_delta")


def train(model, trained: dict, ids, labels, mask) -> tuple[dict, torch.Tensor]:
    """The steps: losses, norms, first gradients and weights at the end, by name; and the rates."""
    tensors = {}
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=1, num_training_steps=5)
    losses, norms, rates = [], [], []
    for step in range(STEPS):
        for micro in range(ACCUMULATION):
            out = model(input_ids=ids[step, micro], attention_mask=mask[step, micro], labels=labels[step, micro])
            losses.append(out.loss.detach())
            (out.loss / ACCUMULATION).backward()
        if step == 0:
            tensors |= {f"gradient.{n}": t.grad.detach().clone() for n, t in trained.items()}
        norms.append(torch.nn.utils.clip_grad_norm_(list(trained.values()), 0.5).detach())
        rates.append(torch.tensor(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    assert min(norms) > 0.5, "clipping must do something"
    tensors |= {f"end.{n}": t.detach().clone() for n, t in trained.items()}
    tensors |= {"loss": torch.stack(losses).view(STEPS, ACCUMULATION), "norm": torch.stack(norms)}
    return tensors, torch.stack(rates).float()


def make(tied: bool) -> None:
    torch.manual_seed(SEED + tied)
    config = LlamaConfig(
        hidden_size=20, intermediate_size=37, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=10,
        vocab_size=VOCAB, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=tied,
        bos_token_id=1, eos_token_id=2, attn_implementation="eager",
    )  # fmt: skip
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(1 + 0.1 * torch.randn_like(weight) if weight.ndim == 1 else 0.25 * torch.randn_like(weight))
    model.resize_token_embeddings(VOCAB + NEW, mean_resizing=False)
    rows = list(range(VOCAB, VOCAB + NEW))
    base = {n: t.detach().clone() for n, t in model.state_dict().items() if not (tied and n == "lm_head.weight")}
    indices = rows if tied else {"embed_tokens": rows, "lm_head": rows}
    lora = LoraConfig(r=5, lora_alpha=10, lora_dropout=0.0, target_modules=PROJECTIONS, trainable_token_indices=indices, task_type="CAUSAL_LM")
    peft = get_peft_model(model, lora).train()
    trained = {plain_name(n): p for n, p in peft.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, weight in trained.items():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    tensors = {f"start.{n}": t.detach().clone() for n, t in trained.items()}

    ids = torch.randint(3, VOCAB + NEW, (STEPS, ACCUMULATION, ROWS, LENGTH))
    mask, labels = torch.ones_like(ids), ids.clone()
    for step in range(STEPS):
        for micro in range(ACCUMULATION):
            for row in range(ROWS):
                ids[step, micro, row, 4] = labels[step, micro, row, 4] = rows[(row + step) % NEW]
                end = LENGTH - (row + micro) % 4
                mask[step, micro, row, end:] = 0
                ids[step, micro, row, end:] = 0
                labels[step, micro, row, end:] = -100
                labels[step, micro, row, : 2 + row] = -100
                labels[step, micro, row, 6 : 6 + micro + 1] = -100

    found, rates = train(peft, trained, ids, labels, mask)
    tensors |= found
    tensors |= {"ids": ids.int(), "labels": labels.int(), "mask": mask.int(), "rate": rates}
    folder = HERE / "training" / ("tied" if tied else "untied")
    folder.mkdir(parents=True, exist_ok=True)
    config.vocab_size = VOCAB + NEW
    config.save_pretrained(folder)
    save_file({n: t.contiguous() for n, t in base.items()}, folder / "model.safetensors", {"format": "pt"})
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "steps.safetensors", {"made_by": "tests/golden/training.py"})
    whole = LlamaForCausalLM(config).float().train()
    missing, unexpected = whole.load_state_dict(base, strict=False)
    assert not unexpected and missing == (["lm_head.weight"] if tied else []), (missing, unexpected)
    whole.tie_weights()
    full, _ = train(whole, dict(whole.named_parameters()), ids, labels, mask)
    save_file({n: t.contiguous() for n, t in full.items()}, folder / "full.safetensors", {"made_by": "tests/golden/training.py"})
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
        print(f"wrote {file} ({file.stat().st_size} bytes)")
    for name, found in [("LoRA", tensors), ("full", full)]:
        print(f"{name}: losses {[round(float(x), 4) for x in found['loss'].flatten()]}, norms {[round(float(x), 4) for x in found['norm']]}")


make(tied=True)
make(tied=False)
