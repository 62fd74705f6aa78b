// The text of a visitor's own files: plain text, Markdown, HTML, PDF. Read in the tab; libraries come from libraries/ beside the page, the
// first time that they are needed. Files are hostile: nothing of them is put into the page or run, and what comes out is text.

const LIBRARIES = new URL("libraries/", import.meta.url);
/** Bytes of a file, at most: more text than a document may have passages. */
const MAX_TEXT = 16 << 20;
const MAX_PDF = 128 << 20;
const MAX_PAGES = 5000;
/** Of a file of Markdown; a book takes one. */
const MAX_SECONDS = 20;

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

/** Ends what is under way: Markdown at once, a PDF at its next page. */
export function stop() {
  current?.stop?.();
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
  const worker = new Worker(new URL("markdown.js", import.meta.url), { type: "module" });
  const job = current;
  const html = new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => ("html" in data ? resolve(data.html) : reject(new Error(data.problem)));
    worker.onerror = (e) => reject(new Error(e.message || "what reads Markdown could not be loaded"));
    setTimeout(() => reject(new Error(`it takes longer than ${MAX_SECONDS} s to read as Markdown: call it .txt`)), 1000 * MAX_SECONDS);
    job.stop = () => reject(new Error("stopped"));
  });
  worker.postMessage(decode(bytes));
  try {
    return textOf(await html);
  } finally {
    worker.terminate();
  }
}

const DROPPED = new Set(["script", "style", "noscript", "template", "iframe", "object", "svg"]);
const BLOCKS = new Set(
  ("address article aside blockquote br caption center dd details dialog dir div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 " +
    "header hr legend li main menu nav ol optgroup option p pre section summary table tbody tfoot thead title tr ul").split(" "),
);

/** Elements that need no end, or have none: hardly more of them are open than of others. */
const UNENDED = new Set("area base body br col colgroup dd dt embed head hr html img input li link meta option p param source tbody td tfoot th thead tr track wbr".split(" "));
/** A parser looks through all open elements at each new one: so many of them are a moment, a hundred times as many are hours. */
const MAX_OPEN = 5000;

/** Where a start tag's own end is the next one, whatever is between, and none is the end of the page. */
const RAW = new Set(["script", "style", "iframe", "textarea", "title"]);

/** Without comments and what has no text for a reader. */
function stripped(html) {
  const tag = /<!--|<!\[CDATA\[|<(\/?)([a-z][^\s/>]*)/gi;
  const unended = new Set();
  let kept = "";
  let from = 0;
  const drop = (start, end) => {
    kept += html.slice(from, start) + " ";
    from = tag.lastIndex = end;
  };
  for (let found; (found = tag.exec(html)); ) {
    const name = found[2]?.toLowerCase();
    if (found[0] === "<!--") {
      // `<!-->` is a comment too.
      const end = /--!?>/g;
      end.lastIndex = tag.lastIndex - 2;
      drop(found.index, end.exec(html) ? end.lastIndex : html.length);
    } else if (!name) {
      drop(found.index, tag.lastIndex);
    } else {
      tag.lastIndex = behindTag(html, tag.lastIndex);
      if (found[1] || unended.has(name) || !(RAW.has(name) || DROPPED.has(name))) continue;
      if (name === "svg" && html[tag.lastIndex - 2] === "/") continue;
      const end = new RegExp(`</${name}(?=[\\s/>])[^>]*>?`, "gi");
      end.lastIndex = tag.lastIndex;
      const isEnded = end.exec(html);
      if (isEnded || RAW.has(name)) {
        const behind = isEnded ? end.lastIndex : html.length;
        if (DROPPED.has(name)) drop(found.index, behind);
        else tag.lastIndex = behind;
      } else {
        unended.add(name);
      }
    }
  }
  return kept + html.slice(from);
}

/** The place behind a start tag: quoted values may hold any character. */
function behindTag(html, at) {
  const attribute = /[\s/]*(?:(>)|[^\s/>][^\s/>=]*(?:\s*=\s*(?:"[^"]*"?|'[^']*'?|[^\s>"'][^\s>]*)?)?)/y;
  attribute.lastIndex = at;
  for (let found; (found = attribute.exec(html)); ) if (found[1]) return attribute.lastIndex;
  return html.length;
}

/** What a parser makes anew in every paragraph while it is open. */
const FORMATTING = new Set("a b big code em font i nobr s small strike strong tt u".split(" "));
/** Elements that a parser may make anew, at most. */
const MAX_MADE = 1e7;

/**
 * Refuses what is nested too deep. It counts no fewer elements than a parser has open: an end counts only where it ends the last
 * start, which ordinary pages' do.
 */
function checkNesting(html) {
  const open = [];
  const formatting = new Map();
  let formats = 0;
  let made = 0;
  const tag = /<(?:(\/?)([a-z][^\s/>]*)|[!?/])/gi;
  for (let found; (found = tag.exec(html)); ) {
    const name = found[2]?.toLowerCase();
    tag.lastIndex = name ? behindTag(html, tag.lastIndex) : html.indexOf(">", tag.lastIndex) + 1 || html.length;
    if (!name) continue;
    if (FORMATTING.has(name)) {
      const n = formatting.get(name) ?? 0;
      const change = found[1] ? -Math.min(n, 1) : 1;
      formatting.set(name, n + change);
      formats += change;
    }
    made += formats;
    if (!UNENDED.has(name)) {
      if (!found[1]) open.push(name);
      else if (open.at(-1) === name) open.pop();
    }
    if (open.length > MAX_OPEN || made > MAX_MADE) throw new Error(`its elements are nested more than ${MAX_OPEN} deep`);
  }
}

/** What an HTML page says: DOMParser's document is inert, it loads nothing and runs nothing. */
function textOf(page) {
  const html = stripped(page);
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
    let characters = 0;
    for (let number = 1; number <= document.numPages; number++) {
      if (!goesOn()) throw new Error("stopped");
      const page = await document.getPage(number);
      const { items } = await page.getTextContent();
      const text = items.map(({ str = "", hasEOL }) => (hasEOL ? `${str}\n` : str)).join("");
      // A word that was divided at a line's end is one word.
      pages.push(text.replaceAll("\f", "\n").replaceAll("\0", "").replace(/(\p{L})-\n(?=\p{Ll})/gu, "$1"));
      characters += text.length;
      // Pages may share what little the file holds.
      if (characters > MAX_TEXT) throw new Error(`more than ${megabytes(MAX_TEXT)} million characters of text`);
      page.cleanup();
    }
    return pages.join("\f");
  } catch (e) {
    throw e?.name === "PasswordException" ? new Error("it is protected by a password") : e;
  } finally {
    await task.destroy();
  }
}
