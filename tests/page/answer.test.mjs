// Questions through the page, from the button to the citation, on a software GPU: a tiny generator (tiny.mjs) whose text is known,
// the demo's real encoder and passages.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { corpus, dist, out, tinyModel } from "./fixture.mjs";
import { serve } from "./server.mjs";
import { PATIENCE, answered, ask, load, ready, settings } from "./steps.mjs";

let server, browser, tiny;
before(async () => {
  tiny = tinyModel();
  server = await serve({ "/": dist, "/models/": tiny, "/corpus/": corpus });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});
beforeEach(() => { server.faults.length = 0; });

test("a question is decided, retrieved for, answered, criticised, ranked and cited", async () => {
  const { page, context, errors } = await open(browser, server.url, { viewport: { width: 1200, height: 900 } });
  await load(page);
  assert.match(await page.getByTestId("ready").innerText(), /Tiny[\s\S]*2 layers[\s\S]*passages[\s\S]*kept in this browser/);
  await settings(page, "adaptive");
  await ask(page);
  assert.equal(await answered(page), "There are many.");

  assert.match(await page.getByTestId("decision").innerText(), /p\(Retrieve\) 1\.000 > threshold 0\.20: passages are retrieved/);
  assert.equal(await page.getByTestId("passage").count(), 2);
  assert.match(await page.getByTestId("passage-text").first().innerText(), /Amazon/, "the first passage is about the question");
  for (const critique of await page.getByTestId("critique").allInnerTexts()) {
    const values = critique.match(/-?\d\.\d\d/g).map(Number);
    assert.equal(values.length, 5, critique);
    const [isRel, isSup, isUse, sequence, segment] = values;
    assert.ok(isRel > 0.9 && isSup > 0.9 && isUse > 0.9, critique);
    assert.ok(Math.abs(segment - (isRel + isSup + 0.5 * isUse + sequence)) < 0.03, critique);
  }
  assert.match(await page.getByTestId("stats").innerText(), /\d tokens\/s/);

  await page.getByTestId("citation").click();
  const best = page.locator(".card.best");
  assert.match(page.url(), /#passage-[12]$/);
  assert.match(await best.getByTestId("passage-text").getAttribute("class"), /open/);
  await page.screenshot({ path: `${out}/answer.png`, fullPage: true });
  assert.deepEqual(errors, []);

  // Another question, without passages, in the same session.
  await settings(page, "never", { tokens: 20 });
  await ask(page, "Say it again.");
  await page.getByText("As set: answered without passages").waitFor(PATIENCE);
  await page.waitForFunction(() => /^Again and again and/.test(document.querySelector("[data-testid=answer-text]")?.innerText ?? ""), null, PATIENCE);
  assert.equal(await page.getByTestId("citation").count(), 0);

  // And after a reload, with the server's models and passages gone.
  server.faults.push({ path: /models|corpus/, status: 503, times: 1e6 });
  await page.reload();
  await page.getByLabel("Load Tiny", { exact: true }).click();
  await ready(page);
  await settings(page, "always", { passages: 1 });
  await ask(page);
  assert.equal(await answered(page), "There are many.");
  await context.close();
});

test("stop ends an answer, and the next question is answered", async () => {
  const { page, context } = await open(browser, server.url);
  await load(page);
  await settings(page, "never", { tokens: 300 });
  await ask(page, "Say it again.");
  await page.getByText(/Again and/).first().waitFor(PATIENCE);
  await page.getByTestId("stop").click();
  await page.getByText("Stopped").waitFor(PATIENCE);
  assert.equal(await page.getByTestId("answer-text").count(), 0);
  assert.equal(await page.getByTestId("notice-failure").count(), 0, "a wish is not a failure");
  await settings(page, "always", { passages: 1 });
  await ask(page);
  assert.equal(await answered(page), "There are many.");
  await context.close();
});

test("a question asked before a model is there is answered when it is", async () => {
  const { page, context } = await open(browser, server.url);
  await settings(page, "always", { passages: 1 });
  await ask(page);
  assert.equal(await answered(page), "There are many.");
  await context.close();
});

test("a lost device is replaced, and questions are answered again", async () => {
  const page = await (await browser.newContext()).newPage();
  page.on("worker", (worker) => worker.evaluate(() => {
    const original = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (descriptor) {
      return (globalThis.lastDevice = await original.call(this, descriptor));
    };
  }).catch(() => {}));
  await page.goto(server.url);
  await load(page);
  await page.workers()[0].evaluate(() => globalThis.lastDevice.destroy());
  await page.getByText("The GPU is back").waitFor(PATIENCE);
  await settings(page, "always", { passages: 1 });
  await ask(page);
  assert.equal(await answered(page), "There are many.");
  await page.context().close();
});

test("a picked GGUF file answers", async () => {
  const { page, context } = await open(browser, server.url);
  await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
  await page.getByTestId("pick").setInputFiles(`${tiny}/tiny.gguf`);
  await ready(page);
  assert.match(await page.getByTestId("ready").innerText(), /tiny\.gguf/);
  await settings(page, "always", { passages: 1 });
  await ask(page);
  assert.equal(await answered(page), "There are many.");
  await context.close();
});
