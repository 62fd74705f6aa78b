"""What a question to a clustered store costs at the size of the whole English Wikipedia, simulated on a GPU.

The engine's way (engine/src/retriever/clusters): centroids in memory, round 1 reads code blocks of near clusters, round 2 the records of the
rows with the best estimates; both rounds are planned by the same dynamic programme, and the same constants. Vectors are real ones, and more of
them made by adding noise to each: x' = (x + e) / |x + e|. How much noise is chosen by what matters and can be checked: ten noisy copies of a
tenth of the real vectors must scatter a question's ten best over as many clusters as all the real ones do. Half as much again scatters them more.

    python3 clusters.py VECTORS.npy SCALES.npy QUESTIONS.f32 LENGTHS.npy [--rows 21015324]

VECTORS: (n, dim) int8 with a scale each; QUESTIONS: f32; LENGTHS: bytes of passages' texts. Needs torch and numba. Prints a line of JSON for each setting.
"""

import argparse
import json
import math
import time

import numba
import numpy as np
import torch

parser = argparse.ArgumentParser(description=__doc__)
for name in ("vectors", "scales", "questions", "lengths"):
    parser.add_argument(name)
parser.add_argument("--rows", type=int, default=21_015_324)
parser.add_argument("--asked", type=int, default=200)
parser.add_argument("--device", default="cuda")
args = parser.parse_args()
DEVICE, HALF = args.device, torch.float16 if args.device == "cuda" else torch.float32
BEST, CANDIDATES, REQUEST, FALLS, DEVIATION = 10, 512, 8 << 10, 1.4, 0.32
CODE_EXTRA, RECORD_EXTRA = 12, 392  # A row's bytes in a block beside its code, and in a record beside its text: as the engine writes them.
torch.manual_seed(1)


@numba.njit(cache=False)
def choose(start, end, worth, width, price):
    """clusters/plan.rs: the best ranges at this price of a byte."""
    n = len(start)
    best, open_ = np.full(width, -1e300), np.full(width, -1e300)
    best[0] = 0.0
    here, on = np.zeros((n, width), np.bool_), np.zeros((n, width), np.bool_)
    for i in range(n):
        for m in range(width - 1, 0, -1):
            apart = best[m - 1] + worth[i] - price * (end[i] - start[i] + REQUEST)
            further = open_[m] + worth[i] - price * (end[i] - end[i - 1]) if i > 0 else -1e300
            on[i, m] = further > apart
            open_[m] = max(further, apart)
            if open_[m] > best[m]:
                best[m], here[i, m] = open_[m], True
    m, i = int(np.argmax(best)), n
    first, last = [0], [0]
    while m > 0 and i > 0:
        i -= 1
        if here[i, m]:
            last.append(i)
            while on[i, m]:
                i -= 1
            first.append(i)
            m -= 1
    return np.array(first[1:]), np.array(last[1:])


def plan(start, end, worth, requests, budget):
    order = np.argsort(start)
    start, end, worth = start[order], end[order], worth[order]
    if requests < 1 or not len(start):
        return []
    low, high = -60.0, 10.0
    at = lambda price: choose(start, end, worth, requests + 1, 2.0**price)
    total = lambda reads: sum(end[b] - start[a] for a, b in zip(*reads))
    best = at(low)
    if total(best) > budget:
        best = at(high)
        for _ in range(30):
            middle = (low + high) / 2
            reads = at(middle)
            if total(reads) <= budget:
                best, high = reads, middle
            else:
                low = middle
    return [(start[a], end[b]) for a, b in zip(*best)]


def normal(x):
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-9)


def noisy(x, copies, noise):
    """`copies` of each row, in half precision, the row itself the first."""
    n, dim = x.shape
    out = torch.empty(n * copies, dim, dtype=HALF, device=DEVICE)
    for copy in range(copies):
        for at in range(0, n, 1 << 17):
            part = x[at : at + (1 << 17)].float()
            if copy:
                part = normal(part + torch.randn_like(part) * (noise / math.sqrt(dim)))
            out[copy * n + at : copy * n + at + len(part)] = part.to(HALF)
    return out


def exact(x, questions, k=BEST):
    values = torch.full((len(questions), k), -9.0, device=DEVICE)
    rows = torch.zeros(len(questions), k, dtype=torch.long, device=DEVICE)
    for at in range(0, len(x), 1 << 20):
        found, where = (questions.to(HALF) @ x[at : at + (1 << 20)].T).float().topk(k, dim=1)
        values, order = torch.cat([values, found], 1).topk(k, dim=1)
        rows = torch.cat([rows, where + at], 1).gather(1, order)
    return values, rows


def assign(x, centres, piece=1 << 15):
    half = (0.5 * (centres.float() ** 2).sum(1)).to(HALF)
    out = torch.empty(len(x), dtype=torch.int32, device=DEVICE)
    for at in range(0, len(x), piece):
        out[at : at + piece] = (x[at : at + piece] @ centres.T - half).argmax(1).int()
    return out


def means(x, owner, n):
    sums, counts = torch.zeros(n, x.shape[1], device=DEVICE), torch.zeros(n, device=DEVICE)
    for at in range(0, len(x), 1 << 20):
        here = owner[at : at + (1 << 20)].long()
        sums.index_add_(0, here, x[at : at + (1 << 20)].float())
        counts.index_add_(0, here, torch.ones(len(here), device=DEVICE))
    return sums / counts.clamp_min(1)[:, None], counts


def clusters(x, n):
    sample = x[torch.randperm(len(x), device=DEVICE)[: 64 * n]]
    centres = sample[torch.randperm(len(sample), device=DEVICE)[:n]].clone()
    for step in range(8):
        owner = assign(sample, centres)
        found, counts = means(sample, owner, n)
        if step < 6:  # Small ones move half way to a row of a large one.
            small = torch.nonzero(counts < 0.5 * counts.mean()).flatten()
            large = counts.argsort(descending=True)[: len(small)]
            keep = counts[large] > 2 * counts.mean()
            small, large = small[: len(large)][keep], large[keep]
            found[small] = found[large] + 0.02 * torch.randn_like(found[small])
        centres = found.to(HALF)
    owner = assign(x, centres)
    return means(x, owner, n)[0], owner


def near_each_other(centres):
    """A chain of neighbours within neighbourhoods, which are a chain themselves."""
    def chain(points):
        left, order, at = torch.ones(len(points), dtype=torch.bool, device=DEVICE), [], 0
        for _ in range(len(points)):
            order.append(at)
            left[at] = False
            scores = points @ points[at] - 0.5 * (points**2).sum(1)
            at = int(scores.masked_fill(~left, -1e9).argmax())
        return order
    groups = max(1, len(centres) // 64)
    middle, owner = clusters(centres.to(HALF), groups)
    order = []
    for group in chain(middle.float()):
        members = torch.nonzero(owner == group).flatten()
        if len(members):
            order.extend(members[torch.tensor(chain(centres[members]), device=DEVICE)].tolist())
    return torch.tensor(order, device=DEVICE)


def scatter(x, questions):
    """The questions' ten best, clusters, and over how many of them the ten best lie."""
    best = exact(x, questions)
    centres, owner = clusters(x, int(4 * math.sqrt(len(x))))
    return best, centres, owner, float(np.mean([len(set(row)) for row in owner[best[1]].tolist()]))


def simulate(name, x, questions, lengths, settings):
    began = time.time()
    dim = x.shape[1]
    (values, best), centres, owner, scattered = scatter(x, questions)
    n_clusters = len(centres)
    order = near_each_other(centres)
    place = torch.empty(n_clusters, dtype=torch.long, device=DEVICE)
    place[order] = torch.arange(n_clusters, device=DEVICE)
    rows = place[owner.long()].argsort(stable=True)
    owner_np = place[owner.long()][rows].cpu().numpy()  # Of the rows in the files' order, clusters by their place.
    sizes = np.bincount(owner_np, minlength=n_clusters)
    first = np.concatenate([[0], np.cumsum(sizes)])
    centres = centres[order]
    code_row = dim // 8 + CODE_EXTRA
    record = RECORD_EXTRA + np.resize(lengths, len(x)).astype(np.int64)[rows.cpu().numpy()]
    record_end = np.cumsum(record)
    record_start = record_end - record
    position = torch.empty(len(x), dtype=torch.long, device=DEVICE)
    position[rows] = torch.arange(len(x), device=DEVICE)
    best = position[best].cpu().numpy()
    turn = torch.linalg.qr(torch.randn(dim, dim, device=DEVICE))[0]
    central = normal(centres)
    table = n_clusters * (dim + 24)
    print(json.dumps({"store": name, "rows": len(x), "clusters": n_clusters, "table_mb": round(table / 1e6, 1),
                      "codes_mb": round(len(x) * code_row / 1e6), "records_gb": round(float(record.sum()) / 1e9, 2),
                      "best_similarity": round(float(values.mean()), 4), "scattered_over": round(scattered, 2), "built_secs": round(time.time() - began, 1)}), flush=True)
    for probes, requests, block_requests, budget, block_budget in settings:
        hits, ceiling, bytes_, asked, looked = 0, 0, [], [], []
        for i, question in enumerate(questions):
            near = (central @ question).topk(min(probes, n_clusters)).indices.cpu().numpy()
            near = near[sizes[near] > 0]
            worth = (np.arange(len(near)) + 1.0) ** -FALLS
            reads = plan(first[near] * code_row, first[near + 1] * code_row, worth, block_requests, block_budget)
            parts = [np.arange(a // code_row, b // code_row) for a, b in reads]
            seen = np.concatenate(parts)
            at = torch.from_numpy(seen).to(DEVICE)
            c = torch.from_numpy(owner_np[seen]).to(DEVICE)
            rest = (x[rows[at]].float() - centres[c]) @ turn.T
            half = torch.where(rest >= 0, 0.5, -0.5)
            factor = (rest**2).sum(1) / (rest * half).sum(1).clamp_min(1e-9)
            estimate = centres[c] @ question + factor * (half @ (turn @ question))
            top = estimate.topk(min(CANDIDATES, len(seen)))
            chosen = seen[top.indices.cpu().numpy()]
            above = ((top.values - top.values[BEST - 1]) / (DEVIATION * factor[top.indices])).cpu().numpy()
            worth = 1 / (1 + np.exp(np.minimum(-2.5 * (above - 0.3), 60)))
            spent = sum(b - a for a, b in reads)
            records = plan(record_start[chosen], record_end[chosen], worth, requests - len(reads), budget - spent)
            got = [p for p in best[i] if any(a <= record_start[p] and record_end[p] <= b for a, b in records)]
            known = set(owner_np[seen].tolist())
            hits += sum(owner_np[p] in known for p in got)
            ceiling += sum(owner_np[p] in known for p in best[i])
            bytes_.append(spent + sum(b - a for a, b in records))
            asked.append(len(reads) + len(records))
            looked.append(len(known))
        print(json.dumps({"store": name, "probes": probes, "requests": round(float(np.mean(asked)), 1),
                          "kb": round(float(np.mean(bytes_)) / 1e3), "most_kb": round(float(max(bytes_)) / 1e3),
                          "clusters": round(float(np.mean(looked))), "in_their_clusters": round(ceiling / BEST / len(questions), 4),
                          "recall_at_10": round(hits / BEST / len(questions), 4)}), flush=True)


dim = np.load(args.vectors, mmap_mode="r").shape[1]
real = torch.from_numpy(np.load(args.vectors)).to(DEVICE).float() * torch.from_numpy(np.load(args.scales)).to(DEVICE)[:, None]
real = normal(real)[torch.randperm(len(real), device=DEVICE)]
questions = torch.from_numpy(np.fromfile(args.questions, np.float32).reshape(-1, dim)).to(DEVICE)
questions = questions[:: max(1, len(questions) // args.asked)]
lengths = np.load(args.lengths)
wanted, tenth = scatter(real.to(HALF), questions)[3], real[: len(real) // 10]
low, high = 0.0, 3.0
for _ in range(8):
    noise = (low + high) / 2
    found = scatter(noisy(tenth, 10, noise), questions)[3]
    low, high = (noise, high) if found < wanted else (low, noise)
print(json.dumps({"rows": len(real), "questions": len(questions), "wanted": round(wanted, 3), "noise": round(noise, 3),
                  "found": round(found, 3)}), flush=True)
usual = [(128, 20, 9, 2_000_000, 1_400_000)]
more = usual + [(256, 30, 14, 3_000_000, 2_000_000), (256, 40, 20, 4_000_000, 2_800_000), (512, 60, 30, 6_000_000, 4_200_000),
                (1024, 120, 60, 12_000_000, 8_000_000)]
simulate("real", real.to(HALF), questions, lengths, usual)
simulate("ten noisy copies of a tenth", noisy(tenth, 10, noise), questions, lengths, usual)
copies = max(1, round(args.rows / len(real)))
for factor in (1.0, 1.5):
    x = noisy(real, copies, factor * noise)
    simulate(f"{copies} copies, noise {factor * noise:.2f}", x, questions, lengths, more)
    del x
