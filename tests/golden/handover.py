"""An adapter handed from `selfrag train` to peft, trained on there, and handed back: handover.py SELFRAG (a build with `--features training`).

Writes tests/golden/handover/: `base/` (a tiny random Llama with SentencePiece's tiny vocabulary), `rows.jsonl`, `ours/` (the adapter after two
steps of `selfrag train`), `theirs/` (the same after two more steps of AdamW in PyTorch, as `save_pretrained` writes it) and batch.safetensors:
`ids` and `labels` of a made-up batch, `ours` and `theirs` its mean loss as peft computes it with either adapter.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from common import HERE
from peft import PeftModel
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor
from transformers import LlamaConfig, LlamaForCausalLM

SEED = 20261128
FOLDER = HERE / "handover"
KEPT = ["adapter_config.json", "adapter_model.safetensors", "added_tokens.json"]


def make_base() -> None:
    base = FOLDER / "base"
    base.mkdir(parents=True)
    shutil.copy(HERE / "tokenizer" / "tiny.model", base / "tokenizer.model")
    vocabulary = SentencePieceProcessor(model_file=str(base / "tokenizer.model")).vocab_size()
    torch.manual_seed(SEED)
    config = LlamaConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=vocabulary,
        max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(1 + 0.1 * torch.randn_like(weight) if weight.ndim == 1 else 0.25 * torch.randn_like(weight))
    config.save_pretrained(base)
    save_file({n: t.contiguous() for n, t in model.state_dict().items() if n != "lm_head.weight"}, base / "model.safetensors", {"format": "pt"})
    rows = [
        {"instruction": f"who is {i}?", "output": f"[Retrieval]<paragraph>t\nme {i}</paragraph>[Relevant]me[Fully supported][Utility:5]"}
        for i in range(4)
    ]
    (FOLDER / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def train_ours(selfrag: str) -> None:
    with tempfile.TemporaryDirectory() as out:
        settings = {"lora.alpha": 6, "lora.rank": 3, "lora.dropout": 0, "max_steps": 2, "micro_batch": 2, "accumulation": 2, "learning_rate": 0.01}
        options = [f"--set={name}={value}" for name, value in (settings | {"max_length": 160, "save_every": 2}).items()]
        paths = ["--model", FOLDER / "base", "--data", FOLDER / "rows.jsonl", "--output", out]
        subprocess.run([selfrag, "train", "generator", *paths, *options], check=True)
        (FOLDER / "ours").mkdir()
        for name in KEPT:
            if (file := Path(out) / "step-0000002" / name).exists():
                shutil.copy(file, FOLDER / "ours" / name)


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    make_base()
    train_ours(sys.argv[1])
    indices = json.loads((FOLDER / "ours" / "adapter_config.json").read_text())["trainable_token_indices"]
    model = LlamaForCausalLM.from_pretrained(FOLDER / "base", dtype=torch.float32)
    model.resize_token_embeddings(max(indices) + 1, mean_resizing=False)
    peft = PeftModel.from_pretrained(model, FOLDER / "ours", is_trainable=True).train()
    for name, tensor in load_file(FOLDER / "ours" / "adapter_model.safetensors").items():
        loaded = {n.replace(".default", ""): p for n, p in peft.named_parameters()}[name]
        assert torch.equal(loaded, tensor), name
    ids = torch.randint(3, max(indices) + 1, (3, 13))
    ids[:, 5] = torch.tensor(indices[:3])
    labels = ids.clone()
    labels[:, :3] = -100
    loss = lambda: peft(input_ids=ids, labels=labels).loss
    tensors = {"ids": ids.int(), "labels": labels.int(), "ours": loss().detach().view(1)}
    optimizer = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
    tensors["theirs"] = loss().detach().view(1)
    peft.save_pretrained(FOLDER / "theirs")
    (FOLDER / "theirs" / "README.md").unlink(missing_ok=True)
    save_file(tensors, FOLDER / "batch.safetensors", {"made_by": "tests/golden/handover.py"})
    for file in FOLDER.rglob("*.safetensors"):
        file.chmod(0o644)
    print({name: float(tensors[name]) for name in ("ours", "theirs")})


main()
