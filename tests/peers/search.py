"""Exact search in PyTorch: one question's scores against every row, then the best hundred; a reference of bandwidth.

`search` with weights f16 and int8: 21 million rows of 768 (English Wikipedia in passages of 100 words), fewer where memory is
short; `seconds` are then those of the rows that fit, times as many. f16 is the faster of a matrix-vector product (torch.mv, a
few million rows at a time) and a compiled reduction; int8, for which PyTorch has no such product on a GPU, the reduction. The
best of ten.
"""

from common import arguments, emit, say, seconds, synchronizer, torch_or_missing

PEER = "PyTorch"
parser = arguments(__doc__, PEER)
parser.add_argument("--rows", type=int, default=21_000_000)
args = parser.parse_args()
torch = torch_or_missing(PEER, args.device)
synchronize = synchronizer(torch, args.device)
WIDTH, BEST, AT_ONCE = 768, 100, 1 << 22


def product(rows, question):
    return torch.cat([torch.mv(part, question) for part in rows.split(AT_ONCE)])


@torch.compile(dynamic=False)
def reduction(rows, question):
    return (rows.to(torch.float32) * question).sum(-1)


def measure(name: str, size: int, ways: list) -> None:
    """`ways` are functions of rows and question."""
    say(f"search, {name}")
    free = torch.cuda.mem_get_info()[0] if args.device == "cuda" else 1 << 30
    count = min(args.rows, int(free * 0.85) // (WIDTH * size + 16))
    if name == "f16":
        rows = torch.empty(count, WIDTH, dtype=torch.float16, device=args.device).normal_()
    else:
        rows = torch.empty(count, WIDTH, dtype=torch.int8, device=args.device).random_(-127, 128)
    question = torch.randn(WIDTH, dtype=torch.float16 if name == "f16" else torch.float32, device=args.device)
    results = []
    for way in ways:
        def scores() -> None:
            way(rows, question)
            synchronize()

        def search() -> None:
            way(rows, question).topk(BEST).indices.tolist()

        seconds(search, 2)
        results.append((seconds(search, 10), seconds(scores, 10), way.__name__))
    secs, alone, way = min(results)
    emit(PEER, weights=name, workload="search", seconds=secs * args.rows / count,
         detail=f"{name}, {count:,} rows of {WIDTH}, scores by {way}: {count * WIDTH * size / alone / 1e9:.0f} GB/s, "
                f"{1e3 * alone:.2f} ms of {1e3 * secs:.2f}")


measure("f16", 2, [product, reduction])
if args.device == "cuda":
    torch.cuda.empty_cache()
measure("int8", 1, [reduction])
