// The text of a visitor's own files: plain text, Markdown, HTML, PDF. Read in the tab; libraries come from libraries/ beside the page, the
// first time that they are needed. Files are hostile: nothing of them is put into the page or run, and what comes out is text.

const LIBRARIES = new URL("libraries/", import.meta.url);
/** Bytes of a file, at most: more text than a document may have passages. */
const MAX_TEXT = 16 << 20;
const MAX_PDF = 128 << 20;
const MAX_PAGES = 5000;

const KINDS = [
  { ending: /\.pdf$/i, type: "application/pdf", read: pdf, most: MAX_PDF },
  { ending: /\.(md|markdown|mdown)$/i, type: "text/markdown", read: markdown, most: MAX_TEXT },
  { ending: /\.(html?|xhtml)$/i, type: "text/html", read: (bytes) => textOf(decode(bytes, true)), most: MAX_TEXT },
];
const PLAIN = { read: (bytes) => decode(bytes), most: MAX_TEXT };

/** The file under way; none: stop. */
let current = null;

/** A file's text, a form feed between pages; rejected with a sentence that says why there is none. */
export async function read(file) {
  const kind = KINDS.find(({ ending }) => ending.test(file.name)) ?? KINDS.find(({ type }) => type === file.type) ?? PLAIN;
  const job = (current = {});
  try {
    if (file.size > kind.most) throw new Error(`${megabytes(file.size)} MB, at most ${megabytes(kind.most)} MB are read`);
    const text = await kind.read(new Uint8Array(await file.arrayBuffer()), () => current === job);
    if (text.includes("\0")) throw new Error("it is neither text, Markdown, HTML nor PDF");
    return text;
  } catch (e) {
    throw `${e?.message ?? e}`;
  }
}

/** Ends what is under way at its next page. */
export function stop() {
  current = null;
}

const megabytes = (bytes) => Math.ceil(bytes / 2 ** 20);

/** By its byte order mark, as UTF-8, as an HTML page says, else as browsers read what says nothing. */
function decode(bytes, isHtml = false) {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    const start = new TextDecoder("windows-1252").decode(bytes.subarray(0, 1024));
    const said = isHtml && /<meta[^>]{0,200}charset\s{0,9}=\s{0,9}["']?([\w-]{1,40})/i.exec(start)?.[1];
    try {
      return new TextDecoder(said || "windows-1252").decode(bytes);
    } catch {
      return new TextDecoder("windows-1252").decode(bytes);
    }
  }
}

async function markdown(bytes) {
  const { marked } = await import(new URL("marked.esm.js", LIBRARIES));
  let html;
  try {
    html = marked.parse(decode(bytes), { async: false, gfm: true });
  } catch (e) {
    // The stack's end, of quotes within quotes; the second line asks to report it.
    throw new Error(e.message.split("\n")[0]);
  }
  return textOf(html);
}

const DROPPED = new Set(["script", "style", "noscript", "template", "iframe", "object", "svg"]);
const BLOCKS = new Set(
  ("address article aside blockquote br caption center dd details dialog dir div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 " +
    "header hr legend li main menu nav ol optgroup option p pre section summary table tbody tfoot thead title tr ul").split(" "),
);

/** Elements that need no end, or have none. */
const UNENDED = new Set("area base body br col colgroup dd dt embed head hr html img input li link meta option p param rp rt source tbody td tfoot th thead tr track wbr".split(" "));
/** A parser looks through all open elements at each new one: so many of them are a moment, a hundred times as many are hours. */
const MAX_OPEN = 5000;

function checkNesting(html) {
  const open = new Map();
  let all = 0;
  for (const [, end, name] of html.matchAll(/<(\/?)([a-z][a-z0-9-]{0,30})/gi)) {
    const key = name.toLowerCase();
    const n = open.get(key) ?? 0;
    if (UNENDED.has(key) || (end && n === 0)) continue;
    open.set(key, end ? n - 1 : n + 1);
    all += end ? -1 : 1;
    if (all > MAX_OPEN) throw new Error(`its elements are nested more than ${MAX_OPEN} deep`);
  }
}

/** What an HTML page says: DOMParser's document is inert, it loads nothing and runs nothing. */
function textOf(html) {
  checkNesting(html);
  const root = new DOMParser().parseFromString(html, "text/html").documentElement;
  let text = "";
  let preformatted = 0;
  const enter = (node) => {
    if (node.nodeType === Node.TEXT_NODE) text += preformatted ? node.data : node.data.replace(/\s+/g, " ");
    if (BLOCKS.has(node.localName)) text += "\n";
    if (node.localName === "pre") preformatted += 1;
  };
  const leave = (node) => {
    if (BLOCKS.has(node.localName)) text += "\n";
    if (node.localName === "td" || node.localName === "th") text += " ";
    if (node.localName === "pre") preformatted -= 1;
  };
  // Without recursion: a page may be nested deeper than a stack is.
  for (let node = root; ; ) {
    if (!DROPPED.has(node.localName)) {
      enter(node);
      if (node.firstChild) {
        node = node.firstChild;
        continue;
      }
      leave(node);
    }
    while (node !== root && !node.nextSibling) {
      node = node.parentNode;
      leave(node);
    }
    if (node === root) break;
    node = node.nextSibling;
  }
  const lines = text.replaceAll("\f", "\n").split("\n").map((line) => line.trim());
  return lines.filter((line, i) => line || lines[i - 1]).join("\n").trim();
}

async function pdf(bytes, goesOn) {
  const { getDocument, GlobalWorkerOptions } = await import(new URL("pdf.min.mjs", LIBRARIES));
  GlobalWorkerOptions.workerSrc = new URL("pdf.worker.min.mjs", LIBRARIES).href;
  const task = getDocument({
    data: bytes,
    // For Chinese, Japanese and Korean files that name their tables instead of having them: the page's own files too.
    cMapUrl: new URL("cmaps/", LIBRARIES).href,
    isEvalSupported: false,
    disableFontFace: true,
    useSystemFonts: false,
    enableXfa: false,
    verbosity: 0,
  });
  try {
    const document = await task.promise;
    if (document.numPages > MAX_PAGES) throw new Error(`${document.numPages} pages, at most ${MAX_PAGES} are read`);
    const pages = [];
    for (let number = 1; number <= document.numPages; number++) {
      if (!goesOn()) throw new Error("stopped");
      const page = await document.getPage(number);
      const { items } = await page.getTextContent();
      const text = items.map(({ str = "", hasEOL }) => (hasEOL ? `${str}\n` : str)).join("");
      // A word that was divided at a line's end is one word.
      pages.push(text.replaceAll("\f", "\n").replaceAll("\0", "").replace(/(\p{L})-\n(?=\p{Ll})/gu, "$1"));
      page.cleanup();
    }
    return pages.join("\f");
  } catch (e) {
    throw e?.name === "PasswordException" ? new Error("it is protected by a password") : e;
  } finally {
    await task.destroy();
  }
}
