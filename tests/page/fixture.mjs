// A downloadable "model" of pseudo-random bytes: enough for everything that happens before the weights are read.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { writeTiny } from "./tiny.mjs";

export const root = new URL("../..", import.meta.url).pathname;
/** The built page: `trunk build`, or the folder that PAGE_DIST names. */
export const dist = process.env.PAGE_DIST ?? `${root}dist`;
/** Screenshots and scratch files. */
export const out = `${root}target/page`;
mkdirSync(out, { recursive: true });

/** Writes files and manifest.json into a folder below `out` and returns its path. */
export function fakeModel(folder, sizes = [3_000_000, 1_000_001]) {
  const path = `${out}/${folder}`;
  mkdirSync(path, { recursive: true });
  const files = sizes.map((bytes, i) => {
    const content = Buffer.alloc(bytes);
    // xorshift32: the same bytes every time.
    let x = 2463534242 + i;
    for (let j = 0; j + 4 <= bytes; j += 4) {
      x ^= x << 13; x ^= x >>> 17; x ^= x << 5;
      content.writeInt32LE(x, j);
    }
    const url = `fake-0000${i + 1}-of-0000${sizes.length}.gguf`;
    writeFileSync(`${path}/${url}`, content);
    return { url, bytes, sha256: createHash("sha256").update(content).digest("hex"), role: "generator" };
  });
  const encoder = Buffer.from("no encoder either");
  writeFileSync(`${path}/fake-encoder.gguf`, encoder);
  const sha256 = createHash("sha256").update(encoder).digest("hex");
  files.push({ url: "fake-encoder.gguf", bytes: encoder.length, sha256, role: "encoder" });
  writeFileSync(`${path}/manifest.json`, JSON.stringify({ format: 1, name: "Fake", licence: "", files }));
  return { path, files };
}

/** The demo's files, which `cargo xtask demo --prepare-only` makes. */
export const models = process.env.PAGE_MODELS ?? `${root}public/models`;
export const corpus = process.env.PAGE_CORPUS ?? `${root}public/corpus`;

/** A folder to serve as models/: a tiny generator that runs on a software GPU, and the demo's encoder. `judges`, `more`: see writeTiny. */
export function tinyModel({ folder = "tiny-model", judges, more } = {}) {
  const path = `${out}/${folder}`;
  mkdirSync(path, { recursive: true });
  const part = readdirSync(models).filter((name) => name.startsWith("demo") && name.endsWith(".gguf")).sort()[0];
  writeTiny(`${models}/${part}`, `${path}/tiny.gguf`, judges, more);
  copyFileSync(`${models}/encoder.gguf`, `${path}/encoder.gguf`);
  const files = [["tiny.gguf", "generator"], ["encoder.gguf", "encoder"]].map(([url, role]) => {
    const content = readFileSync(`${path}/${url}`);
    return { url, bytes: content.length, sha256: createHash("sha256").update(content).digest("hex"), role };
  });
  writeFileSync(`${path}/manifest.json`, JSON.stringify({ format: 1, name: "Tiny", licence: "", files }));
  return path;
}

/** The demo's passages as a clustered store, made by the command that the demo builds; `SELFRAG` names another. */
export function clusteredCorpus() {
  const path = `${out}/clustered`;
  if (!existsSync(`${path}/manifest.json`)) {
    const command = process.env.SELFRAG ?? `${root}target/release/selfrag`;
    execFileSync(command, ["index", "cluster", "--index", corpus, "--output", path, "--most-questions", "100"], { stdio: "inherit" });
  }
  return path;
}
