"""transformers as most people run it: `generate`, eager, greedy, f16, its default cache and attention.

`decode`: one sequence of 256 tokens; the time of `generate` with steps + 1 new tokens less that with one, so that the prompt
does not count. `short-form`: ten prompts of 200 tokens in one batch, 100 new tokens each, all of it.
"""

from common import (GEOMETRIES, MANY, NEW, PASSAGE, PREFIX, PROMPT, arguments, emit, missing, say, seconds, synchronizer,
                    tokens, torch_or_missing)

PEER = "transformers"
args = arguments(__doc__, PEER, dtype=True).parse_args()
torch = torch_or_missing(PEER, args.device)
try:
    import transformers
    from transformers import LlamaConfig, LlamaForCausalLM
except ImportError as e:
    missing(PEER, e)

g = GEOMETRIES[args.geometry]
synchronize = synchronizer(torch, args.device)
config = LlamaConfig(
    vocab_size=g.vocabulary, hidden_size=g.hidden, intermediate_size=g.feed_forward, num_hidden_layers=g.layers,
    num_attention_heads=g.heads, num_key_value_heads=g.heads, max_position_embeddings=g.context_length,
    bos_token_id=None, eos_token_id=None, pad_token_id=None,
)
say("random weights")
before = torch.get_default_dtype()
torch.set_default_dtype({"f16": torch.float16, "bf16": torch.bfloat16}[args.dtype])
with torch.device(args.device):
    model = LlamaForCausalLM(config).eval()
torch.set_default_dtype(before)
model.generation_config.eos_token_id = None  # Random weights may say it at any time.
model.generation_config.pad_token_id = 0


def generate(prompts: list[list[int]], new: int) -> float:
    ids = torch.tensor(prompts, device=args.device)

    def run() -> None:
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)
        assert out.shape[1] == ids.shape[1] + new, "it stopped early"
        synchronize()

    return seconds(run)


detail = f"generate, eager, attention {model.config._attn_implementation}, transformers {transformers.__version__}"
common = {"peer": PEER, "weights": args.dtype}
say("decode")
prompt = [tokens(PREFIX, 0, g.vocabulary)]
generate(prompt, 4)
secs = generate(prompt, args.steps + 1) - generate(prompt, 1)
emit(**common, workload="decode", tokens_per_sec=args.steps / secs, seconds=secs, detail=detail)
say("short-form")
prompts = [tokens(PROMPT, 0, g.vocabulary) + tokens(PASSAGE, i, g.vocabulary) for i in range(MANY)]
generate(prompts, 4)
secs = generate(prompts, NEW)
emit(**common, workload="short-form", tokens_per_sec=MANY * NEW / secs, seconds=secs, detail=detail + ", nothing shared")
