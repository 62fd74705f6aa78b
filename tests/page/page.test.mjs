// The page before any model: quickly usable, clear about what is missing, fit for phones and keyboards.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { dist, out } from "./fixture.mjs";
import { serve } from "./server.mjs";

let server, browser;
before(async () => {
  server = await serve({ "/": dist });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

test("the page is usable in under a second", async () => {
  // The first visit of a browser also warms up its own caches of nothing; the best of three is the page's own time.
  const times = [];
  for (let i = 0; i < 3; i++) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.addInitScript(() => {
      new MutationObserver((_, observer) => {
        if (!document.getElementById("question")) return;
        observer.disconnect();
        globalThis.usableAt = performance.now();
      }).observe(document, { childList: true, subtree: true });
    });
    await page.goto(server.url);
    await page.getByTestId("question").fill("Is anybody there?");
    times.push(await page.evaluate(() => globalThis.usableAt));
    await context.close();
  }
  console.log(`usable after ${times.map((t) => t.toFixed(0)).join(", ")} ms`);
  assert.ok(Math.min(...times) < 1000, `${times} ms`);
});

test("a GPU is found and its facts are shown", async () => {
  const { page, context, errors } = await open(browser, server.url);
  await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
  await page.getByTestId("gpu-facts").locator("summary").click();
  const facts = await page.getByTestId("gpu-facts").innerText();
  assert.match(facts, /swiftshader/i);
  assert.match(facts, /Largest binding/);
  assert.match(await page.getByTestId("gpu-state").innerText(), /Software GPU/);
  assert.deepEqual(errors, []);
  await context.close();
});

test("a browser without WebGPU gets a page that says so", async () => {
  const { page, context, errors } = await open(browser, server.url, {
    before: () => Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined }),
  });
  const notice = page.getByTestId("no-gpu");
  await notice.waitFor();
  assert.match(await notice.innerText(), /no WebGPU[\s\S]*Chrome/);
  assert.equal(await page.getByTestId("load-demo").count(), 0, "a model cannot be loaded");
  await page.getByTestId("question").fill("Why?");
  assert.ok(await page.getByTestId("ask").isDisabled());
  await page.screenshot({ path: `${out}/no-webgpu.png` });
  assert.deepEqual(errors, []);
  await context.close();
});

test("a browser that offers no adapter gets a page that says so", async () => {
  const plain = await launch({ gpu: false });
  const { page } = await open(plain, server.url);
  const notice = page.getByTestId("no-gpu");
  await notice.waitFor({ timeout: 20_000 });
  assert.match(await notice.innerText(), /No GPU was found/);
  await page.screenshot({ path: `${out}/no-adapter.png` });
  await plain.close();
});

test("an engine that does not start is told", async () => {
  server.faults.push({ path: /worker_bg\.wasm/, status: 500 });
  const { page, context } = await open(browser, server.url);
  const notice = page.getByTestId("notice-failure");
  await notice.waitFor({ timeout: 10_000 });
  assert.match(await notice.innerText(), /did not start/);
  await context.close();
});

test("it fits a phone, in dark and in light, and nothing scrolls sideways", async () => {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [360, 1200]) {
      const { page, context } = await open(browser, server.url, { colorScheme, viewport: { width, height: 800 } });
      await page.getByTestId("settings").click();
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `${width} px`);
      await page.screenshot({ path: `${out}/page-${colorScheme}-${width}.png`, fullPage: true });
      await context.close();
    }
  }
});

test("everything is reached with the keyboard, and every control has a name", async () => {
  const { page, context } = await open(browser, server.url);
  await page.getByTestId("load-demo").waitFor();
  await page.getByTestId("settings").click();
  const reached = [];
  await page.locator("body").focus();
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press("Tab");
    const id = await page.evaluate(() => document.activeElement?.dataset.testid ?? document.activeElement?.tagName);
    // Once around, from the settings.
    if (reached.includes("settings") && id === "BODY") break;
    reached.push(id);
  }
  // A group of radio buttons is one stop; disabled buttons are none.
  for (const id of ["question", "form-short", "settings", "mode-adaptive", "threshold", "n-docs", "max-tokens", "corpora", "example", "load-demo", "pick", "keep", "url", "add-documents"]) {
    assert.ok(reached.includes(id), `${id} is not among ${reached}`);
  }
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, select, textarea, a")]
      .filter((e) => !(e.labels?.length || e.textContent.trim() || e.ariaLabel))
      .map((e) => e.outerHTML));
  assert.deepEqual(nameless, []);
  await context.close();
});
