"""An encoder of BERT-base's size (12 layers, 768) in transformers, eager, f16: passages a second.

`encode-128`, `encode-512`: a batch of 64 passages of that many tokens, all full, their mean vectors read by the host; best of
five. `tokens_per_sec` counts tokens, `passages_per_sec` passages.
"""

from common import arguments, emit, missing, say, seconds, torch_or_missing

PEER = "transformers"
parser = arguments(__doc__, PEER, dtype=True)
parser.add_argument("--batch", type=int, default=64)
args = parser.parse_args()
torch = torch_or_missing(PEER, args.device)
try:
    from transformers import BertConfig, BertModel
except ImportError as e:
    missing(PEER, e)

TINY = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}
config = BertConfig(**(TINY if args.geometry == "tiny" else {}))
model = BertModel(config, add_pooling_layer=False).eval()
model = model.to(args.device, {"f16": torch.float16, "bf16": torch.bfloat16}[args.dtype])
for length in (128, 512):
    say(f"encoder, {length} tokens")
    ids = torch.randint(1000, 30_000, (args.batch, length), device=args.device)

    @torch.no_grad()
    def encode() -> None:
        model(ids).last_hidden_state.mean(1).cpu()

    seconds(encode, 2)
    secs = seconds(encode, 5)
    emit(PEER, weights=args.dtype, workload=f"encode-{length}", tokens_per_sec=args.batch * length / secs,
         passages_per_sec=args.batch / secs, seconds=secs,
         detail=f"BERT-base, eager, batch {args.batch}, attention {model.config._attn_implementation}")
