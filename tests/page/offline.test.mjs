// The page without its server: what the service worker keeps, what it leaves alone, and how updates arrive.
import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { corpus, dist, out, tinyModel } from "./fixture.mjs";
import { serve } from "./server.mjs";
import { answered, ask, load, ready, settings } from "./steps.mjs";

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

/** Waits until the browser keeps the page. */
const keeps = (page) => page.evaluate(async () => {
  const { active } = await navigator.serviceWorker.ready;
  if (active.state !== "activated") await new Promise((done) => active.addEventListener("statechange", done));
});

/** The caches' names, and the paths of all that they hold. */
const kept = (page) => page.evaluate(async () => {
  const names = await caches.keys();
  const requests = await Promise.all(names.map(async (name) => (await caches.open(name)).keys()));
  return { names, paths: requests.flat().map((request) => new URL(request.url).pathname) };
});

/** The page has started, its worker too. */
const isThere = (page) => page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });

test("with its server gone, the page opens in its folder, and a kept model answers", async (t) => {
  const folder = await serve({ "/": `${out}/nothing`, "/some/folder/": dist, "/some/folder/models/": tiny, "/some/folder/corpus/": corpus });
  t.after(() => folder.close());
  const { page, context, errors } = await open(browser, `${folder.url}some/folder/`);
  await load(page);
  await keeps(page);
  const { names, paths } = await kept(page);
  assert.equal(names.length, 1);
  assert.ok(paths.includes("/some/folder/") && paths.includes("/some/folder/worker_boot.js"), `${paths}`);
  assert.ok(paths.every((path) => /^\/some\/folder\/([\w.-]+|(snippets|libraries)\/.+)?$/.test(path)), `no models, no passages: ${paths}`);

  await folder.close();
  await page.reload();
  await page.getByLabel("Load Tiny", { exact: true }).click();
  await ready(page);
  await settings(page, "always", { passages: 1 });
  await ask(page);
  assert.equal(await answered(page), "There are many.");
  await page.goto(`${folder.url}some/folder/index.html#question`);
  await isThere(page);
  await page.goto(`${folder.url}some/folder/?bench`);
  await page.getByTestId("bench").waitFor();
  await assert.rejects(page.goto(folder.url), /ERR_CONNECTION_REFUSED/, "what lies outside the folder is not its business");
  assert.deepEqual(errors, []);
  await context.close();
});

test("models, passages and ranges pass by", async () => {
  const { page, context } = await open(browser, server.url);
  await isThere(page);
  await keeps(page);
  const seen = [];
  context.on("response", (answer) => seen.push({ path: new URL(answer.url()).pathname, kept: answer.fromServiceWorker() }));
  await page.reload();
  await load(page);
  const data = seen.filter(({ path }) => /^\/(models|corpus)\//.test(path));
  assert.ok(data.length > 5, `${JSON.stringify(seen)}`);
  assert.deepEqual(data.filter((answer) => answer.kept), []);
  const app = seen.find(({ path }) => /^\/app-.*\.wasm$/.test(path));
  assert.equal(app?.kept, true, JSON.stringify(seen));
  const range = await page.evaluate(async () => {
    const answer = await fetch("worker_bg.wasm", { headers: { range: "bytes=0-3" } });
    return { status: answer.status, bytes: (await answer.arrayBuffer()).byteLength };
  });
  assert.deepEqual(range, { status: 206, bytes: 4 });
  assert.ok((await kept(page)).paths.every((path) => !/^\/(models|corpus|adapter)\//.test(path)));
  await context.close();
});

test("a new build is shown at once, and replaces the old one in the cache when it has arrived whole", async (t) => {
  const copy = `${out}/updated`;
  rmSync(copy, { recursive: true, force: true });
  cpSync(dist, copy, { recursive: true, filter: (path) => !/\/(models|corpus|adapter)$/.test(path) });
  const change = (file, from, to) => {
    const text = readFileSync(`${copy}/${file}`, "utf8");
    assert.notEqual(text.replace(from, to), text, `${file} has no ${from}`);
    writeFileSync(`${copy}/${file}`, text.replace(from, to));
  };
  const own = await serve({ "/": copy });
  t.after(() => own.close());
  const { page, context } = await open(browser, own.url);
  await isThere(page);
  await keeps(page);

  change("index.html", /<title>.*<\/title>/, "<title>Newer</title>");
  change("offline_files.js", /build: "\w+"/, 'build: "newer"');
  await page.reload();
  assert.equal(await page.title(), "Newer");
  const deadline = Date.now() + 20_000;
  while ((await kept(page)).names.some((name) => !name.endsWith("newer"))) {
    assert.ok(Date.now() < deadline, "the old build is still kept");
    await page.waitForTimeout(100);
  }

  // One that does not arrive whole replaces nothing.
  const whole = await kept(page);
  change("offline_files.js", /build: "\w+", files: \[/, 'build: "broken", files: [ "not-there.js",');
  await page.evaluate(async () => {
    const registration = await navigator.serviceWorker.getRegistration();
    await registration.update();
    while (registration.installing) await new Promise((later) => setTimeout(later, 50));
  });
  assert.ok(own.requests.some(({ path }) => path === "/not-there.js"), "the newest build was tried");
  assert.deepEqual(await kept(page), whole);
  await own.close();
  await page.reload();
  assert.equal(await page.title(), "Newer");
  await isThere(page);
  await context.close();
});

test("a server that is in trouble, or far too slow, is one that is gone", async () => {
  const { page, context } = await open(browser, server.url);
  await isThere(page);
  await keeps(page);
  for (const fault of [{ status: 503 }, { delayMs: 60_000 }]) {
    server.faults.push({ path: /^\/$/, times: 1, ...fault });
    await page.reload();
    await isThere(page);
    assert.equal(server.faults.length, 0, "the server was asked first");
  }
  await context.close();
});

const REFUSALS = {
  "a browser without service workers": () => Object.defineProperty(Navigator.prototype, "serviceWorker", { get: () => undefined }),
  "a frame in which they throw": () => Object.defineProperty(Navigator.prototype, "serviceWorker", { get: () => { throw new DOMException("sandboxed", "SecurityError"); } }),
  "a browser that refuses them": () => { ServiceWorkerContainer.prototype.register = () => Promise.reject(new DOMException("refused", "SecurityError")); },
};
for (const [name, before] of Object.entries(REFUSALS)) {
  test(`${name} gets the page all the same`, async () => {
    const { page, context, errors } = await open(browser, server.url, { before });
    await isThere(page);
    await page.waitForTimeout(500);
    assert.deepEqual((await kept(page)).names, []);
    assert.deepEqual(errors, []);
    await context.close();
  });
}

test("a server without the list serves the page all the same", async () => {
  server.faults.push({ path: /offline_files/, status: 404, times: 1e6 });
  const { page, context, errors } = await open(browser, server.url);
  await isThere(page);
  await page.waitForTimeout(500);
  assert.deepEqual((await kept(page)).names, []);
  assert.deepEqual(errors, []);
  await context.close();
});
