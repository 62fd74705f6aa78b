"""transformers and PEFT as most people train LoRA: bf16, SDPA, AdamW, gradients clipped, one micro-batch a step; random weights and tokens.

LoRA of rank 8 on all seven projections, no dropout, full sequences of which every token counts. `--recompute`: with gradient checkpointing.
Beside `selfrag train bench --model llama2-7b --set lora.rank=8 --set lora.dropout=0`. Prints a line of JSON; FLOPs are counted as there:
four for each token and matrix value, whatever is recomputed.
"""

import argparse
import json
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"llama2-7b": (4096, 11008, 32, 32, 32, 32016), "tinyllama-1.1b": (2048, 5632, 22, 32, 4, 32016)}

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--geometry", choices=SIZES, default="llama2-7b")
parser.add_argument("--micro", type=int, default=4)
parser.add_argument("--length", type=int, default=2048)
parser.add_argument("--steps", type=int, default=6)
parser.add_argument("--recompute", action="store_true")
parser.add_argument("--full", action="store_true", help="every weight instead of LoRA")
args = parser.parse_args()

hidden, feed_forward, layers, heads, kv_heads, vocabulary = SIZES[args.geometry]
config = LlamaConfig(
    vocab_size=vocabulary, hidden_size=hidden, intermediate_size=feed_forward, num_hidden_layers=layers,
    num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=4096, attn_implementation="sdpa",
)
torch.manual_seed(1)
torch.set_default_dtype(torch.bfloat16)
with torch.device("cuda"):
    model = LlamaForCausalLM(config)
torch.set_default_dtype(torch.float32)
model.config.use_cache = False
if args.recompute:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
if not args.full:
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets))
model.train()
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-5)
ids = torch.randint(0, vocabulary, (args.micro, args.length), device="cuda")
seconds = []
for _ in range(args.steps):
    torch.cuda.synchronize()
    start = time.perf_counter()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    seconds.append(time.perf_counter() - start)
fastest = sorted(seconds)[: (len(seconds) + 1) // 2]
tokens_per_second = args.micro * args.length * len(fastest) / sum(fastest)
kv = hidden // heads * kv_heads
values = layers * (2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * feed_forward) + vocabulary * hidden
print(json.dumps({
    "geometry": args.geometry, "method": "full" if args.full else "lora", "micro": args.micro, "length": args.length,
    "recompute": args.recompute, "tokens_per_second": round(tokens_per_second),
    "tflops": round((6 if args.full else 4) * values * tokens_per_second / 1e12, 1),
    "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1), "seconds": [round(s, 3) for s in seconds],
}))
