"""Exact search in PyTorch and Triton: scores of every row, then each question's best hundred; a reference for `selfrag bench`'s `search-*`.

`search` with weights f16, int8 and f32: 21 million rows of 768 (English Wikipedia in passages of 100 words), fewer where memory is
short; `seconds` are then those of the rows that fit, times as many. Of these ways the fastest exact one is told, the best of ten:

- f16: a matrix-vector product (torch.mv, a few million rows at a time), and a compiled reduction; several questions: torch.matmul.
- int8: the compiled reduction, for PyTorch has no such product on a GPU; several questions: torch._int_mm with questions in int8 too.
- f16 and int8, where Triton is there: a kernel that scores a block of rows for up to 16 questions and keeps the block's best 16 scores, so
  that 16 of 1,024 leave it; the best hundred are then those of the blocks' best. That is a scan's speed, not an exact search.
- f32, where `--weights` names it: as many rows on the GPU as `--gpu-memory` allows, the others in pinned host memory, in chunks through two buffers by a copy stream.

A JSON line a result goes to standard output, a table of them to `--markdown FILE`.
"""

import time

from common import arguments, emit, say, seconds, synchronizer, torch_or_missing

PEER = "PyTorch"
parser = arguments(__doc__, PEER)
parser.add_argument("--rows", type=int, default=21_000_000)
parser.add_argument("--questions", type=int, nargs="+", default=[1, 8, 64], help="questions at once; `search` is the first")
parser.add_argument("--weights", nargs="+", choices=["f16", "int8", "f32"], default=["f16", "int8"])
parser.add_argument("--gpu-memory", type=float, help="GB of f32 rows that stay on the GPU [default: 85 %% of what is free]")
parser.add_argument("--host-memory", type=float, help="GB of f32 rows in pinned host memory [default: 80 %% of what is free]")
parser.add_argument("--markdown", help="file of the table")
args = parser.parse_args()
torch = torch_or_missing(PEER, args.device)
synchronize = synchronizer(torch, args.device)
cuda = args.device == "cuda"
WIDTH, BEST, AT_ONCE = 768, 100, 1 << 22
# Rows and questions of a Triton block, and the scores that it keeps.
BLOCK, TILE, KEPT = 1024, 16, 16
table: list[tuple[str, ...]] = []

try:
    import triton
    import triton.language as tl
except ImportError as e:
    triton = None
    say(f"no Triton: {e}")


def product(rows, questions, _scales):
    """(questions, rows)"""
    if len(questions) == 1:
        return torch.cat([torch.mv(part, questions[0]) for part in rows.split(AT_ONCE)])[None]
    return questions @ rows.T


@torch.compile(dynamic=False)
def one_reduction(rows, question):
    return (rows.to(torch.float32) * question).sum(-1)


def reduction(rows, questions, scales):
    found = one_reduction(rows, questions[0].to(torch.float32))[None]
    return found if scales is None else found * scales


def integers(rows, questions, scales):
    """torch._int_mm wants more than 16 rows on one side: questions are padded to 32."""
    most = questions.abs().amax(1, keepdim=True).to(torch.float32) / 127
    codes = torch.zeros(max(32, (len(questions) + 7) // 8 * 8), WIDTH, dtype=torch.int8, device=rows.device)
    codes[: len(questions)] = (questions / most).round().to(torch.int8)
    return torch._int_mm(codes, rows.T)[: len(questions)] * most * scales


if triton:

    @triton.jit
    def scan(rows, scales, questions, best, count, WIDTH: tl.constexpr, PART: tl.constexpr, INT8: tl.constexpr,
             BLOCK: tl.constexpr, TILE: tl.constexpr, KEPT: tl.constexpr):
        """A block's rows for TILE questions: its best KEPT, as score in the upper and place in the lower 32 bits."""
        block = tl.program_id(0).to(tl.int64)
        places = tl.arange(0, BLOCK)
        row = block * BLOCK + places
        within = row < count
        sums = tl.zeros((TILE, BLOCK), tl.float32)
        for at in range(0, WIDTH, PART):
            columns = at + tl.arange(0, PART)
            values = tl.load(rows + row[None, :] * WIDTH + columns[:, None], mask=within[None, :], other=0)
            asked = tl.load(questions + tl.arange(0, TILE)[:, None] * WIDTH + columns[None, :])
            sums += tl.dot(asked, values.to(tl.float16))
        if INT8:
            sums = sums * tl.load(scales + row, mask=within, other=0.0)[None, :]
        sums = tl.where(within[None, :], sums, float("-inf"))
        bits = sums.to(tl.int32, bitcast=True)
        order = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)
        keys = tl.topk(order * 4294967296 + places[None, :].to(tl.int64), KEPT)
        blocks = tl.num_programs(0).to(tl.int64)
        to = tl.arange(0, TILE)[:, None].to(tl.int64) * blocks * KEPT + block * KEPT + tl.arange(0, KEPT)[None, :]
        tl.store(best + to, keys)


def fused(rows, questions, scales):
    """(questions, blocks × KEPT) of keys; more than TILE questions in several launches."""
    blocks = triton.cdiv(len(rows), BLOCK)
    found = []
    for part in questions.split(TILE):
        asked = torch.zeros(TILE, WIDTH, dtype=torch.float16, device=rows.device)
        asked[: len(part)] = part
        best = torch.empty(TILE, blocks * KEPT, dtype=torch.int64, device=rows.device)
        int8 = scales is not None
        scan[(blocks,)](rows, scales if int8 else rows, asked, best, len(rows), WIDTH, 64, int8, BLOCK, TILE, KEPT, num_warps=8)
        found.append(best[: len(part)])
    return torch.cat(found)


def free_host() -> int:
    """Bytes, of the system and of a container."""
    with open("/proc/meminfo") as file:
        free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    try:
        with open("/sys/fs/cgroup/memory.max") as most, open("/sys/fs/cgroup/memory.current") as used, open("/sys/fs/cgroup/memory.stat") as stat:
            # Cached files count as used, and go when memory is wanted.
            cached = sum(int(line.split()[1]) for line in stat if line.split()[0] in ("inactive_file", "active_file"))
            return min(free, int(most.read()) - int(used.read()) + cached)
    except (OSError, ValueError):
        return free


def told(name: str, asked: int, count: int, secs: float, scores: float, way: str, streamed: float = 0.0, best: bool = True) -> None:
    """`secs` of a search and `scores` of its scan alone, for all questions; `streamed` is gigabytes. Others than the best are in the table alone."""
    size = {"f16": 2, "int8": 1, "f32": 4}[name]
    gigabytes = count * WIDTH * size / 1e9
    detail = f"{name}, {count:,} rows of {WIDTH}, {asked} at once, {way}: scores {1e3 * scores:.2f} ms of {1e3 * secs:.2f}, "
    detail += f"{gigabytes / scores:.0f} GB/s"
    if streamed:
        detail += f", {streamed:.1f} of {gigabytes:.1f} GB streamed at {streamed / secs:.1f} GB/s"
    # One question is what the table of `cargo xtask bench --peers` has room for.
    workload = "search" if asked == 1 else f"search-{asked}"
    if best:
        emit(PEER, weights=name, workload=workload, seconds=secs * args.rows / count / asked, detail=detail)
    table.append((name, f"{count:,}", str(asked), way, f"{1e3 * secs / asked:.3f}", f"{1e3 * scores / asked:.3f}",
                  f"{gigabytes / secs:.0f}", f"{streamed:.1f} GB, {streamed / secs:.1f} GB/s" if streamed else "–"))


def measure(name: str, size: int) -> None:
    say(f"search, {name}")
    free = torch.cuda.mem_get_info()[0] if cuda else 1 << 28
    most = max(args.questions)
    # Scores of several questions, as integers and as floats, and what topk makes of them.
    count = min(args.rows, int(free * 0.85) // (WIDTH * size + 16 * min(most, 8)))
    count = count // 8 * 8
    scales = None
    if name == "f16":
        rows = torch.empty(count, WIDTH, dtype=torch.float16, device=args.device).normal_()
    else:
        rows = torch.empty(count, WIDTH, dtype=torch.int8, device=args.device).random_(-127, 128)
        scales = torch.rand(count, device=args.device)
    for asked in args.questions:
        questions = torch.randn(asked, WIDTH, dtype=torch.float16, device=args.device)
        ways = [product] if name == "f16" else [integers] if cuda else []
        ways += [reduction] if asked == 1 else []
        ways += [fused] if triton and cuda else []
        results = []
        for way in ways:
            # So many at once that their scores fit beside the rows.
            parts = questions.split(8) if way is not fused else [questions]

            def scores() -> None:
                for part in parts:
                    way(rows, part, scales)
                synchronize()

            def search() -> None:
                for part in parts:
                    way(rows, part, scales).topk(BEST).indices.tolist()

            try:
                seconds(search, 2)
                results.append((seconds(search, 10), seconds(scores, 10), way.__name__))
            except Exception as e:  # A version of PyTorch or Triton that cannot do it leaves the others.
                say(f"{name}, {asked} at once, {way.__name__}: {e}")
        # What finds the best hundred comes before what keeps a block's best sixteen.
        results.sort(key=lambda result: (result[2] == "fused", result))
        for i, (secs, alone, way) in enumerate(results):
            told(name, asked, count, secs, alone, way, best=i == 0)


def stream() -> None:
    """f32: resident rows, then chunks of pinned memory through two buffers."""
    say("search, f32")
    row, chunk = WIDTH * 4, 1 << 17
    free = torch.cuda.mem_get_info()[0] if cuda else 1 << 28
    most = args.gpu_memory * 1e9 if args.gpu_memory is not None else free * 0.85
    kept = min(args.rows, int(most) // row)
    host = args.host_memory * 1e9 if args.host_memory is not None else (free_host() * 0.8 if cuda else 1 << 28)
    sent = min(args.rows - kept, int(host) // row)
    chunk = max(min(chunk, sent), BEST)
    chunks = max(sent // chunk, 1) if sent else 0
    resident = torch.empty(kept, WIDTH, device=args.device).normal_()
    say(f"{chunks * chunk:,} rows in pinned memory")
    piece = torch.randn(min(chunk, 4096), WIDTH)
    waiting = []
    for _ in range(chunks):
        part = torch.empty(chunk, WIDTH, pin_memory=cuda)
        for at in range(0, chunk, len(piece)):
            part[at : at + len(piece)] = piece[: chunk - at]
        waiting.append(part)
    buffers = [torch.empty(chunk, WIDTH, device=args.device) for _ in range(2)] if chunks else []
    copying = torch.cuda.Stream() if cuda else None
    for asked in args.questions:
        questions = torch.randn(asked, WIDTH, device=args.device)

        def best_of(rows):
            return (questions @ rows.T).topk(min(BEST, len(rows))).values

        def search() -> None:
            found = [best_of(part) for part in resident.split(AT_ONCE)] if kept else []
            scored = [None, None]
            for i, part in enumerate(waiting):
                buffer = buffers[i % 2]
                if not cuda:
                    buffer.copy_(part)
                else:
                    with torch.cuda.stream(copying):
                        if scored[i % 2] is not None:
                            copying.wait_event(scored[i % 2])
                        buffer.copy_(part, non_blocking=True)
                        arrived = copying.record_event()
                    torch.cuda.current_stream().wait_event(arrived)
                found.append(best_of(buffer))
                if cuda:
                    scored[i % 2] = torch.cuda.current_stream().record_event()
            torch.cat(found, 1).topk(BEST).values.tolist()

        def copies() -> None:
            for part in waiting:
                buffers[0].copy_(part, non_blocking=cuda)
            synchronize()

        seconds(search, 1)
        secs = seconds(search, 5)
        start = time.perf_counter()
        copies()
        alone = time.perf_counter() - start
        gigabytes = chunks * chunk * row / 1e9
        if chunks:
            say(f"f32: copies alone {gigabytes / alone:.1f} GB/s")
        told("f32", asked, kept + chunks * chunk, secs, secs, "matmul and topk by chunks", gigabytes)


for name, size in (("f16", 2), ("int8", 1)):
    if name in args.weights:
        measure(name, size)
        if cuda:
            torch.cuda.empty_cache()
if "f32" in args.weights:
    stream()
if args.markdown:
    heads = ("weights", "rows", "questions at once", "way", "ms a question", "of it scores", "GB/s", "streamed")
    lines = [heads, ("---",) * len(heads), *table]
    with open(args.markdown, "w") as file:
        file.writelines(f"| {' | '.join(line)} |\n" for line in lines)
