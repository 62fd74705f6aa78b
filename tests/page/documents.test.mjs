// A visitor's own documents: read in the tab, searched by the session's encoder, kept in the browser, and never sent anywhere.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
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

/** A PDF of a line of text a page; `shared`: all pages show the first's. */
function pdf(lines, shared = false) {
  const kids = lines.map((_, i) => `${4 + 2 * i} 0 R`).join(" ");
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    `<< /Type /Pages /Kids [${kids}] /Count ${lines.length} >>`,
    "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
  ];
  for (const line of lines) {
    const content = `BT /F1 12 Tf 72 720 Td (${line}) Tj ET`;
    objects.push(`<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents ${shared ? 5 : objects.length + 2} 0 R /Resources << /Font << /F1 3 0 R >> >> >>`);
    objects.push(shared && objects.length > 4 ? "null" : `<< /Length ${content.length} >>\nstream\n${content}\nendstream`);
  }
  let text = "%PDF-1.4\n";
  const places = objects.map((object, i) => {
    const place = text.length;
    text += `${i + 1} 0 obj\n${object}\nendobj\n`;
    return place;
  });
  const table = places.map((place) => `${String(place).padStart(10, "0")} 00000 n \n`).join("");
  const start = text.length;
  return Buffer.from(`${text}xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${table}trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${start}\n%%EOF\n`);
}

const LIGHTHOUSE = {
  name: "lighthouse.pdf", mimeType: "application/pdf",
  buffer: pdf(["Opening hours are from nine to five.", "The lighthouse of Ostrava was built in 1893 by Karla Novotna."]),
};
const NOTES = {
  name: "notes.md", mimeType: "text/markdown",
  buffer: Buffer.from("# Water bears\n\n- *Tardigrades* survive **vacuum** and frost.\n- <img src=never.png onerror='globalThis.hacked = 1'>They have eight legs.\n"),
};
const HOSTILE = {
  name: "quokka <b>.html", mimeType: "text/html",
  buffer: Buffer.from(`<title>Quokkas</title><script>globalThis.hacked = 2</script><style>body { display: none }</style>
    <img src="never.png" onerror="globalThis.hacked = 3"><iframe src="never.html"></iframe><svg onload="globalThis.hacked = 4"></svg>
    <p>The quokka lives on Rottnest Island.</p><p>It eats &lt;b&gt;leaves&lt;/b&gt; &lt;script&gt;globalThis.hacked = 5&lt;/script&gt; at night.</p>`),
};
const PLAIN = { name: "plain.txt", mimeType: "text/plain", buffer: Buffer.from("Der Bürgermeister heißt Öztürk.", "latin1") };

const rows = (page) => page.getByTestId("document");
const add = (page, ...files) => page.getByTestId("add-documents").setInputFiles(files);

/** Waits until so many documents are listed and none is on its way. */
async function listed(page, n) {
  await page.waitForFunction((n) => {
    const count = (id) => document.querySelectorAll(`[data-testid=${id}]`).length;
    return count("document") === n && count("adding") === 0;
  }, n, PATIENCE);
}

async function only(page) {
  await page.getByTestId("scope-only").check({ force: true });
}

/** Drops files, as from a desktop. */
async function drop(page, ...files) {
  const plain = files.map(({ name, mimeType, buffer }) => ({ name, type: mimeType, bytes: [...buffer] }));
  const dataTransfer = await page.evaluateHandle((files) => {
    const transfer = new DataTransfer();
    for (const { name, type, bytes } of files) transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
    return transfer;
  }, plain);
  await page.getByTestId("documents").dispatchEvent("drop", { dataTransfer });
}

/** In the page: the files of kept documents. */
async function names() {
  const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("documents");
  const all = [];
  for await (const name of folder.keys()) all.push(name);
  return all;
}

/** In the page: a kept file's bytes, or others in their place. */
async function file([name, bytes]) {
  const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("documents");
  const handle = await folder.getFileHandle(name, { create: true });
  if (!bytes) return [...new Uint8Array(await (await handle.getFile()).arrayBuffer())];
  const to = await handle.createWritable();
  await to.write(new Uint8Array(bytes));
  await to.close();
}

/** The same document, embedded by an encoder of another name. */
function foreign(bytes) {
  const body = Buffer.from(bytes).subarray(19 + 65);
  const length = Number(body.readBigUInt64LE(0));
  const header = JSON.parse(body.subarray(8, 8 + length).toString());
  header.name = "foreign.txt";
  header.encoder.name = "another";
  const json = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(json.length));
  const changed = Buffer.concat([size, json, body.subarray(8 + length)]);
  return [...Buffer.from("selfrag-document-1\n"), ...Buffer.from(createHash("sha256").update(changed).digest("hex") + "\n"), ...changed];
}

// One visitor, who loads the model twice: on a software GPU that is what takes long.
test("own documents", async (t) => {
  const { page, context, errors } = await open(browser, server.url, { viewport: { width: 1200, height: 900 } });
  const elsewhere = [];
  context.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol.startsWith("http") && `${origin}/` !== server.url) elsewhere.push(request.url());
  });
  /** Asks, and holds the first card against what is expected. */
  const cited = async (question, title, text) => {
    await ask(page, question);
    await page.locator(".asked", { hasText: question }).waitFor(PATIENCE);
    assert.equal(await answered(page), "There are many.");
    assert.match(await page.locator(".card h3").first().innerText(), title);
    assert.match(await page.getByTestId("passage-text").first().innerText(), text);
    assert.equal(await page.getByTestId("passage-text").first().locator("*").count(), 0, "text, not markup");
  };

  await t.test("of four kinds they wait for a model, are read, and answer with their citation", async () => {
    await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
    const dropped = server.requests.length;
    await drop(page, LIGHTHOUSE, NOTES);
    assert.match(await page.getByTestId("documents-waiting").innerText(), /2 waiting for a model/);
    await load(page);
    const before = server.requests.length;
    await listed(page, 2);
    await add(page, HOSTILE, PLAIN);
    await listed(page, 4);
    assert.deepEqual(await rows(page).locator("b").allInnerTexts(), ["lighthouse.pdf", "notes.md", "quokka <b>.html", "plain.txt"]);
    assert.match(await rows(page).first().innerText(), /2 passages/);
    await settings(page, "always", { passages: 1 });
    await only(page);
    assert.match(page.url(), /documents=only/);
    await cited("When was the lighthouse built?", /^lighthouse\.pdf, page 2$/, /built in 1893 by Karla Novotna/);
    assert.ok((await page.getByTestId("citation").innerText()).includes("lighthou"));
    const hostile = /Quokkas\s+The quokka lives on Rottnest Island\.\s+It eats <b>leaves<\/b> <script>globalThis\.hacked = 5<\/script> at night\./;
    await cited("What does the quokka eat?", /^quokka <b>\.html$/, hostile);
    await page.screenshot({ path: `${out}/documents.png`, fullPage: true });
    assert.equal(await page.evaluate(() => globalThis.hacked), undefined);

    const asked = [...new Set(server.requests.slice(before).map(({ path }) => path))];
    assert.deepEqual(asked.filter((path) => path !== "/" && (/^\/(models|corpus)\//.test(path) || !existsSync(`${dist}${path}`))), []);
    assert.ok(server.requests.slice(dropped).some(({ path }) => path === "/libraries/pdf.min.mjs"), "the library came when it was needed");
    assert.deepEqual(elsewhere, []);
  });

  await t.test("beside the corpus whichever is nearer answers; without them the corpus does", async () => {
    await page.getByTestId("scope-both").check({ force: true });
    await cited("When was the lighthouse of Ostrava built?", /^lighthouse\.pdf, page 2$/, /1893/);
    await page.getByTestId("scope-none").check({ force: true });
    await cited("How many species of trees can be found in the Amazon rainforest?", /Amazon/, /Amazon/);
  });

  await t.test("one under way can be cancelled, and what cannot be read says why", async () => {
    // A page each: short passages, so that what the GPU has begun when it is cancelled is soon over.
    const long = Array.from({ length: 900 }, (_, i) => `Night ${i} has ${i} sheep.`).join("\f");
    await add(page, { name: "long.txt", mimeType: "text/plain", buffer: Buffer.from(long) });
    await page.getByText(/long\.txt: [1-9]\d* of 900 passages/).waitFor(PATIENCE);
    await page.getByTestId("cancel-adding").click();
    await listed(page, 4);
    assert.equal(await page.getByTestId("notice-warning").count(), 0, "a wish is not a failure");
    await add(page,
      { name: "large.txt", mimeType: "text/plain", buffer: Buffer.alloc(16 * 2 ** 20 + 1, "a ") },
      { name: "program.bin", mimeType: "application/octet-stream", buffer: Buffer.from([0x7f, 0x45, 0, 0, 0, 1]) },
      { name: "empty.html", mimeType: "text/html", buffer: Buffer.from("<script>x</script>") },
      { name: "deep.html", mimeType: "text/html", buffer: Buffer.from("<div>".repeat(1e6)) },
      { name: "no.pdf", mimeType: "application/pdf", buffer: Buffer.from("not a PDF") });
    await page.waitForFunction(() => document.querySelectorAll("[data-testid=notice-warning]").length === 5, null, PATIENCE);
    await listed(page, 4);
    const told = await page.getByTestId("notice-warning").allInnerTexts();
    for (const [i, text] of [/^large\.txt is not added: 17 MB, at most 16 MB are read/, /^program\.bin .*neither text/, /^empty\.html .*none was found/, /^deep\.html .*nested/, /^no\.pdf .*PDF/].entries()) {
      assert.match(told[i], text);
    }
    await page.getByTestId("notice-warning").first().getByLabel("Dismiss").click();
    assert.equal(await page.getByTestId("notice-warning").count(), 4);
  });

  await t.test("whatever a file holds, it is read in a moment, refused, or stopped", async () => {
    const read = (name, text, stopped = false) => page.evaluate(async ([name, text, stopped]) => {
      const { read, stop } = await import(new URL("documents.js", document.baseURI));
      if (stopped) setTimeout(stop, 300);
      return read(new File([text], name)).then((text) => text.slice(0, 100), (problem) => `refused: ${problem}`);
    }, [name, text, stopped]);
    // Ends that are none, and elements that have their own.
    for (const piece of ["<div><!--</div>-->", '<div title="</div>">', "<div><object></div></object>", "<rt>"]) {
      assert.match(await read("deep.html", piece.repeat(50_000)), /^refused: .*nested/, piece);
    }
    const format = Array.from({ length: 4900 }, (_, i) => `<font size=${i}>`).join("");
    assert.match(await read("formats.html", `<p>${format}</p>${"<p>x".repeat(1e5)}`), /^refused: .*nested/);
    // What only looks like the start of something, or needs no end.
    for (const piece of ['<svg width="1"/>', '<i title="a <object b">x</i>', "<textarea>use <template > here</textarea>"]) {
      assert.match(await read("page.html", `<p>a</p>${piece}<p>b</p><svg><g/></svg><p>c</p>`), /^a\n[^]*b\n+c$/, piece);
    }
    const graphics = '<svg><path d="M0 0"/></svg>'.repeat(5001);
    assert.equal(await read("page.html", `<p>A <!-- b -->graph.${graphics}</p><script>${"if (i<n) x();".repeat(5001)}</script><p>c</p>`), "A graph.\n\nc");
    // Emphasis that does not end costs marked the square of its length: an hour for this.
    assert.equal(await read("bomb.md", "*a_".repeat(200_000), true), "refused: stopped");
    assert.equal(await read("good.md", "# A\n\n*b* c"), "A\n\nb c");
    // A long page in small type, three hundred times. What is beside the paper is not read.
    const lines = Array.from({ length: 60 }, (_, i) => `) Tj 1 0 0 1 36 ${700 - 10 * i} Tm /F1 1 Tf (${"x".repeat(1000)}`).join("");
    const many = pdf([lines, ...Array(299).fill("")], true).toString("latin1");
    assert.match(await read("shared.pdf", many), /^refused: more than 16 million characters/);
  });

  await t.test("they stay over a reload; a damaged one and one of another encoder are told; what is removed is gone", async () => {
    const whole = await page.evaluate(file, ["plain.txt"]);
    await page.evaluate(file, ["foreign.txt", foreign(whole)]);
    await page.evaluate(file, ["plain.txt", whole.slice(0, -3)]);
    await page.reload();
    await page.getByLabel("Load Tiny", { exact: true }).click(PATIENCE);
    await ready(page);
    await page.waitForFunction(() => document.querySelectorAll("[data-testid=document-problem]").length === 2, null, PATIENCE);
    const problem = (name) => rows(page).filter({ hasText: name }).getByTestId("document-problem");
    assert.match(await problem("foreign.txt").innerText(), /encoder: made with "another", questions are embedded with "/);
    assert.match(await problem("plain.txt").innerText(), /sha256.*damaged/);
    await settings(page, "always", { passages: 1 });
    await only(page);
    await cited("How many legs do tardigrades have?", /^notes\.md$/, /Water bears\s+Tardigrades survive vacuum and frost\.\s+They have eight legs\./);
    for (const name of ["foreign.txt", "plain.txt", "lighthouse.pdf", "notes.md", "quokka <b>.html"]) {
      await page.getByLabel(`Remove ${name}`, { exact: true }).click();
    }
    await listed(page, 0);
    assert.deepEqual(await page.evaluate(names), []);
    // Nothing to answer from is said.
    await ask(page, "And now?");
    await page.getByTestId("notice-failure").waitFor(PATIENCE);
    assert.match(await page.getByTestId("notice-failure").innerText(), /documents: none is there/);
  });
  assert.deepEqual(errors, []);
  await context.close();
});
