"""Makes weights/: a tiny Llama as safetensors shards, as torch shards and with a PEFT adapter; what transformers and PEFT say it holds.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install torch transformers peft && /tmp/venv/bin/python weights.py

weights/llama        config.json, model-0000k-of-00002.safetensors with index, tokenizer.json (bytes, BPE), f32, own head
weights/llama-torch  the same model in bf16 as pytorch_model-0000k-of-00002.bin with index
weights/adapter      LoRA (r 4, alpha 6, rank-stabilised, own alpha for down_proj) on all projections, trainable_token_indices of 4 old and 4 new rows
weights/merged       merge_and_unload() of it, f32 safetensors in one file
weights/tied         a tied base (embedding of 40 rows only) and weights/tied-adapter, tied-merged, likewise
"""

import json
import pathlib
import shutil

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

here = pathlib.Path(__file__).parent / "weights"
shutil.rmtree(here, ignore_errors=True)
torch.manual_seed(0)


def tokenizer(n, extra):
    vocab = {chr(0x21 + i): i for i in range(n - 4)}
    for i, pair in enumerate(["!\"", "#$", "!\"#$", "%&"]):
        vocab[pair] = n - 4 + i
    added = [{"id": n + i, "content": f"[new {i}]", "special": True} for i in range(extra)]
    model = {"type": "BPE", "vocab": vocab, "merges": ["! \"", "# $", "!\" #$", "% &"], "byte_fallback": False}
    return {"version": "1.0", "added_tokens": added, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
            "decoder": {"type": "ByteLevel"}, "model": model}


def make(name, tied):
    config = LlamaConfig(vocab_size=40, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=3,
                         num_key_value_heads=1, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=50000.0, tie_word_embeddings=tied)
    model = LlamaForCausalLM(config)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    folder = here / name
    model.save_pretrained(folder, max_shard_size="1GB" if tied else "16KB")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(40, 0)))
    (folder / "generation_config.json").unlink(missing_ok=True)
    return model


def adapt(model, name, tied):
    base_rows = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(base_rows + 4)
    lora = LoraConfig(r=4, lora_alpha=6, use_rslora=True, alpha_pattern={"down_proj": 9}, task_type="CAUSAL_LM",
                      target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
                      trainable_token_indices=None if not tied else [3, 17, 5, 30, 40, 41, 42, 43],
                      modules_to_save=None if tied else ["embed_tokens", "lm_head"])
    peft = get_peft_model(model, lora)
    for p in peft.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.3)
    peft.save_pretrained(here / f"{name}adapter", save_embedding_layers=False)
    (here / f"{name}adapter" / "README.md").unlink(missing_ok=True)
    (here / f"{name}adapter" / "tokenizer.json").write_text(json.dumps(tokenizer(40, 4)))
    merged = peft.merge_and_unload()
    merged.save_pretrained(here / f"{name}merged")
    (here / f"{name}merged" / "generation_config.json").unlink(missing_ok=True)


model = make("llama", False)
# transformers writes safetensors only, so the torch shards are made by torch.save, as it did until 2024.
state = {k: v.to(torch.bfloat16) for k, v in model.state_dict().items()}
folder = here / "llama-torch"
folder.mkdir()
names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
half = len(state) // 2
shards = [dict(list(state.items())[:half]), torch.nn.Module().state_dict()]
shards[1].update(dict(list(state.items())[half:]))  # an OrderedDict with _metadata
for file, shard in zip(names, shards):
    torch.save(shard, folder / file)
index = {"metadata": {}, "weight_map": {k: names[0] if i < half else names[1] for i, k in enumerate(state)}}
(folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
shutil.copy(here / "llama" / "config.json", folder)
adapt(model, "", False)
adapt(make("tied", True), "tied-", True)
