"""What faiss's IndexFlatIP, the original's index, finds among real vectors.

    pip install faiss-cpu numpy && python faiss_flat.py          # made with faiss-cpu 1.15.1, NumPy 2.4.6
    python faiss_flat.py compare EMBEDDINGS QUESTIONS.npy RESULTS.jsonl...    # no golden: rows that `selfrag retrieve` wrote, see below

The first writes faiss_flat.json: over the demo's passages (public/corpus, int8, decoded) the 20 best rows and their scores for 64 questions.
So that nothing is exact by chance, row i is v[i] + v[(7 i + 1) mod n] / 2 and question q is v[a] + v[b], f32 throughout.

`compare` takes embeddings as the original pickles them (a pattern), questions' vectors, and outputs of `selfrag retrieve` for the same questions;
it tells for each how many of faiss's first 10 and 20 it holds, and the largest difference of scores.
"""

import glob
import json
import pickle
import sys
from pathlib import Path

import faiss
import numpy as np

HERE = Path(__file__).parent
CORPUS = HERE / "../../public/corpus"


def corpus() -> tuple[str, np.ndarray]:
    manifest = json.loads((CORPUS / "manifest.json").read_text())
    index, rows = manifest["index"], []
    for shard in index["shards"]:
        data = (CORPUS / shard["vectors"]["int8"]["file"]).read_bytes()
        scales = np.frombuffer(data, "<f4", shard["rows"])
        codes = np.frombuffer(data, "i1", offset=4 * shard["rows"]).reshape(-1, index["dim"])
        rows.append(codes.astype("f4") * scales[:, None])
    return manifest["sha256"], np.concatenate(rows)


def search(rows: np.ndarray, questions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows.astype("f4"))
    return index.search(questions.astype("f4"), k)


def golden() -> None:
    sha256, v = corpus()
    n = len(v)
    rows = v + v[(7 * np.arange(n) + 1) % n] * np.float32(0.5)
    pairs = [(142 * q % n, (142 * q + n // 2) % n) for q in range(64)]
    scores, ids = search(rows, np.stack([v[a] + v[b] for a, b in pairs]), 20)
    lines = [json.dumps({"pair": p, "rows": i, "scores": [float(f"{x:.7g}") for x in s]}) for p, i, s in zip(pairs, ids.tolist(), scores.tolist())]
    text = ",\n".join(lines)
    (HERE / "faiss_flat.json").write_text(f'{{"corpus": "{sha256}", "questions": [\n{text}\n]}}\n')


def compare(embeddings: str, questions: str, outputs: list[str]) -> None:
    ids, rows = [], []
    for path in sorted(glob.glob(embeddings)):
        with open(path, "rb") as file:
            some, array = pickle.load(file)
        ids += some
        rows.append(array.astype("f4"))
    rows = np.concatenate(rows)
    scores, found = search(rows, np.load(questions), 20)
    print(f"{len(rows)} rows of {rows.shape[1]}, {len(found)} questions")
    for output in outputs:
        ours = [json.loads(line)["ctxs"] for line in open(output)]
        shares, equal, largest = {10: 0, 20: 0}, 0, 0.0
        for mine, faiss_rows, faiss_scores in zip(ours, found, scores):
            names = [ids[row] for row in faiss_rows]
            equal += [c["id"] for c in mine[:20]] == names
            for k in shares:
                shares[k] += len({c["id"] for c in mine[:k]} & set(names[:k]))
            largest = max(largest, max(abs(float(c["score"]) - s) for c, s in zip(mine, faiss_scores)))
        n = len(ours)
        print(f"{output}: recall@10 {shares[10] / n / 10:.4f}, recall@20 {shares[20] / n / 20:.4f}, same 20 in the same order {equal}/{n}, scores differ by {largest:.1e} at most")


if sys.argv[1:2] == ["compare"]:
    compare(sys.argv[2], sys.argv[3], sys.argv[4:])
else:
    golden()
