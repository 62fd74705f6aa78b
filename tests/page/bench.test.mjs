// How fast is this GPU? The view that measures: started by its address and by hand, stopped, and refused; on a software GPU, so nothing is
// said about how long anything takes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launch, open } from "./browser.mjs";
import { dist, out, tinyModel } from "./fixture.mjs";
import { serve } from "./server.mjs";
import { PATIENCE } from "./steps.mjs";

let server, browser;
before(async () => {
  server = await serve({ "/": dist, "/models/": tinyModel({ folder: "bench-model" }) });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** Waits until a run has ended and returns how: done, failed or stopped. */
async function ended(page) {
  const state = (word) => `[data-testid=bench][data-state=${word}]`;
  await page.locator(["done", "failed", "stopped"].map(state).join(", ")).waitFor(PATIENCE);
  return page.getByTestId("bench").getAttribute("data-state");
}

const positive = (value, name) => assert.ok(Number.isFinite(value) && value > 0, `${name} is ${value}`);
/** What a device may not tell. */
const positiveOrNone = (value, name) => value === null || positive(value, name);

test("an address starts it, and the table and the JSON say what was measured", async () => {
  const query = "?bench&geometry=tiny&type=q4_0,f16&layers=1&workloads=decode,prefill&steps=4&kernels=1&run=1";
  const { page, context, errors } = await open(browser, server.url + query);
  const outcome = await ended(page);
  assert.deepEqual(await page.getByTestId("bench-failure").allInnerTexts(), []);
  assert.equal(outcome, "done");
  assert.equal(await page.title(), "Self-RAG bench: done");

  const json = await page.locator("#bench-json").textContent();
  const reports = JSON.parse(json);
  assert.deepEqual(reports.map((report) => report.model), ["tiny q4_0", "tiny f16"]);
  for (const report of reports) {
    for (const name of ["copy_gb_per_sec", "tensor_bytes", "model_bytes", "bytes_after", "load_secs"]) positive(report[name], name);
    assert.match(report.device.name, /swiftshader/i);
    assert.deepEqual(report.rows.map((row) => row.workload), ["decode", "prefill"]);
    for (const row of report.rows) {
      for (const name of ["tokens", "passes", "secs", "launches", "tokens_per_sec", "launches_per_token"]) positive(row[name], name);
      for (const name of ["gpu_secs", "gpu_ms_per_token", "gpu_of_wall"]) positiveOrNone(row[name], name);
    }
    const [decode, prefill] = report.rows;
    assert.deepEqual([decode.tokens, decode.passes, prefill.tokens, prefill.passes], [4, 4, 2560, 1]);
    positive(decode.gb_per_sec, "GB/s");
    positive(decode.of_copy, "of copy");
    assert.deepEqual([prefill.gb_per_sec, prefill.of_copy], [null, null], "not bound by its weights");
    for (const kernel of report.kernels) positive(kernel.launches, `launches of ${kernel.kernel}`);
  }
  console.log(reports.map((report) => `${report.model}: ${report.rows.map((row) => `GPU ${row.gpu_secs} of ${row.secs} s`)}`).join("; "));

  const tables = await page.getByTestId("bench-table").all();
  assert.equal(tables.length, 2);
  for (const table of tables) {
    const rows = await table.locator("tbody tr").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
    assert.deepEqual(rows.map(([workload]) => workload), ["decode", "prefill"]);
    const columns = await table.locator("th").allInnerTexts();
    for (const name of ["tok/s", "GB/s", "of copy", "launches a token", "GPU ms a token", "GPU of wall"]) assert.ok(columns.includes(name), name);
    assert.equal(rows[0].length, columns.length);
  }
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByTestId("bench-download").click()]);
  assert.equal(download.suggestedFilename(), "selfrag-bench.json");
  assert.equal(readFileSync(await download.path(), "utf8"), json);

  for (const [colorScheme, width] of [["light", 1200], ["dark", 360]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 800 });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `${width} px`);
    await page.screenshot({ path: `${out}/bench-${colorScheme}-${width}.png`, fullPage: true });
  }
  assert.deepEqual(errors, []);
  await context.close();
});

test("a load from the page's server is measured", async () => {
  const { page, context, errors } = await open(browser, `${server.url}?bench&workloads=load&model=/models/tiny.gguf&run=1`);
  const outcome = await ended(page);
  assert.deepEqual(await page.getByTestId("bench-failure").allInnerTexts(), []);
  assert.equal(outcome, "done");
  const [{ load, rows }] = JSON.parse(await page.locator("#bench-json").textContent());
  assert.deepEqual([load.model, rows], ["/models/tiny.gguf", []]);
  for (const name of ["file_bytes", "gpu_bytes", "first_secs", "secs", "mb_per_sec"]) positive(load[name], name);
  // In ranges, large tensors after each other in one: a request a tensor would cost more than its bytes.
  const asked = server.requests.filter(({ path }) => path === "/models/tiny.gguf").map(({ range }) => range);
  assert.ok(asked.every((range) => range !== null) && asked.some((range) => /bytes=[1-9]\d*-$/.test(range)), JSON.stringify(asked));
  console.log(`${(load.file_bytes / 1e6).toFixed(0)} MB: ${load.mb_per_sec.toFixed(0)} MB/s, memory +${load.host_peak_bytes} bytes`);
  const columns = await page.getByTestId("bench-load-table").locator("th").count();
  assert.equal(await page.getByTestId("bench-load-table").locator("td").count(), columns);
  assert.equal(await page.getByTestId("bench-table").count(), 0);
  assert.deepEqual(errors, []);
  await context.close();
});

test("it is found from the page, set by hand, stopped, and left again", async () => {
  const { page, context, errors } = await open(browser, server.url);
  await page.getByTestId("to-bench").click();
  const run = page.getByTestId("bench-run");
  await run.waitFor();
  assert.match(page.url(), /#\/bench$/);
  await page.getByTestId("bench-geometry").selectOption("tiny");
  for (const name of ["decode-10", "prefill"]) await page.getByTestId(`workload-${name}`).uncheck();
  // More than anybody waits for.
  await page.getByTestId("bench-steps").fill("3000");
  await run.click(PATIENCE);
  await page.getByTestId("bench-status").filter({ hasText: "Measuring: decode" }).waitFor(PATIENCE);
  assert.ok(await page.getByTestId("bench-geometry").isDisabled(), "what is being measured stays as it is");
  await page.getByTestId("bench-stop").click();
  assert.equal(await ended(page), "stopped");
  assert.equal(await page.locator("#bench-json").count(), 0);

  // The worker goes on to the next thing: here, one that cannot be.
  await page.getByTestId("bench-steps").fill("0");
  await run.click();
  assert.equal(await ended(page), "failed");
  assert.match(await page.getByTestId("bench-failure").innerText(), /steps/);
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, input, select, a")].filter((e) => !(e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML));
  assert.deepEqual(nameless, []);

  await page.getByTestId("to-page").click();
  await page.getByTestId("question").waitFor();
  assert.equal(await page.title(), "Self-RAG in a tab");
  assert.equal(await page.getByTestId("bench").count(), 0);
  await page.goBack();
  await page.getByTestId("bench").waitFor();
  assert.deepEqual(errors, []);
  await context.close();
});

const REFUSED = [
  ["geometry=huge", /geometry[\s\S]*none of/],
  ["geometry=smollm2-135m&type=q4_k", /not whole blocks of 256/],
  ["geometry=tiny&workloads=fly", /workloads[\s\S]*none of/],
  ["geometry=tiny&workloads=load", /model[\s\S]*address/],
  ["geometry=tiny&steps=many", /steps[\s\S]*not a number/],
];
for (const [query, expected] of REFUSED) {
  test(`an address that asks for what cannot be measured is told so: ${query}`, async () => {
    const { page, context, errors } = await open(browser, `${server.url}?bench&${query}&run=1`);
    assert.equal(await ended(page), "failed");
    assert.match(await page.getByTestId("bench-failure").innerText(), expected);
    assert.equal(await page.title(), "Self-RAG bench: failed");
    assert.deepEqual(errors, []);
    await context.close();
  });
}

test("a browser without WebGPU fails with the page's words", async () => {
  const { page, context, errors } = await open(browser, `${server.url}?bench&geometry=tiny&run=1`, {
    before: () => Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined }),
  });
  assert.equal(await ended(page), "failed");
  assert.match(await page.getByTestId("bench-failure").innerText(), /no WebGPU[\s\S]*Chrome/);
  assert.ok(await page.getByTestId("bench-run").isDisabled());
  assert.deepEqual(errors, []);
  await context.close();
});

test("too little GPU memory is told, and the next run begins afresh", async () => {
  const { page, context, errors } = await open(browser, "about:blank");
  // As a browser tells it: the KV cache of a first run is one buffer too many.
  await context.route("**/worker_boot.js", async (route) => {
    const body = await (await route.fetch()).text();
    const trick = `
      const create = GPUDevice.prototype.createBuffer;
      let full = false;
      GPUDevice.prototype.createBuffer = function (descriptor) {
        if (descriptor.label === "key cache" && !full) {
          full = true;
          const error = new GPUOutOfMemoryError("no room for a test");
          setTimeout(() => this.dispatchEvent(new GPUUncapturedErrorEvent("uncapturederror", { error, cancelable: true })));
        }
        return create.call(this, descriptor);
      };`;
    await route.fulfill({ contentType: "text/javascript", body: body.replace("try {", `${trick}\ntry {`) });
  });
  await page.goto(`${server.url}?bench&geometry=tiny&layers=1&workloads=decode&steps=2&run=1`);
  assert.equal(await ended(page), "failed");
  const failure = await page.getByTestId("bench-failure").innerText();
  assert.match(failure, /does not fit[\s\S]*out of GPU memory/);
  await page.getByTestId("bench-run").click();
  await page.getByTestId("bench-failure").waitFor({ state: "detached" });
  assert.equal(await ended(page), "done");
  assert.equal(JSON.parse(await page.locator("#bench-json").textContent())[0].rows[0].workload, "decode");
  assert.deepEqual(errors, []);
  await context.close();
});
