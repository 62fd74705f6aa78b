// Passages from elsewhere: a store that the address or the settings name, flat or clustered, on this host or another.
import assert from "node:assert/strict";
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

test("an address without a store is told by its name; the settings name another, and go back to the page's own", async () => {
  const { page, context } = await open(browser, `${server.url}?corpus=nowhere`);
  await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
  await page.getByTestId("load-demo").click();
  await page.getByTestId("notice-failure").waitFor(PATIENCE);
  assert.match(await page.getByTestId("notice-failure").innerText(), /nowhere\/manifest\.json/);
  await settings(page, "always", { passages: 1 });
  assert.equal(await page.getByTestId("corpus").inputValue(), "nowhere");
  await page.getByTestId("corpus").fill("elsewhere");
  await page.getByTestId("use-corpus").click();
  await load(page);
  assert.ok(asked(server, "/elsewhere/") > 5);
  assert.equal(asked(server, "/corpus/"), 0);
  await ask(page);
  assert.equal(await answered(page), "There are many.");
  assert.equal(await page.getByTestId("searched").count(), 0, "all of it was searched");
  await page.getByTestId("corpus").fill("");
  await page.getByTestId("use-corpus").click();
  await page.getByTestId("loading").waitFor(PATIENCE);
  await ready(page);
  assert.ok(asked(server, "/corpus/") > 5);
  assert.doesNotMatch(page.url(), /corpus/);
  await context.close();
});

test("a clustered store on another host answers by ranges, and the answer says what that took", async () => {
  const { page, context, errors } = await open(browser, server.url);
  await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
  await settings(page, "always", { passages: 2 });
  await page.getByTestId("corpus").fill(`${other.url}wiki/`);
  await page.getByTestId("use-corpus").click();
  assert.match(page.url(), /corpus=http%3A%2F%2Flocalhost/);
  await load(page);
  assert.equal(asked(server, "/corpus/"), 0);
  assert.match(await page.getByTestId("ready").innerText(), /9,097 passages/);
  const before = other.requests.length;
  await ask(page);
  assert.equal(await answered(page), "There are many.");
  const told = await page.getByTestId("searched").innerText();
  assert.match(told, /^[\d,]+ kB in \d+ requests; \d+ of \d+ clusters searched; expected to find \d+\.\d % of the ten best$/);
  const ranges = other.requests.slice(before);
  assert.ok(ranges.length > 0 && ranges.every(({ range }) => range), JSON.stringify(ranges));
  assert.equal(Number(/in (\d+) requests/.exec(told)[1]), ranges.length);
  assert.match(await page.getByTestId("passage-text").first().innerText(), /Amazon/);
  await page.screenshot({ path: `${out}/clustered.png`, fullPage: true });
  assert.deepEqual(errors, []);
  await context.close();
});
