// Keeps the page's own files, so that it opens without the network. Models and passages are not its business: the engine checks
// and keeps those itself, so whatever is not in the list below goes to the network as if this file did not exist.
//
// The list comes with each build (`cargo xtask offline-files`, which Trunk runs): { build: "…", files: ["index.html", "app-….js", …] }.
// A new build is a new list, which browsers notice as a change of this script; its files are fetched whole into a cache of their
// own before the old one goes. So what is kept always belongs together.
importScripts("offline_files.js");

const { build, files } = self.OFFLINE;
const SCOPE = self.registration.scope;
/** Other pages of this origin have caches too; the folder tells ours. */
const PREFIX = `page ${SCOPE} `;
const CACHE = PREFIX + build;
/** The document goes by its folder's name: servers like to redirect index.html, and a redirected answer opens no page. */
const PAGE = SCOPE;
const OWN = new Set(files.map((file) => address(new URL(file, SCOPE))));
/** Trunk's content hash in a name: such a file never changes. */
const HASHED = /-[0-9a-f]{10,16}(_bg)?\.\w+$/;
/** How long the network may take to answer with the document. Then the kept one is shown: a bad connection is worse than none. */
const PATIENCE_MS = 4000;

/** Whether the last document was a kept one. Its worker, whose files have no hash, must then be the kept one too. */
let openedKept = false;

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(dropOld()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = address(new URL(request.url));
  if (request.method !== "GET" || request.headers.has("range") || !OWN.has(url)) return;
  if (url === PAGE) event.respondWith(openPage(request));
  else if (HASHED.test(url) || openedKept) event.respondWith(kept(url).then((found) => found ?? fetch(request)));
  else event.respondWith(newest(request, url));
});

/** All or nothing: one file that is missing, and this build is not kept. Open pages have read all they need, so none has to wait. */
async function keep() {
  const cache = await caches.open(CACHE);
  const fresh = (url) => new Request(url, { cache: HASHED.test(url) ? "default" : "no-cache" });
  try {
    await cache.addAll([...OWN].map(fresh));
  } catch (e) {
    await caches.delete(CACHE);
    throw e;
  }
  await self.skipWaiting();
}

async function dropOld() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)));
}

/** The document: the network's, so that updates arrive; the kept one when that fails or takes too long. */
async function openPage(request) {
  const late = new Promise((_, giveUp) => setTimeout(giveUp, PATIENCE_MS));
  const network = fromNetwork(request);
  try {
    const page = await Promise.race([network, late]);
    openedKept = false;
    return page;
  } catch {
    const page = await kept(PAGE);
    openedKept = page !== undefined;
    return page ?? network;
  }
}

/** The worker's files: the network's, or the kept ones. */
function newest(request, url) {
  const network = fromNetwork(request);
  return network.catch(async () => (await kept(url)) ?? network);
}

/** A server in trouble (5xx) counts as none. */
async function fromNetwork(request) {
  const answer = await fetch(request);
  if (answer.status >= 500) throw new Error(`status ${answer.status}`);
  return answer;
}

const kept = async (url) => (await caches.open(CACHE)).match(url);

/** Without query and fragment; index.html is its folder. */
function address({ origin, pathname }) {
  const url = origin + pathname;
  return url === `${PAGE}index.html` ? PAGE : url;
}
