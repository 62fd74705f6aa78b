"""The tiny Llama as a sharded torch checkpoint with a PEFT adapter, and PEFT's own merge of the two.

Writes tests/golden/tiny_peft/: `base/` (pytorch_model-0000x-of-0000y.bin with index, bfloat16 and f32 storages), `adapter/` (LoRA
r 4 over all seven projections, three new token rows by `trainable_token_indices`) and `merged.safetensors` (f32,
`merge_and_unload`) with logits of the merged model after 23 tokens.
"""

import json
import shutil

import torch
from common import HERE, floats, logits_of, write_f32, write_json
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

SEED = 20260525
VOCAB, NEW = 307, 3  # rows 307, 308, 309 are added by the adapter
SHARDS = 3
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def save_torch_shards(model: LlamaForCausalLM, folder) -> None:
    """torch.save shards with an index, as transformers wrote them before safetensors; norms stay f32, matrices are bfloat16."""
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    state = {n: t if "norm" in n else t.to(torch.bfloat16) for n, t in model.state_dict().items() if n != "lm_head.weight"}
    names, weight_map = list(state), {}
    for shard in range(SHARDS):
        file = f"pytorch_model-{shard + 1:05}-of-{SHARDS:05}.bin"
        part = {n: state[n] for n in names[shard::SHARDS]}
        if shard == 1:
            # Two tensors as views of one storage: offsets must be honoured. (Transposed views are refused by our reader.)
            pair = [n for n in part if n.endswith(("q_proj.weight", "o_proj.weight"))][:2]
            assert len(pair) == 2
            storage = torch.cat([part[pair[0]].flatten(), part[pair[1]].flatten()])
            rows, cols = part[pair[0]].shape
            second = storage[rows * cols :].view(part[pair[1]].shape)
            assert torch.equal(second, part[pair[1]])
            part[pair[0]], part[pair[1]] = storage[: rows * cols].view(rows, cols), second
        torch.save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    total = sum(t.numel() * t.element_size() for t in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def load_base(folder) -> LlamaForCausalLM:
    """The shards through torch's own reader, in f32."""
    model = LlamaForCausalLM.from_pretrained(HERE / "tiny_llama" / "tied", dtype=torch.float32)
    state = {}
    for file in sorted(folder.glob("*.bin")):
        state |= torch.load(file, weights_only=True)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict({n: t.float() for n, t in state.items()}, strict=True)
    return model


def main() -> None:
    print(f"seed {SEED}")
    torch.manual_seed(SEED)
    folder = HERE / "tiny_peft"
    shutil.rmtree(folder, ignore_errors=True)
    save_torch_shards(LlamaForCausalLM.from_pretrained(HERE / "tiny_llama" / "tied", dtype=torch.float32), folder / "base")

    model = load_base(folder / "base")
    model.resize_token_embeddings(VOCAB + NEW, mean_resizing=False)
    rows = list(range(VOCAB, VOCAB + NEW))
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=PROJECTIONS, trainable_token_indices=rows, task_type="CAUSAL_LM")
    peft = get_peft_model(model, lora)
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.2)
    peft.save_pretrained(folder / "adapter", save_embedding_layers=False)
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    config |= {"base_model_name_or_path": "tiny_peft/base", "target_modules": sorted(config["target_modules"])}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")

    # Merged from the files, so that the golden says what the files say.
    model = load_base(folder / "base")
    model.resize_token_embeddings(VOCAB + NEW, mean_resizing=False)
    merged = PeftModel.from_pretrained(model, folder / "adapter").merge_and_unload().eval()
    assert merged.lm_head.weight.data_ptr() == merged.get_input_embeddings().weight.data_ptr(), "the head lost its tie"
    with safe_open(folder / "adapter" / "adapter_model.safetensors", "pt") as file:
        # `trainable_tokens_delta` is a misnomer: the stored rows replace the embedding's, they are not added to it.
        stored = file.get_tensor("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta")
    assert torch.equal(merged.get_input_embeddings().weight[rows], stored)
    state = {n: t.contiguous() for n, t in merged.state_dict().items() if n != "lm_head.weight"}
    save_file(state, folder / "merged.safetensors")
    tokens = torch.randint(3, VOCAB, (20,)).tolist() + rows
    logits = logits_of(merged, tokens)
    write_f32(folder / "logits.f32", logits)
    write_json(folder / "golden.json", {
        "made_by": "tests/golden/tiny_peft.py", "seed": SEED, "tokens": tokens, "logits_shape": list(logits.shape), "new_rows": rows,
        "logsumexp": floats(torch.logsumexp(logits, -1)),
    })  # fmt: skip
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)


main()
