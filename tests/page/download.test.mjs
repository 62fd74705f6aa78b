// Downloads through the page: progress, resuming, damage, refused storage. The files are no model, so loading ends with an
// error about their content; what is tested is what happened to the bytes before.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { dist, fakeModel } from "./fixture.mjs";
import { serve } from "./server.mjs";

let server, browser;
const model = fakeModel("fake-model");
before(async () => {
  server = await serve({ "/": dist, "/models/": model.path });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});
beforeEach(() => {
  server.faults.length = 0;
  server.requests.length = 0;
});

/** Loads the demo and waits until that has ended, well or not. */
async function load(page) {
  await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
  await page.getByTestId("load-demo").click();
  await page.getByTestId("notice-failure").waitFor({ timeout: 30_000 });
}

const failure = (page) => page.getByTestId("notice-failure").innerText();
const kept = (page) => page.getByTestId("kept-model").allInnerTexts();

/** The row of a kept model. */
const row = async (page, name) => (await kept(page)).find((text) => text.startsWith(`${name}\n`));

/** The kept bytes of a file as the browser has them. */
const stored = (page, name) => page.evaluate(async (name) => {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle("models").catch(() => null);
  if (!folder) return null;
  for await (const [, entry] of folder) {
    for await (const [key, file] of entry) {
      if (key === name) return Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", await (await file.getFile()).arrayBuffer())));
    }
  }
  return null;
}, name).then((digest) => digest && Buffer.from(digest).toString("hex"));

const modelRequests = () => server.requests.filter((r) => r.path.endsWith(".gguf"));

test("a download shows its progress, is kept whole, and is not fetched twice", async () => {
  const { page, context, errors } = await open(browser, server.url);
  server.faults.push({ path: /00001/, bytesPerSecond: 3_000_000 });
  const seen = [];
  await page.exposeFunction("seen", (text) => seen.push(text));
  await page.evaluate(() => {
    new MutationObserver(() => {
      const text = document.querySelector("[data-testid=progress]")?.textContent;
      if (text) globalThis.seen(text);
    }).observe(document, { childList: true, subtree: true, characterData: true });
  });
  await load(page);
  assert.ok(seen.filter((text) => /of 4\.0 MB .* MB\/s .* left .*00001/.test(text)).length > 2, `${seen}`);
  for (const file of model.files) assert.equal(await stored(page, file.url), file.sha256, file.url);
  assert.match(await row(page, "Fake"), /Fake\s*4\.0 MB\s*Load\s*Remove/);

  const before = modelRequests().length;
  assert.equal(before, 3);
  await page.reload();
  await load(page);
  assert.equal(modelRequests().length, before, "kept files were asked for again");

  // Even the manifest is not needed.
  server.faults.push({ path: /models/, status: 503, times: 1000 });
  await page.reload();
  await load(page);
  assert.doesNotMatch(await failure(page), /503|broke off/, "the failure is about the kept files' content, not about the network");

  await page.getByLabel("Remove Fake", { exact: true }).click();
  await page.getByLabel("Remove Fake (passage encoder)").click();
  await page.getByTestId("kept").waitFor({ state: "hidden" });
  assert.equal(await stored(page, model.files[0].url), null);
  assert.deepEqual(errors, []);
  await context.close();
});

test("a cut connection is continued by range", async () => {
  const { page, context } = await open(browser, server.url);
  server.faults.push({ path: /00001/, cutAfter: 1_500_000 }, { path: /00001/, status: 503 });
  await load(page);
  const ranges = modelRequests().filter((r) => r.path.includes("00001")).map((r) => r.range);
  assert.equal(ranges[0], null);
  assert.match(ranges.at(-1), /^bytes=[1-9]\d*-$/);
  assert.equal(await stored(page, model.files[0].url), model.files[0].sha256);
  await context.close();
});

test("a download that gave up is continued the next time, after a reload", async () => {
  const { page, context } = await open(browser, server.url);
  server.faults.push({ path: /00002-of/, cutAfter: 400_000 }, { path: /00002-of/, status: 503, times: 10 });
  await load(page);
  assert.match(await failure(page), /broke off[\s\S]*kept, load again to continue/);
  assert.match(await row(page, "Fake"), /Fake\s*3\.\d MB of 4\.0 MB, to be continued\s*Continue/);
  server.faults.length = 0;
  server.requests.length = 0;
  await page.reload();
  await page.getByLabel("Continue Fake").click();
  await page.getByTestId("notice-failure").waitFor({ timeout: 30_000 });
  assert.equal(modelRequests().filter((r) => r.path.includes("-of-")).length, 1);
  assert.match(modelRequests()[0].range, /^bytes=[1-9]\d*-$/);
  assert.equal(await stored(page, model.files[1].url), model.files[1].sha256);
  await context.close();
});

test("a corrupt shard is noticed and fetched again", async () => {
  const { page, context } = await open(browser, server.url);
  server.faults.push({ path: /00001/, corruptAt: 2_000_000 });
  await load(page);
  assert.match(await page.getByTestId("notice-warning").innerText(), /fake-00001-of-00002\.gguf arrived damaged/);
  assert.equal(await stored(page, model.files[0].url), model.files[0].sha256);
  await context.close();
});

test("a shard that stays corrupt is an error that names it, and is not kept", async () => {
  const { page, context } = await open(browser, server.url);
  server.faults.push({ path: /00001/, corruptAt: 7, times: 5 });
  await load(page);
  assert.match(await failure(page), /fake-00001-of-00002\.gguf[\s\S]*sha256/);
  assert.equal(await stored(page, model.files[0].url), null);
  await context.close();
});

test("a server that ignores ranges makes it start over", async () => {
  const { page, context } = await open(browser, server.url);
  server.faults.push({ path: /00001/, cutAfter: 1_000_000 }, { path: /00001/, ignoreRange: true });
  await load(page);
  assert.equal(await stored(page, model.files[0].url), model.files[0].sha256);
  await context.close();
});

test("a missing file is told at once", async () => {
  const { page, context } = await open(browser, server.url);
  server.faults.push({ path: /00001/, status: 404 });
  await load(page);
  assert.match(await failure(page), /status 404/);
  assert.equal(modelRequests().length, 1);
  await context.close();
});

test("a missing demo says so", async () => {
  const { page, context } = await open(browser, server.url);
  server.faults.push({ path: /manifest/, status: 404 });
  await load(page);
  assert.match(await failure(page), /models\/manifest\.json[\s\S]*404/);
  await context.close();
});

test("cancelling keeps what has arrived", async () => {
  const { page, context } = await open(browser, server.url);
  server.faults.push({ path: /00001/, bytesPerSecond: 1_000_000 });
  await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
  await page.getByTestId("load-demo").click();
  await page.getByText(/ MB of 4\.0 MB/).waitFor();
  await page.waitForTimeout(500);
  await page.getByTestId("cancel").click();
  await page.getByTestId("load-kept").waitFor();
  assert.match(await row(page, "Fake"), /Fake\s*.* of 4\.0 MB, to be continued/);
  assert.equal(await page.getByTestId("notice-failure").count(), 0, "a wish is not a failure");
  await context.close();
});

// What a private window, a full disk and a small quota do, done to the worker before it starts.
const REFUSALS = {
  "refused storage": [() => { StorageManager.prototype.getDirectory = () => Promise.reject(new DOMException("refused", "SecurityError")); }, /refuses to store/],
  "a full disk": [() => { FileSystemSyncAccessHandle.prototype.write = () => { throw new DOMException("full", "QuotaExceededError"); }; }, /QuotaExceededError/],
  "a small quota": [() => { StorageManager.prototype.estimate = () => Promise.resolve({ usage: 10e6, quota: 11e6 }); }, /grants only 1 MB/],
};
for (const [name, [refuse, message]] of Object.entries(REFUSALS)) {
  test(`${name} is said, and ranges are read from the network instead`, async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    // As the first words of the worker's own script: told from outside it may already have asked for storage.
    await context.route("**/worker_boot.js", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: `(${refuse})();\n${await response.text()}` });
    });
    await page.goto(server.url);
    await load(page);
    const warnings = (await page.getByTestId("notice-warning").allInnerTexts()).join("\n");
    assert.match(warnings, message);
    assert.match(warnings, /read from the network each time/);
    const ranges = modelRequests().map((r) => r.range);
    assert.ok(ranges.some((range) => /^bytes=\d+-\d+$/.test(range)), `${ranges} ${await failure(page)}`);
    assert.equal(await stored(page, model.files[0].url), null);
    await context.close();
  });
}

test("picked files are copied and kept", async () => {
  const { page, context } = await open(browser, server.url);
  await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
  const files = model.files.map((file) => ({ name: file.url, mimeType: "", buffer: readFileSync(`${model.path}/${file.url}`) }));
  await page.getByTestId("pick").setInputFiles(files);
  await page.getByTestId("notice-failure").waitFor({ timeout: 30_000 });
  for (const file of model.files) assert.equal(await stored(page, file.url), file.sha256, file.url);
  assert.match(await row(page, "fake-00001-of-00002.gguf"), /4\.0 MB/);
  await context.close();
});

test("a file from an address is kept under its name", async () => {
  const { page, context } = await open(browser, server.url);
  await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
  await page.getByTestId("url").fill(`${server.url}models/${model.files[1].url}`);
  await page.getByTestId("load-url").click();
  await page.getByTestId("notice-failure").waitFor({ timeout: 30_000 });
  assert.equal(await stored(page, model.files[1].url), model.files[1].sha256);
  await context.close();
});
