// What the page says when the model judged its passages irrelevant: through the real engine with a tiny generator that judges so, and
// for each kind of judgement with a scripted worker in the engine's place.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { corpus, dist, out, tinyModel } from "./fixture.mjs";
import { serve } from "./server.mjs";
import { PATIENCE, answered, ask, load, settings } from "./steps.mjs";

let server, browser;
before(async () => {
  server = await serve({ "/": dist, "/models/": tinyModel({ folder: "tiny-irrelevant", judges: "[Irrelevant]" }), "/corpus/": corpus });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

const notice = (page) => page.getByTestId("relevance").innerText();

test("an answer from passages that were all judged irrelevant says so, and one without passages does not", async () => {
  const { page, context, errors } = await open(browser, server.url);
  await load(page);
  await settings(page, "always");
  await ask(page);
  assert.equal(await answered(page), "There are many.", "it is a notice: the answer stays");
  assert.match(await notice(page), /None of the passages was judged relevant/);
  assert.equal(await page.getByTestId("citation").count(), 1);
  for (const critique of await page.getByTestId("critique").allInnerTexts()) assert.match(critique, /Relevant\s+0\.0\d/);

  await settings(page, "never");
  await ask(page, "Say it again.");
  await page.getByText("As set: answered without passages").waitFor(PATIENCE);
  await answered(page);
  assert.equal(await notice(page), "");
  assert.deepEqual(errors, []);
  await context.close();
});

/** In place of the engine's worker: ready at once, and answers every question with one candidate for each of `isRel`. */
function scriptedWorker({ isRel, best }) {
  const text = "There are 16,000 <b>species</b> of trees.";
  const hits = isRel.map((_, i) => ({ passage: { id: `${i}`, title: `Passage <i>${i + 1}</i>`, text: "A text." }, score: 0.5 }));
  const candidates = isRel.map((is_rel, i) => ({
    hit: hits[i], text, tokens: [], truncated: false, scores: { is_rel, is_sup: 0.9, is_use: 0.8, sequence: 0.7, segment: 2.0 - 0.1 * Math.abs(i - best) },
  }));
  const answer = { question: "", text, probability: null, retrieved: true, candidates, best };
  globalThis.Worker = class {
    constructor() { this.say("Hello"); }
    // Later, as messages come: the page is not to be called while it sends.
    say(reply) { setTimeout(() => this.onmessage({ data: JSON.stringify(reply) })); }
    postMessage([json]) {
      const request = JSON.parse(json);
      if (request === "Inspect") {
        this.say({ Gpu: { name: "scripted", features: [], limits: [], software: true } });
        this.say({ Ready: { name: "Scripted", details: [], n_passages: 2, corpus: "corpus/manifest.json", from: "Storage" } });
      }
      if (!request.Ask) return;
      for (const event of [{ event: "passages", hits }, { event: "answer", answer }]) this.say({ Engine: event });
      this.say("Done");
    }
  };
}

const CASES = [
  ["all irrelevant", { isRel: [0.01, 0.0], best: 0 }, /None of the passages was judged relevant/],
  ["the only one irrelevant", { isRel: [0.3], best: 0 }, /^The passage was judged irrelevant/],
  ["the cited one irrelevant", { isRel: [0.3, 0.9], best: 0 }, /The passage of this answer was judged irrelevant/],
  ["equally likely", { isRel: [0.5, 0.1], best: 0 }, /^$/],
  ["the cited one relevant", { isRel: [0.0, 0.9], best: 1 }, /^$/],
];
for (const [name, script, expected] of CASES) {
  test(`the notice: ${name}`, async () => {
    const context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
    const page = await context.newPage();
    await page.addInitScript(scriptedWorker, script);
    await page.goto(server.url);
    await page.getByTestId("ready").waitFor();
    assert.equal(await page.getByRole("status").count(), 1, "no answer, no notice");
    await ask(page);
    assert.equal(await answered(page), "There are 16,000 <b>species</b> of trees.", "model output stays text");
    assert.match(await notice(page), expected);
    assert.equal(await page.getByTestId("relevance").getAttribute("role"), "status");
    const top = async (id) => (await page.getByTestId(id).boundingBox()).y;
    if (await notice(page)) assert.ok((await top("relevance")) < (await top("answer-text")), "above the answer");
    for (const [colorScheme, width] of [["light", 1200], ["dark", 1200], ["light", 360], ["dark", 360]]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height: 800 });
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `${width} px`);
      if (name === "all irrelevant") await page.screenshot({ path: `${out}/irrelevant-${colorScheme}-${width}.png`, fullPage: true });
    }
    await context.close();
  });
}
