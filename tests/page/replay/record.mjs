// Writes a recording for `?replay=`: what the worker would say, to look at the design without a model (development only).
const lines = [];
const say = (ms, reply) => lines.push({ ms, reply });
say(0, { Gpu: { name: "SwiftShader (software)", software: false, features: ["subgroups", "no shader-f16"], limits: [["Largest binding", "1.07 GB"], ["Largest buffer", "1.07 GB"]] } });
if (process.argv[2] === "loading") {
  say(0, { Storage: { models: [{ folder: "a", name: "selfrag-7b-q4_k.gguf", bytes: 1.2e9, total_bytes: 4.1e9, complete: false, source: "" }], corpora: [], usage: 1.2e9, quota: 6e10, refused: null } });
  say(0, { Fetch: { Progress: { file: "demo-00003-of-00005.gguf", phase: "downloading", bytes: 83e6, total: 144e6, bytes_per_second: 11.3e6 } } });
} else if (process.argv[2] === "start") {
  say(0, { Storage: { models: [{ folder: "a", name: "selfrag-7b-q4_k.gguf", bytes: 1.2e9, total_bytes: 4.1e9, complete: false, source: "" }, { folder: "b", name: "Demo", bytes: 1.44e8, total_bytes: 1.44e8, complete: true, source: "" }], corpora: [], usage: 1.35e9, quota: 6e10, refused: null } });
} else {
  say(0, { Ready: { name: "SmolLM2-135M Self-RAG", details: ["30 layers", "vocabulary 49,168", "q8_0", "144 MB"], n_passages: 9097, corpus: "corpus/manifest.json", from: "Storage" } });
  lines.push({ ms: 0, ask: "How many species of trees can be found in the Amazon rainforest?" });
  say(100, { Engine: { event: "decision", probability: 0.9991, threshold: 0.2, retrieve: true } });
  const passage = (id, title, text, score) => ({ passage: { id, title, text }, score });
  const hits = [
    passage("1", "Amazon rainforest", "States or departments in four nations contain \"Amazonas\" in their names. The Amazon represents over half of the planet's remaining rainforests, and comprises the largest and most biodiverse tract of tropical rainforest in the world, with an estimated 390 billion individual trees divided into 16,000 species.", 0.71),
    passage("2", "Amazon rainforest", "The Amazon rainforest, also known in English as Amazonia or the Amazon Jungle, is a moist broadleaf forest that covers most of the Amazon basin of South America. This basin encompasses 7,000,000 square kilometres, of which 5,500,000 square kilometres are covered by the rainforest.", 0.66),
    passage("3", "Deforestation of the Amazon rainforest", "The cattle sector of the Brazilian Amazon, incentivized by the international beef and leather trades, has been responsible for about 80% of all deforestation in the region.", 0.58),
    passage("4", "Borneo lowland rain forests", "The Borneo lowland rain forests is an ecoregion, within the tropical and subtropical moist broadleaf forests biome, of the large island of Borneo in Southeast Asia.", 0.49),
    passage("5", "Trees", "", 0.31),
  ];
  say(50, { Engine: { event: "passages", hits } });
  const texts = ["There are 16,000 species of trees in the Amazon rainforest.", "The rainforest covers 5,500,000 square kilometres.", "The cattle sector is responsible for about 80% of deforestation.", "Borneo lowland rain forests is an ecoregion.", ""];
  const scores = [[0.98, 0.94, 0.9, 0.62], [0.71, 0.33, 0.2, 0.41], [0.2, 0.41, -0.3, 0.37], [0.03, null, -0.9, 0.2], [null, null, null, null]];
  const partial = process.argv[2] === "writing";
  for (let i = 0; i < 5; i++) {
    const words = texts[i].split(/(?<= )/);
    for (const text of partial ? words.slice(0, 4) : words) say(2, { Engine: { event: "text", candidate: i, text } });
    const [is_rel, is_sup, is_use, sequence] = scores[i];
    const segment = partial || is_rel === null ? null : is_rel + (is_sup ?? 0) + 0.5 * is_use + sequence;
    say(2, { Engine: { event: "scores", candidate: i, scores: partial ? { is_rel } : { is_rel, is_sup, is_use, sequence, segment } } });
    if (!partial) say(2, { Engine: { event: "finished", candidate: i } });
  }
  say(2, { Stats: { n_tokens: 87, seconds: 1.42, tokens_per_second: 61.3 } });
  if (!partial) {
    const candidates = hits.map((hit, i) => ({ hit, text: texts[i], tokens: [], truncated: false, scores: { is_rel: scores[i][0], is_sup: scores[i][1], is_use: scores[i][2], sequence: scores[i][3], segment: scores[i][0] === null ? null : scores[i][0] + (scores[i][1] ?? 0) + 0.5 * scores[i][2] + scores[i][3] } }));
    say(2, { Engine: { event: "answer", answer: { question: "", text: texts[0], probability: 0.9991, retrieved: true, candidates, best: 0 } } });
    lines.push({ ms: 0, reply: "Done" });
  }
}
console.log(lines.map((line) => JSON.stringify(line)).join("\n"));
