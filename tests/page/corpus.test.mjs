// Passages from elsewhere: a store that the address or the settings name, flat or clustered, on this host or another.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { clusteredCorpus, corpus, dist, out, tinyModel } from "./fixture.mjs";
import { serve } from "./server.mjs";
import { PATIENCE, answered, ask, load, ready, settings } from "./steps.mjs";

let server, other, browser;
before(async () => {
  server = await serve({ "/": dist, "/models/": tinyModel(), "/corpus/": corpus, "/elsewhere/": corpus });
  const open = { "access-control-allow-origin": "*", "access-control-expose-headers": "content-range, accept-ranges" };
  other = await serve({ "/": `${out}/nothing`, "/wiki/": clusteredCorpus() }, open);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
  await other?.close();
});
beforeEach(() => {
  for (const one of [server, other]) one.requests.length = one.faults.length = 0;
});

const asked = (server, folder) => server.requests.filter(({ path }) => path.startsWith(folder)).length;

/** Takes passages from an address, or from those that the list has. */
async function take(page, place) {
  const list = page.getByTestId("corpora");
  if ((await places(page)).includes(place)) {
    await list.selectOption(place);
  } else {
    await list.selectOption("another");
    await page.getByTestId("corpus").fill(place);
  }
  await page.getByTestId("use-corpus").click();
  await ready(page);
}

const places = (page) => page.getByTestId("corpora").locator("option").evaluateAll((options) => options.map((option) => option.value));
const chosen = (page) => page.getByTestId("corpora").inputValue();

/** In the page: flips a byte of the largest range that is kept of a store's file with such a hash; names all folders. */
async function flip(hash) {
  const corpora = await (await navigator.storage.getDirectory()).getDirectoryHandle("corpora");
  const [folders, ranges] = [[], []];
  for await (const [name, folder] of corpora) {
    folders.push(name);
    for await (const [file, handle] of folder) {
      if (file.startsWith(hash)) ranges.push({ handle, size: (await handle.getFile()).size });
    }
  }
  const [largest] = ranges.sort((a, b) => b.size - a.size);
  if (largest) {
    const bytes = new Uint8Array(await (await largest.handle.getFile()).arrayBuffer());
    bytes[bytes.length >> 1] ^= 1;
    const to = await largest.handle.createWritable();
    await to.write(bytes);
    await to.close();
  }
  return { folders, ranges: ranges.length };
}

// One visitor, who loads the model twice: on a software GPU that is what takes long.
test("passages from elsewhere", async (t) => {
  const { page, context, errors } = await open(browser, `${server.url}?corpus=nowhere`);
  const wiki = `${other.url}wiki/`;
  /** Asks, and returns what the search took and the passages. */
  const answer = async () => {
    await ask(page);
    await page.getByTestId("stop").waitFor({ state: "detached", ...PATIENCE });
    assert.equal(await answered(page), "There are many.");
    const told = page.getByTestId("searched");
    const passages = await page.getByTestId("passage-text").allInnerTexts();
    return { told: (await told.count()) ? await told.innerText() : null, passages };
  };

  await t.test("an address without a store is told by its name, and the page's own answer in its place", async () => {
    await load(page);
    assert.match(await page.getByTestId("notice-warning").innerText(), /others stay in their place.*nowhere\/manifest\.json/s);
    await settings(page, "always", { passages: 2 });
    assert.equal(await chosen(page), "");
    assert.doesNotMatch(page.url(), /corpus/);
    assert.ok(asked(server, "/corpus/") > 5);
  });

  await t.test("another is opened beside the loaded model; one that cannot be leaves everything as it was", async () => {
    await page.getByTestId("notice-warning").getByLabel("Dismiss").click();
    server.requests.length = 0;
    await take(page, "elsewhere");
    assert.ok(asked(server, "/elsewhere/") > 5);
    assert.equal(asked(server, "/models/"), 0);
    assert.match(page.url(), /corpus=elsewhere/);
    await take(page, "bad");
    assert.match(await page.getByTestId("notice-warning").innerText(), /bad\/manifest\.json.*404/s);
    assert.equal(await chosen(page), "elsewhere/");
    assert.match(page.url(), /corpus=elsewhere/);
    assert.equal((await answer()).told, null, "all of it was searched");
  });

  await t.test("the list has what is kept, and removes it", async () => {
    assert.deepEqual(await places(page), ["", "elsewhere/", "another"]);
    assert.match(await page.getByTestId("corpora").innerText(), /page's own \(9097 passages, .* MB kept\)\s+elsewhere\/ \(9097 passages, .* MB kept\)/);
    assert.ok(await page.getByTestId("remove-corpus").isDisabled(), "they are in use");
    server.requests.length = 0;
    await take(page, "");
    assert.equal(asked(server, "/corpus/"), 1, "kept but for a look at the manifest");
    assert.doesNotMatch(page.url(), /corpus/);
    await page.getByTestId("corpora").selectOption("elsewhere/");
    await page.getByTestId("remove-corpus").click();
    await page.waitForFunction(() => document.querySelectorAll("[data-testid=corpora] option").length === 2, null, PATIENCE);
    assert.deepEqual((await page.evaluate(flip, "-")).folders.filter((name) => name.includes("elsewhere")), []);
  });

  let first;
  await t.test("a clustered store on another host answers by ranges, and the answer says what that took", async () => {
    await take(page, wiki);
    assert.match(page.url(), /corpus=http%3A%2F%2Flocalhost/);
    assert.match(await page.getByTestId("ready").innerText(), /9,097 passages/);
    const before = other.requests.length;
    first = await answer();
    assert.match(first.told, /^[\d,]+ kB in \d+ requests; \d+ of \d+ clusters searched; expected to find \d+\.\d % of the ten best$/);
    const ranges = other.requests.slice(before);
    assert.ok(ranges.length > 1 && ranges.every(({ range }) => range), JSON.stringify(ranges));
    assert.equal(Number(/in (\d+) requests/.exec(first.told)[1]), ranges.length);
    t.diagnostic(`first: ${first.told}`);
    assert.match(first.passages[0], /Amazon/);
    await page.screenshot({ path: `${out}/clustered.png`, fullPage: true });
  });

  await t.test("opened again, it costs nothing but what was damaged in storage", async () => {
    const { clusters } = JSON.parse(readFileSync(`${clusteredCorpus()}/manifest.json`, "utf8"));
    await take(page, "");
    assert.ok((await page.evaluate(flip, clusters.parts[0].records.sha256.slice(0, 16))).ranges > 1);
    other.requests.length = 0;
    await take(page, wiki);
    assert.deepEqual(other.requests.map(({ path }) => path), ["/wiki/manifest.json"]);
    const again = await answer();
    t.diagnostic(`again, one damaged: ${again.told}`);
    assert.match(again.told, /^\d+ kB in 1 requests and \d+ kB kept from before; /);
    assert.equal(other.requests.length, 2);
    assert.deepEqual(again.passages, first.passages);
  });

  await t.test("after a reload, with its host gone, it answers what it was asked before", async () => {
    await other.close();
    await page.reload();
    await page.getByLabel("Load Tiny", { exact: true }).click(PATIENCE);
    await ready(page);
    assert.equal(await page.getByTestId("notice-warning").count(), 0);
    await settings(page, "always", { passages: 2 });
    assert.equal(await chosen(page), wiki);
    const last = await answer();
    t.diagnostic(`without the host: ${last.told}`);
    assert.match(last.told, /^0 kB in 0 requests and \d+ kB kept from before; \d+ of \d+ clusters searched; expected/);
    assert.deepEqual(last.passages, first.passages);
  });
  assert.deepEqual(errors, []);
  await context.close();
});
