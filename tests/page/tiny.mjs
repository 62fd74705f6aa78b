// A Llama small enough for a software GPU in CI, with the demo's own vocabulary: what it says next depends on the last token only,
// by construction (random embeddings; a row of the output matrix is the embedding of the token that comes before). Its layers are
// real, with weights too small to change the outcome. So the whole line runs, quickly, with a known end.
import { openSync, readSync, closeSync, writeFileSync } from "node:fs";

const DIM = 64, FEED_FORWARD = 128, LAYERS = 2;

/** Who follows whom. With a passage, after its judgement: a sentence, fully supported, useful, end. Without: a text that never ends. */
const CHAIN = [
  ["Ċ", "[Retrieval]"], [":Ċ", "[Retrieval]"],
  ["[Relevant]", "There"], ["[Irrelevant]", "There"], ["There", "Ġare"], ["Ġare", "Ġmany"], ["Ġmany", "."],
  [".", "[Fully supported]"], ["[Fully supported]", "[Utility:5]"], ["[Utility:5]", "<|im_end|>"],
  ["[No Retrieval]", "Again"], ["Again", "Ġand"], ["Ġand", "Ġagain"], ["Ġagain", "Ġand"],
];

/** Writes the model with the vocabulary of the GGUF file `from`; it `judges` every passage the same. `more`: pairs in place of the chain's. */
export function writeTiny(from, to, judges = "[Relevant]", more = []) {
  const header = readHeader(from);
  const tokens = header.tokens;
  const id = new Map(tokens.map((token, i) => [token, i]));
  const next = random(7);
  const embedding = new Float32Array(tokens.length * DIM).map(() => (next() < 0.5 ? -1 : 1));
  const output = new Float32Array(tokens.length * DIM);
  for (const [token, follower] of new Map([["</paragraph>", judges], ...CHAIN, ...more])) {
    if (!id.has(token) || !id.has(follower)) continue; // Some vocabularies have no ":Ċ".
    const [row, before] = [id.get(follower) * DIM, id.get(token) * DIM];
    for (let i = 0; i < DIM; i++) output[row + i] += 0.5 * embedding[before + i];
  }
  const small = (n) => new Float32Array(n).map(() => (next() - 0.5) * 0.01);
  const ones = (n) => new Float32Array(n).fill(1);
  const tensors = [["token_embd.weight", [DIM, tokens.length], embedding], ["output.weight", [DIM, tokens.length], output], ["output_norm.weight", [DIM], ones(DIM)]];
  for (let i = 0; i < LAYERS; i++) {
    const name = (part) => `blk.${i}.${part}.weight`;
    tensors.push([name("attn_norm"), [DIM], ones(DIM)], [name("ffn_norm"), [DIM], ones(DIM)]);
    tensors.push([name("attn_q"), [DIM, DIM], small(DIM * DIM)], [name("attn_output"), [DIM, DIM], small(DIM * DIM)]);
    tensors.push([name("attn_k"), [DIM, DIM / 2], small((DIM * DIM) / 2)], [name("attn_v"), [DIM, DIM / 2], small((DIM * DIM) / 2)]);
    tensors.push([name("ffn_gate"), [DIM, FEED_FORWARD], small(DIM * FEED_FORWARD)], [name("ffn_up"), [DIM, FEED_FORWARD], small(DIM * FEED_FORWARD)]);
    tensors.push([name("ffn_down"), [FEED_FORWARD, DIM], small(DIM * FEED_FORWARD)]);
  }
  const u32 = (n) => { const b = Buffer.alloc(8); b.writeUInt32LE(4); b.writeUInt32LE(n, 4); return b; };
  const f32 = (n) => { const b = Buffer.alloc(8); b.writeUInt32LE(6); b.writeFloatLE(n, 4); return b; };
  const text = (s) => Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)]);
  const string = (s) => Buffer.concat([Buffer.from([8, 0, 0, 0]), text(s)]);
  const own = {
    "general.architecture": string("llama"), "general.name": string("tiny"),
    "llama.block_count": u32(LAYERS), "llama.context_length": u32(2048), "llama.embedding_length": u32(DIM),
    "llama.feed_forward_length": u32(FEED_FORWARD), "llama.attention.head_count": u32(4), "llama.attention.head_count_kv": u32(2),
    "llama.rope.dimension_count": u32(DIM / 4), "llama.rope.freq_base": f32(10000), "llama.attention.layer_norm_rms_epsilon": f32(1e-5),
    "llama.vocab_size": u32(tokens.length),
  };
  const pairs = [...Object.entries(own), ...Object.entries(header.tokenizer)];
  const info = [];
  let offset = 0;
  for (const [name, shape, values] of tensors) {
    const type = Buffer.alloc(4); // F32
    info.push(text(name), Buffer.from([shape.length, 0, 0, 0]), ...shape.map(u64), type, u64(offset));
    offset += Math.ceil((values.length * 4) / 32) * 32;
  }
  const start = Buffer.concat([
    Buffer.from("GGUF"), Buffer.from([3, 0, 0, 0]), u64(tensors.length), u64(pairs.length),
    ...pairs.map(([key, value]) => Buffer.concat([text(key), value])), ...info,
  ]);
  const padded = (b) => Buffer.concat([b, Buffer.alloc((32 - (b.length % 32)) % 32)]);
  writeFileSync(to, Buffer.concat([padded(start), ...tensors.map(([, , v]) => padded(Buffer.from(v.buffer)))]));
}

/** The `tokenizer.*` entries of a GGUF file as raw bytes, and the tokens. */
function readHeader(path) {
  const file = openSync(path, "r");
  const bytes = Buffer.alloc(16 << 20);
  const length = readSync(file, bytes, 0, bytes.length, 0);
  closeSync(file);
  let at = 0;
  const take = (n) => { if (at + n > length) throw new Error(`${path}: the header is longer than 16 MB`); at += n; return at - n; };
  const integer = () => Number(bytes.readBigUInt64LE(take(8)));
  const string = () => { const n = integer(); return bytes.toString("utf8", take(n), at); };
  const SIZE = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };
  const value = (type) => {
    if (type === 8) return string();
    if (type !== 9) return take(SIZE[type]);
    const [inner, n] = [bytes.readUInt32LE(take(4)), integer()];
    return Array.from({ length: n }, () => value(inner));
  };
  take(4 + 4 + 8);
  const n = integer();
  const tokenizer = {};
  let tokens = [];
  for (let i = 0; i < n; i++) {
    const key = string();
    const from = at;
    const read = value(bytes.readUInt32LE(take(4)));
    if (key.startsWith("tokenizer.")) tokenizer[key] = Buffer.from(bytes.subarray(from, at));
    if (key === "tokenizer.ggml.tokens") tokens = read;
  }
  return { tokenizer, tokens };
}

function u64(n) {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(n));
  return b;
}

/** mulberry32: the same numbers every time. */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
