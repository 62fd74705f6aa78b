// Passages from elsewhere: a store that the address or the settings name, on this host or another.
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { corpus, dist, out, tinyModel } from "./fixture.mjs";
import { serve } from "./server.mjs";
import { PATIENCE, answered, ask, load, ready, settings } from "./steps.mjs";

let server, other, browser;
before(async () => {
  server = await serve({ "/": dist, "/models/": tinyModel(), "/corpus/": corpus });
  const open = { "access-control-allow-origin": "*", "access-control-expose-headers": "content-range, accept-ranges" };
  other = await serve({ "/": `${out}/nothing`, "/wiki/": corpus }, open);
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

test("the address names a store on another host, the settings go back to the page's own", async () => {
  const { page, context, errors } = await open(browser, `${server.url}?corpus=${encodeURIComponent(`${other.url}wiki/`)}&mode=always`);
  await load(page);
  assert.ok(asked(other, "/wiki/") > 5);
  assert.equal(asked(server, "/corpus/"), 0);
  await settings(page, "always", { passages: 1 });
  assert.equal(await page.getByTestId("corpus").inputValue(), `${other.url}wiki/`);
  await ask(page);
  assert.equal(await answered(page), "There are many.");
  await page.getByTestId("corpus").fill("");
  await page.getByTestId("use-corpus").click();
  await page.getByTestId("loading").waitFor(PATIENCE);
  await ready(page);
  assert.ok(asked(server, "/corpus/") > 5);
  assert.doesNotMatch(page.url(), /corpus=/);
  await ask(page);
  assert.equal(await answered(page), "There are many.");
  assert.deepEqual(errors, []);
  await context.close();
});

test("an address without a store is told by its name, and the page's own passages come back", async () => {
  const { page, context } = await open(browser, `${server.url}?corpus=nowhere`);
  await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
  await page.getByTestId("load-demo").click();
  await page.getByTestId("notice-failure").waitFor(PATIENCE);
  assert.match(await page.getByTestId("notice-failure").innerText(), /nowhere\/manifest\.json/);
  await settings(page, "always", { passages: 1 });
  await page.getByTestId("corpus").fill("");
  await page.getByTestId("use-corpus").click();
  await load(page);
  await ask(page);
  assert.equal(await answered(page), "There are many.");
  await context.close();
});
