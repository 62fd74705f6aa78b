"""Exact search in PyTorch: one question's scores against every row, then the best hundred; a reference of bandwidth.

`search` with weights f16 and int8: 21 million rows of 768 (English Wikipedia in passages of 100 words), fewer where memory is short;
`seconds` are then those of as many rows as fit, times the missing share. f16 is a plain matrix-vector product; int8, for which
PyTorch has none on a GPU, is a compiled reduction. The best of ten.
"""

from common import arguments, emit, say, seconds, synchronizer, torch_or_missing

PEER = "PyTorch"
parser = arguments(__doc__, PEER)
parser.add_argument("--rows", type=int, default=21_000_000)
args = parser.parse_args()
torch = torch_or_missing(PEER, args.device)
synchronize = synchronizer(torch, args.device)
WIDTH, BEST = 768, 100


def int8_scores(rows, question):
    return (rows.to(torch.float32) * question).sum(-1)


for name, size in (("f16", 2), ("int8", 1)):
    say(f"search, {name}")
    free = torch.cuda.mem_get_info()[0] if args.device == "cuda" else 1 << 30
    count = min(args.rows, int(free * 0.85) // (WIDTH * size + 8))
    if size == 2:
        rows = torch.empty(count, WIDTH, dtype=torch.float16, device=args.device).normal_()
        question, score = torch.randn(WIDTH, dtype=torch.float16, device=args.device), torch.mv
    else:
        rows = torch.empty(count, WIDTH, dtype=torch.int8, device=args.device).random_(-127, 128)
        question = torch.randn(WIDTH, device=args.device)
        score = torch.compile(int8_scores, dynamic=False)

    def product() -> None:
        score(rows, question)
        synchronize()

    def search() -> None:
        score(rows, question).topk(BEST).indices.tolist()

    seconds(search, 2)
    alone, secs = seconds(product, 10), seconds(search, 10) * args.rows / count
    emit(PEER, weights=name, workload="search", seconds=secs,
         detail=f"{count:,} rows of {WIDTH}: {count * WIDTH * size / alone / 1e9:.0f} GB/s in the product alone, "
                f"{1e3 * alone:.2f} ms")
    rows = None
