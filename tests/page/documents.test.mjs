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

/** A PDF of a line of text a page. */
function pdf(lines) {
  const kids = lines.map((_, i) => `${4 + 2 * i} 0 R`).join(" ");
  const objects = [
    "<< /Type /Catalog /Pages 2 0 R >>",
    `<< /Type /Pages /Kids [${kids}] /Count ${lines.length} >>`,
    "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
  ];
  for (const line of lines) {
    const content = `BT /F1 12 Tf 72 720 Td (${line}) Tj ET`;
    objects.push(`<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents ${objects.length + 2} 0 R /Resources << /Font << /F1 3 0 R >> >> >>`);
    objects.push(`<< /Length ${content.length} >>\nstream\n${content}\nendstream`);
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

test("documents of four kinds answer with their citation, without a request but for the page's own files, and stay", async () => {
  const { page, context, errors } = await open(browser, server.url, { viewport: { width: 1200, height: 900 } });
  const elsewhere = [];
  context.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol.startsWith("http") && `${origin}/` !== server.url) elsewhere.push(request.url());
  });
  // Before a model is there they wait.
  await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
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
  const cases = [
    ["When was the lighthouse built?", /^lighthouse\.pdf, page 2$/, /built in 1893 by Karla Novotna/],
    ["How many legs do tardigrades have?", /^notes\.md$/, /Water bears\s+Tardigrades survive vacuum and frost\.\s+They have eight legs\./],
    ["What does the quokka eat?", /^quokka <b>\.html$/, /Quokkas\s+The quokka lives on Rottnest Island\.\s+It eats <b>leaves<\/b> <script>globalThis\.hacked = 5<\/script> at night\./],
    ["Wie heißt der Bürgermeister?", /^plain\.txt$/, /Der Bürgermeister heißt Öztürk\./],
  ];
  for (const [question, title, text] of cases) {
    await ask(page, question);
    await page.locator(".asked", { hasText: question }).waitFor(PATIENCE);
    assert.equal(await answered(page), "There are many.");
    assert.match(await page.locator(".card h3").innerText(), title);
    assert.match(await page.getByTestId("passage-text").innerText(), text);
    assert.equal(await page.getByTestId("passage-text").locator("*").count(), 0, "text, not markup");
    assert.ok((await page.getByTestId("citation").innerText()).includes((await page.locator(".card h3").innerText()).slice(0, 8)));
  }
  await page.screenshot({ path: `${out}/documents.png`, fullPage: true });
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);

  // Beside the corpus whichever is nearer answers; without the documents it is the corpus.
  await page.getByTestId("scope-both").check({ force: true });
  await ask(page, "When was the lighthouse of Ostrava built?");
  await page.locator(".card h3", { hasText: "lighthouse.pdf" }).waitFor(PATIENCE);
  await answered(page);
  await ask(page);
  await page.locator(".card h3", { hasText: "Amazon" }).waitFor(PATIENCE);
  await answered(page);
  await page.getByTestId("scope-none").check({ force: true });
  await ask(page, "When was the lighthouse of Ostrava built? ");
  await page.waitForFunction(() => !document.querySelector(".card h3")?.innerText.includes("Amazon"), null, PATIENCE);
  await answered(page);
  assert.doesNotMatch(await page.locator(".card h3").innerText(), /lighthouse\.pdf/);

  const asked = [...new Set(server.requests.slice(before).map(({ path }) => path))];
  assert.deepEqual(asked.filter((path) => path !== "/" && (/^\/(models|corpus)\//.test(path) || !existsSync(`${dist}${path}`))), []);
  assert.ok(asked.some((path) => path === "/libraries/pdf.min.mjs"), `the library came when it was needed: ${asked}`);
  assert.deepEqual(elsewhere, []);

  // They stay, and are searched by the next session.
  await page.reload();
  await page.getByLabel("Load Tiny", { exact: true }).click();
  await ready(page);
  await listed(page, 4);
  await page.waitForFunction(() => document.querySelectorAll("[data-testid=document]")[0].innerText.includes("passages"), null, PATIENCE);
  await settings(page, "always", { passages: 1 });
  await only(page);
  await ask(page, "When was the lighthouse built?");
  assert.equal(await answered(page), "There are many.");
  assert.match(await page.locator(".card h3").innerText(), /^lighthouse\.pdf, page 2$/);
  // What is removed is gone, in memory and in storage.
  await page.getByLabel("Remove lighthouse.pdf", { exact: true }).click();
  await listed(page, 3);
  await ask(page, "And when was the lighthouse built?");
  await page.locator(".asked", { hasText: "And when" }).waitFor(PATIENCE);
  await answered(page);
  assert.doesNotMatch(await page.locator(".card h3").innerText(), /lighthouse/);
  assert.ok(!(await page.evaluate(names)).includes("lighthouse.pdf"));
  assert.deepEqual(errors, []);
  await context.close();
});

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

test("a broken file and one of another encoder are told and can be removed; the others answer", async () => {
  const { page, context } = await open(browser, server.url);
  await load(page);
  await add(page, PLAIN, NOTES);
  await listed(page, 2);
  const whole = await page.evaluate(file, ["plain.txt"]);
  await page.evaluate(file, ["foreign.txt", foreign(whole)]);
  await page.evaluate(file, ["plain.txt", whole.slice(0, -3)]);
  await page.reload();
  await page.getByLabel("Load Tiny", { exact: true }).click();
  await ready(page);
  await page.waitForFunction(() => document.querySelectorAll("[data-testid=document-problem]").length === 2, null, PATIENCE);
  const problem = (name) => rows(page).filter({ hasText: name }).getByTestId("document-problem");
  assert.match(await problem("foreign.txt").innerText(), /encoder: made with "another", questions are embedded with "/);
  assert.match(await problem("plain.txt").innerText(), /sha256.*damaged/);
  await settings(page, "always", { passages: 1 });
  await only(page);
  await ask(page, "How many legs do tardigrades have?");
  assert.equal(await answered(page), "There are many.");
  for (const name of ["foreign.txt", "plain.txt"]) await page.getByLabel(`Remove ${name}`, { exact: true }).click();
  await listed(page, 1);
  assert.deepEqual(await page.evaluate(names), ["notes.md"]);
  await context.close();
});

test("a document under way can be cancelled, what cannot be read says why, and the next one is added", async () => {
  const { page, context } = await open(browser, server.url);
  await load(page);
  const long = Array.from({ length: 4000 }, (_, i) => `Sentence number ${i} of a long story tells of ${i} sheep on a hill.`).join(" ");
  await add(page, { name: "long.txt", mimeType: "text/plain", buffer: Buffer.from(long) });
  await page.getByText(/long\.txt: \d+ of [1-9]\d\d passages/).waitFor(PATIENCE);
  await page.getByTestId("cancel-adding").click();
  await listed(page, 0);
  assert.equal(await page.getByTestId("notice-warning").count(), 0, "a wish is not a failure");

  await add(page,
    { name: "large.txt", mimeType: "text/plain", buffer: Buffer.alloc(16 * 2 ** 20 + 1, "a ") },
    { name: "program.bin", mimeType: "application/octet-stream", buffer: Buffer.from([0x7f, 0x45, 0, 0, 0, 1]) },
    { name: "empty.html", mimeType: "text/html", buffer: Buffer.from("<script>x</script>") },
    { name: "deep.html", mimeType: "text/html", buffer: Buffer.from("<div>".repeat(1e6)) },
    { name: "no.pdf", mimeType: "application/pdf", buffer: Buffer.from("not a PDF") },
    NOTES);
  await listed(page, 1);
  const told = await page.getByTestId("notice-warning").allInnerTexts();
  assert.equal(told.length, 5, `${told}`);
  for (const [i, text] of [/^large\.txt is not added: 17 MB, at most 16 MB are read/, /^program\.bin .*neither text/, /^empty\.html .*none was found/, /^deep\.html .*nested/, /^no\.pdf .*PDF/].entries()) {
    assert.match(told[i], text);
  }
  await page.getByTestId("notice-warning").first().getByLabel("Dismiss").click();
  await settings(page, "always", { passages: 1 });
  await only(page);
  await ask(page, "How many legs do tardigrades have?");
  assert.equal(await answered(page), "There are many.");

  // Nothing to answer from is said.
  await page.getByTestId("remove-document").click();
  await listed(page, 0);
  await ask(page, "And now?");
  await page.getByTestId("notice-failure").waitFor(PATIENCE);
  assert.match(await page.getByTestId("notice-failure").innerText(), /documents: none is there/);
  await context.close();
});
