// Long answers on the page, and what can be done with any answer: opened, weighed anew, decided otherwise, taken away, shared. A scripted
// worker stands in the engine's place, but for the last test.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { corpus, dist, out, tinyModel } from "./fixture.mjs";
import { serve } from "./server.mjs";
import { PATIENCE, answered, ask, load } from "./steps.mjs";

let server, browser;
before(async () => {
  const model = tinyModel({ folder: "tiny-segments", more: [["[Fully supported]", "[Retrieval]"]] });
  server = await serve({ "/": dist, "/models/": model, "/corpus/": corpus });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

const HOSTILE = "A text. </blockquote><script>globalThis.broken = 1</script> [x](javascript:alert(1)) <img src=x onerror='globalThis.broken = 1'>";
const hit = (id, title, text) => ({ passage: { id, title, text }, score: 0.5 });
const [A, B] = [hit("a", "Amazon <i>basin</i>", HOSTILE), hit("b", "Savanna", "Another text.")];
const ln = (values) => values.map((p) => Math.log(p));

/** A candidate with a sequence score of 0.5. */
function candidate(from, text, rel, sup) {
  const evidence = {
    relevance: from && ln([1 - rel, rel]), support: ln([sup, 1e-9, 1 - sup]), utility: null, sum_logprob: 4 * Math.log(0.5), n_tokens: 4,
  };
  const scores = { is_rel: from && rel, is_sup: sup, is_use: null, sequence: 0.5, segment: 0.5 + (from ? rel : 0) + sup };
  return { hit: from, text, tokens: [1, 2, 3, 4], scores, evidence, truncated: false };
}

// By hand, with weights of 1, of which w_sup weighs the other way round below 1 / 1.4 = 0.71:
//   0: 0.5 + 0.3 + 0.9 = 1.7 ─┬─ 2: + 0.5 + 0.2 + 0.1 = 2.5
//                             └─ 3: + 0.5 + 0.3 + 0.9 = 3.4   the answer
//   1: 0.5 + 0.8 + 0.2 = 1.5 ─── 4: + 0.5 + 0.8 + 0.2 = 3.0
const ROWS = [
  [null, A, "Trees grow there.", 0.3, 0.9], [null, B, "Grass grows <b>here</b>.", 0.8, 0.2],
  [0, A, "Few of them.", 0.2, 0.1], [0, B, "There are many!", 0.3, 0.9], [1, B, "It burns.", 0.8, 0.2],
];
const PATH_SCORES = [1.7, 1.5, 2.5, 3.4, 3.0];
const nodes = ROWS.map(([parent, from, text, rel, sup], i) => ({
  parent, depth: parent === null ? 1 : 2, retrieve: "yes", cited: from, candidate: candidate(from, text, rel, sup), raw: text, text,
  wish: { logprobs: ln([0.235, 0.765, 1e-3]), said: "yes", has_passage: parent !== null }, // p(Retrieve) 0.765
  path_score: PATH_SCORES[i], path_logprob: -2.8, excluded: false, end: parent === null ? "next" : "answer",
}));
const long = {
  question: "", text: "Trees grow there. There are many!", probability: 0.765, retrieved: true, path: [0, 3], ranked: [3, 4], truncated: false,
  segments: [{ node: 0, text: "Trees grow there.", citation: 0 }, { node: 3, text: "There are many!", citation: 1 }], passages: [A, B],
  tree: { nodes, beams: [[0, 1], [3, 4]] },
};
const short = {
  question: "", text: "Trees grow there.", probability: 0.765, retrieved: true, best: 0, candidates: [nodes[0].candidate, nodes[1].candidate],
};
const told = (numbers) => numbers.flatMap((candidate) => [
  { event: "text", candidate, text: nodes[candidate].text }, { event: "scores", candidate, scores: nodes[candidate].candidate.scores },
  { event: "finished", candidate },
]);
const planned = (numbers) => numbers.map((node) => ({ node, parent: nodes[node].parent, retrieve: "yes", probability: 0.765, hit: nodes[node].cited }));
const EVENTS = {
  Long: [
    { event: "decision", probability: 0.765, threshold: 0.2, retrieve: true },
    { event: "segments", depth: 1, segments: planned([0, 1]) }, ...told([0, 1]), { event: "beam", depth: 1, nodes: [0, 1] },
    { event: "segments", depth: 2, segments: planned([2, 3, 4]) }, ...told([2]), "pause", ...told([3, 4]),
    { event: "beam", depth: 2, nodes: [3, 4] }, { event: "long_answer", answer: long },
  ],
  Short: [
    { event: "decision", probability: 0.765, threshold: 0.2, retrieve: true }, { event: "passages", hits: [A, B] }, ...told([0, 1]),
    { event: "answer", answer: short },
  ],
};

/** In place of the engine's worker: ready at once; `requests` holds what it was sent, and `go` lets it go on after a pause. */
function scriptedWorker(events) {
  globalThis.requests = [];
  globalThis.Worker = class {
    constructor() { this.say("Hello"); }
    say(reply) { setTimeout(() => this.onmessage({ data: JSON.stringify(reply) })); }
    async postMessage([json]) {
      const request = JSON.parse(json);
      globalThis.requests.push(request);
      if (request === "Inspect") {
        this.say({ Gpu: { name: "scripted", features: [], limits: [], software: true } });
        this.say({ Ready: { name: "Scripted *1*", details: [], n_passages: 2, corpus: "corpus/manifest.json", from: "Storage" } });
      }
      if (!request.Ask) return;
      for (const event of events[request.Ask.settings.form === "long" ? "Long" : "Short"]) {
        if (event !== "pause") this.say({ Engine: event });
        else if (!globalThis.hasty) await new Promise((go) => { globalThis.go = go; });
      }
      this.say("Done");
    }
  };
}

/** A page with the scripted worker. */
async function scripted(query, { hasty = true, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (e) => errors.push(String(e)));
  await page.addInitScript(scriptedWorker, EVENTS);
  await page.addInitScript((hasty) => { globalThis.hasty = hasty; }, hasty);
  await page.goto(server.url + query);
  await page.getByTestId("ready").waitFor();
  return { page, context, errors };
}

const pieces = async (page) => (await page.getByTestId("segment-text").allTextContents()).map((text) => text.trim());
const asks = (page) => page.evaluate(() => globalThis.requests.flatMap((request) => request.Ask ?? []));
const opened = (page, testid) => page.getByTestId(testid).locator("> summary").click();
const slide = async (page, testid, value) => {
  if (!(await page.getByTestId(testid).isVisible())) await opened(page, "weigh");
  await page.getByTestId(testid).fill(String(value));
};

test("segments come with their citations while they are written, and the tree says who won, by what, and what became of the rest", async () => {
  const { page, context, errors } = await scripted("?form=long", { hasty: false });
  await ask(page);
  await page.getByText("Segment 2: writing 3 candidates in parallel, 1 finished…").waitFor();
  assert.deepEqual(await pieces(page), ["Trees grow there."]);
  assert.equal(await page.getByTestId("answer-text").count(), 0, "it is not the answer yet");
  assert.match(await page.getByTestId("citation").innerText(), /1$/);
  assert.match(await page.getByTestId("source").innerText(), /Amazon <i>basin<\/i>/);
  await opened(page, "tree");
  assert.equal(await page.getByTestId("leaf").count(), 5, "also what is being written");
  await page.screenshot({ path: `${out}/long-writing.png`, fullPage: true });

  await page.evaluate(() => globalThis.go());
  await answered(page);
  assert.deepEqual(await pieces(page), ["Trees grow there.", "There are many!"]);
  assert.deepEqual(await page.getByTestId("source").locator("h3").allInnerTexts(), ["Amazon <i>basin</i>", "Savanna"]);
  const leaves = await page.getByTestId("leaf").locator("> summary").allInnerTexts();
  assert.deepEqual(leaves, [
    "In the answer · 1.70 · Amazon <i>basin</i>: Trees grow there.", "Dropped · 2.50 · Amazon <i>basin</i>: Few of them.",
    "In the answer · 3.40 · Savanna: There are many!", "Kept in the beam · 1.50 · Savanna: Grass grows <b>here</b>.",
    "Kept in the beam · 3.00 · Savanna: It burns.",
  ]);
  // With the keyboard, and only then is there more of it.
  assert.equal(await page.getByTestId("critique").count(), 0);
  await page.getByTestId("leaf").nth(1).locator("> summary").press("Enter");
  assert.match(await page.getByTestId("critique").innerText(), /Relevant\s+0\.20\s+Supported\s+0\.10\s+Useful\s+–\s+Fluent\s+0\.50\s+Segment score\s+0\.80/);
  assert.match(await page.locator(".leaf-details").innerText(), /p\(Retrieve\) 0\.765: retrieved\. The model ended its answer here\./);
  await page.getByTestId("citation").nth(1).click();
  assert.match(page.url(), /#passage-2$/);
  for (const [colorScheme, width] of [["light", 1200], ["dark", 1200], ["light", 360]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 900 });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `${width} px`);
    await page.screenshot({ path: `${out}/long-${colorScheme}-${width}.png`, fullPage: true });
  }
  assert.equal(await page.evaluate(() => globalThis.broken), undefined, "passages and model output stay text");
  assert.deepEqual(errors, []);
  await context.close();
});

test("sliders weigh a long answer anew at once, say where it changes, and ask the worker nothing", async () => {
  const { page, context, errors } = await scripted("?form=long");
  await ask(page);
  await answered(page);
  const before = await page.evaluate(() => globalThis.requests.length);
  await opened(page, "weigh");
  assert.equal(await page.getByTestId("weigh-sup-turns").innerText(), "another answer at 0.70 and below");
  assert.equal(await page.getByTestId("weigh-delta-turns").innerText(), "decided otherwise from 0.77");
  await slide(page, "weigh-sup", 0.75);
  await page.getByText("Weighed so, the answer stays the same.").waitFor();
  await opened(page, "tree");
  assert.match(await page.getByTestId("leaf").locator("> summary").nth(2).innerText(), /^In the answer · 2\.95/, "3.4 - 0.25 · 1.8");

  await slide(page, "weigh-sup", 0.7);
  await page.getByText("Weighed so, 2 of 2 segments are others; they are marked.").waitFor();
  assert.deepEqual(await pieces(page), ["Another segment: Grass grows <b>here</b>.", "Another segment: It burns."]);
  assert.equal(await page.locator(".piece.changed").count(), 2);
  assert.deepEqual(await page.getByTestId("source").locator("h3").allInnerTexts(), ["Savanna"]);
  assert.match(await page.getByTestId("leaf").locator("> summary").first().innerText(), /^Kept in the beam/);
  await page.screenshot({ path: `${out}/long-weighed.png`, fullPage: true });

  await slide(page, "weigh-delta", 0.8);
  await page.getByText("Retrieve would be decided otherwise before segment 1, 2.").waitFor();
  await page.getByTestId("weigh-reset").click();
  await page.waitForFunction(() => document.querySelector("[data-testid=weighed]").innerText === "");
  assert.deepEqual(await pieces(page), ["Trees grow there.", "There are many!"]);
  assert.equal(await page.evaluate(() => globalThis.requests.length), before, "nothing was generated");
  assert.deepEqual(errors, []);
  await context.close();
});

test("sliders weigh a short answer anew too", async () => {
  const { page, context } = await scripted("");
  await ask(page);
  assert.equal(await answered(page), "Trees grow there.");
  assert.equal(await page.locator(".card.best h3").innerText(), "Amazon <i>basin</i>");
  // 0.8 + 0.9 w against 1.3 + 0.2 w: equal at 5/7.
  await opened(page, "weigh");
  assert.equal(await page.getByTestId("weigh-sup-turns").innerText(), "another answer at 0.70 and below");
  await page.locator(".ranking summary").click();
  await slide(page, "weigh-sup", 0);
  await page.getByText("Weighed so, passage 2 answers instead of passage 1.").waitFor();
  assert.equal(await answered(page), "Grass grows <b>here</b>.");
  assert.equal(await page.locator(".card.best h3").innerText(), "Savanna");
  assert.deepEqual(await page.getByTestId("segment").allInnerTexts(), ["0.80", "1.30"]);
  assert.match(await page.getByTestId("ranking").innerText(), /^2\s+Grass[\s\S]*1\.30[\s\S]*0\.80$/, "still open, and in its new order");
  await slide(page, "weigh-delta", 0.8);
  await page.getByText("With this threshold no passages would have been retrieved.").waitFor();
  assert.equal((await asks(page)).length, 1);
  await page.getByTestId("ask-again").click();
  await page.waitForFunction(() => globalThis.requests.filter((request) => request.Ask).length === 2);
  assert.deepEqual((await asks(page))[1].settings, { ...(await asks(page))[0].settings, threshold: 0.8, w_sup: 0 });
  await context.close();
});

test("what is decided before a segment is asked with, once", async () => {
  const { page, context } = await scripted("?form=long");
  await ask(page);
  await answered(page);
  await opened(page, "decisions");
  assert.match(await page.locator(".decisions li").nth(1).innerText(), /p\(Retrieve\) 0\.765: retrieved/);
  assert.ok(await page.getByTestId("ask-forced").isDisabled(), "nothing is decided otherwise");
  assert.equal(await page.getByLabel("Retrieve before segment 2?").inputValue(), "adaptive");
  await page.getByLabel("Retrieve before segment 2?").selectOption("no");
  await page.getByTestId("ask-forced").click();
  await answered(page);
  await page.getByLabel("Retrieve before segment 1?").selectOption("yes");
  await page.getByLabel("Retrieve before segment 2?").selectOption("adaptive");
  await page.getByTestId("ask-forced").click();
  await answered(page);
  await ask(page, "Another question?");
  await answered(page);
  const all = await asks(page);
  assert.deepEqual(all.map((request) => request.forced), [[], [null, false], [true], []]);
  assert.deepEqual(new Set(all.slice(0, 3).map((request) => request.question)).size, 1, "the same question");
  await context.close();
});

test("an answer is taken away as JSON and as Markdown, whatever the passages hold", async () => {
  const { page, context } = await scripted("?form=long");
  await ask(page, "What grows <u>there</u>?");
  await answered(page);
  await slide(page, "weigh-use", 0.8);
  const taken = async (testid) => {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByTestId(testid).click()]);
    return [download.suggestedFilename(), readFileSync(await download.path(), "utf8")];
  };
  const [name, json] = await taken("export-json");
  assert.equal(name, "selfrag-answer.json");
  const { model, asked, weighed, written } = JSON.parse(json);
  assert.equal(model, "Scripted *1*");
  assert.deepEqual([asked.w_use, weighed.w_use, weighed.form], [0.5, 0.8, "long"]);
  assert.equal(written.long.answer.tree.nodes.length, 5);
  assert.equal(written.long.answer.passages[0].passage.text, HOSTILE, "as it is, in a string");
  assert.deepEqual(written.long.ranking.path, [0, 3]);

  const [file, markdown] = await taken("export-markdown");
  assert.equal(file, "selfrag-answer.md");
  assert.match(markdown, /Trees grow there \\\[1\\\]\. There are many \\\[2\\\]\\!\n\n## Sources\n\n1\. \*\*Amazon \\<i\\>basin\\<\/i\\>\*\*: A text\./);
  assert.match(markdown, /^ {2}- \*\*answer\*\* 3\.400 · Savanna: There are many\\! \(ISREL 0\.300, ISSUP 0\.900,/m);
  assert.doesNotMatch(markdown, /(^|[^\\])<[a-z/]/i, "no HTML");
  assert.doesNotMatch(markdown, /[^\\]\]\(/, "no link");
  await context.close();
});

test("settings are read from the address and written to it, and what is no setting stays there", async () => {
  const { page, context } = await scripted("?x=1&form=long&mode=always&w_sup=1.85&passages=3&segments=2#question");
  assert.ok(await page.getByTestId("form-long").isChecked());
  await page.getByTestId("settings").click();
  assert.ok(await page.getByTestId("mode-always").isChecked());
  assert.equal(await page.getByTestId("n-docs").inputValue(), "3");
  assert.equal(await page.getByTestId("segments-limit").inputValue(), "2");
  await ask(page);
  await answered(page);
  const { settings } = (await asks(page))[0];
  assert.deepEqual(settings, {
    form: "long", mode: "always", scope: "both", threshold: 0.2, w_rel: 1, w_sup: 1.85, w_use: 0.5, n_docs: 3, max_new_tokens: 100, max_depth: 2, beam_width: 2,
  });
  const address = () => new URL(page.url()).search + new URL(page.url()).hash;
  await page.getByTestId("mode-adaptive").check({ force: true });
  await page.getByTestId("threshold").fill("0.35");
  await page.getByTestId("n-docs").fill("5");
  await page.waitForFunction(() => location.search.includes("delta=0.35"));
  assert.equal(address(), "?x=1&form=long&delta=0.35&w_sup=1.85&segments=2#question");
  const shared = page.url();
  await page.reload();
  await page.getByTestId("settings").click();
  assert.equal(await page.getByTestId("threshold").inputValue(), "0.35");
  assert.equal(page.url(), shared);
  await page.getByTestId("form-short").check({ force: true });
  await page.waitForFunction(() => !location.search.includes("form"));

  await page.goto(`${server.url}?delta=2&mode=%3Cscript%3E`);
  await page.getByText("The settings in this page's address are not used.").waitFor();
  assert.match(await page.getByTestId("notice-warning").innerText(), /delta[\s\S]*"2" is not a number from 0 to 1/);
  await context.close();
});

test("the engine writes two segments, and one without a passage where that is decided", async () => {
  const { page, context, errors } = await open(browser, `${server.url}?form=long&passages=1&tokens=20&segments=2&beam=1`);
  await load(page);
  await ask(page);
  await answered(page);
  assert.deepEqual(await pieces(page), ["There are many.", "There are many."]);
  assert.equal(await page.getByTestId("citation").count(), 2);
  await opened(page, "tree");
  assert.equal(await page.getByTestId("leaf").count(), 2);
  await opened(page, "decisions");
  await page.getByLabel("Retrieve before segment 2?").selectOption("no");
  await page.getByTestId("ask-forced").click();
  await page.getByText(/^Again and again/).first().waitFor(PATIENCE);
  await answered(page);
  assert.match((await pieces(page)).join("|"), /^There are many\.\|Again and again and/);
  assert.equal(await page.getByTestId("citation").count(), 1);
  assert.deepEqual(errors, []);
  await context.close();
});
