"""What questions to a clustered store take in a browser tab: bytes, requests, recall@10 and time, with latency added to every answer.

    tab.py --store CLUSTERED --index FLAT --questions Q.f32 [--latency 20] [--most 1000] [--markdown FILE]

A plain static server with range requests sleeps `latency` ms before each answer; headless Chromium (chromedriver on PATH or CHROMEDRIVER)
runs tests/scale/tab.rs, the engine's own search as the page has it, optimised, in a worker. The measure of recall is exact search over FLAT's
most exact vectors, in numpy. Needs numpy; embedded questions as raw f32.
"""

import argparse
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def exact(index: Path, questions: np.ndarray, best: int = 10) -> np.ndarray:
    """Rows of the ten best passages of each question, shard by shard."""
    rows, scores, first = None, None, 0
    for extension, dtype in ("f32", "<f4"), ("f16", "<f2"):
        files = sorted(index.glob(f"vectors-*.{extension}"))
        if files:
            break
    else:
        sys.exit(f"{index}: no vectors in f32 or f16: build it with --vectors f16,int8")
    for file in files:
        vectors = np.fromfile(file, dtype).reshape(-1, questions.shape[1]).astype(np.float32)
        found = questions @ vectors.T
        numbers = np.broadcast_to(np.arange(first, first + len(vectors)), found.shape)
        rows = numbers if rows is None else np.concatenate([rows, numbers], 1)
        scores = found if scores is None else np.concatenate([scores, found], 1)
        order = np.argsort(-scores, 1, kind="stable")[:, :best]
        rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
        first += len(vectors)
    return rows.astype("<u4")


class Static(http.server.BaseHTTPRequestHandler):
    """GET of files, whole or one range, from other origins too; every answer waits first."""

    protocol_version = "HTTP/1.1"
    latency, files, folder = 0.0, {}, Path()

    def do_GET(self):
        time.sleep(self.latency)
        path = self.path.split("?")[0].lstrip("/")
        if path in self.files:
            content, size = self.files[path], len(self.files[path])
        else:
            file = self.folder / Path(path).name
            if not path.startswith("store/") or not file.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content, size = file, file.stat().st_size
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, end = (int(match[1]), min(int(match[2] or size - 1), size - 1) + 1) if match else (0, size)
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        for name, value in (
            ("Content-Length", str(end - start)),
            ("Accept-Ranges", "bytes"),
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Expose-Headers", "Content-Range, Accept-Ranges"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if isinstance(content, Path):
            with open(content, "rb") as opened:
                opened.seek(start)
                content = opened.read(end - start)
                self.wfile.write(content)
        else:
            self.wfile.write(content[start:end])

    def do_OPTIONS(self):
        self.send_response(204)
        for name, value in (("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", "range"), ("Content-Length", "0")):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--latency", type=float, default=20.0, help="milliseconds added to every answer")
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    dim = json.loads((args.store / "manifest.json").read_text())["clusters"]["dim"]
    questions = np.fromfile(args.questions, "<f4").reshape(-1, dim)
    step = max(1, len(questions) // args.most)
    questions = np.ascontiguousarray(questions[::step][: args.most])
    Static.latency, Static.folder = args.latency / 1000, args.store
    Static.files = {"questions.f32": questions.tobytes(), "best.u32": exact(args.index, questions).tobytes()}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", args.port), Static)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = dict(os.environ, SELFRAG_TAB=f"http://127.0.0.1:{args.port}", WASM_BINDGEN_TEST_TIMEOUT="7200")
    env.setdefault("CHROMEDRIVER", "/usr/bin/chromedriver")
    command = "cargo test --release --target wasm32-unknown-unknown -p selfrag --no-default-features --features measure --test tab -- --nocapture"
    print(f"{len(questions)} questions of {dim} values; $ SELFRAG_TAB={env['SELFRAG_TAB']} {command}", flush=True)
    run = subprocess.run(command.split(), cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    lines = [
        "| | opening: kB, requests, ms | recall@10 | kB mean / most | requests mean / most | rounds | ms median / p95 / most |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in ("cold", "codes", "session"):
        opened = re.search(rf"OPENED {name} (\S+) (\d+) (\d+) (\d)", run.stdout)
        found = np.array([[float(x) for x in m.split()] for m in re.findall(rf"FOUND {name} ([\d. ]+)", run.stdout)])
        if not opened or len(found) != len(questions):
            print(run.stdout[-3000:])
            sys.exit(f"{name}: {len(found)} answers, {len(questions)} expected")
        ms, kb, requests, rounds, hits = found.T[0], found.T[1] / 1000, found.T[2], found.T[3], found.T[4]
        lines.append(
            f"| {name} | {int(opened[2]) / 1000:,.0f}, {opened[3]}, {float(opened[1]):,.0f} | {hits.mean() / 10:.4f} "
            f"| {kb.mean():,.0f} / {kb.max():,.0f} | {requests.mean():.1f} / {requests.max():.0f} | {rounds.mean():.2f} "
            f"| {np.median(ms):.0f} / {np.percentile(ms, 95):.0f} / {ms.max():.0f} |"
        )
    print("\n".join(lines))
    if args.markdown:
        args.markdown.write_text("\n".join(lines) + "\n")


main()
