// A static file server with byte ranges and faults to order, for the page's tests.
//
//   const server = await serve({ "/": "dist", "/models/": "models" });
//   server.faults.push({ path: /b\.gguf$/, cutAfter: 1000 });   // the next matching request only; { times: n } for more
//
// Faults: status (refuse with it), cutAfter (destroy the connection after n bytes), corruptAt (flip a bit of the file's byte n),
// ignoreRange (answer 200 with everything), delayMs, bytesPerSecond. `server.requests` lists what was asked.
import { createServer } from "node:http";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { Transform } from "node:stream";

const TYPES = {
  ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
  ".wasm": "application/wasm", ".json": "application/json", ".svg": "image/svg+xml",
};

/** `more`: headers of every file, such as a host's that lets other pages read. */
export async function serve(mounts, more = {}) {
  const faults = [];
  const requests = [];
  // The longest prefix wins.
  const prefixes = Object.keys(mounts).sort((a, b) => b.length - a.length);

  const locate = (path) => {
    const prefix = prefixes.find((p) => path.startsWith(p));
    const rest = normalize(path.slice(prefix.length)) || ".";
    return rest.startsWith("..") ? null : join(mounts[prefix], rest === "." ? "index.html" : rest);
  };

  const take = (path) => {
    const i = faults.findIndex((f) => f.path.test(path));
    if (i < 0) return {};
    const fault = faults[i];
    if (fault.times === undefined || --fault.times <= 0) faults.splice(i, 1);
    return fault;
  };

  const answer = async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
    requests.push({ path, range: request.headers.range ?? null });
    const fault = take(path);
    if (fault.delayMs) await new Promise((r) => setTimeout(r, fault.delayMs));
    if (fault.status) return response.writeHead(fault.status).end();
    const file = locate(path);
    const info = file && (await stat(file).catch(() => null));
    if (!info?.isFile()) return response.writeHead(404).end();

    const headers = { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "cache-control": "no-cache", "accept-ranges": "bytes", ...more };
    let [first, last, status] = [0, info.size - 1, 200];
    const range = !fault.ignoreRange && /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    if (range) {
      first = Number(range[1]);
      last = Math.min(range[2] ? Number(range[2]) : last, last);
      if (first > last) return response.writeHead(416, { "content-range": `bytes */${info.size}` }).end();
      status = 206;
      headers["content-range"] = `bytes ${first}-${last}/${info.size}`;
    }
    headers["content-length"] = last - first + 1;
    response.writeHead(status, headers);
    if (info.size === 0) return response.end();
    createReadStream(file, { start: first, end: last }).pipe(damage(fault, first, response)).pipe(response);
  };

  const http = createServer((request, response) => answer(request, response).catch((e) => response.destroy(e)));
  await new Promise((ready) => http.listen(0, "127.0.0.1", ready));
  const url = `http://localhost:${http.address().port}/`;
  return { url, faults, requests, close: () => new Promise((done) => { http.closeAllConnections(); http.close(done); }) };
}

/** Passes bytes on, wrongly or slowly or not to the end. */
function damage(fault, first, response) {
  let position = first;
  return new Transform({
    async transform(chunk, _encoding, done) {
      if (fault.bytesPerSecond) await new Promise((r) => setTimeout(r, (chunk.length / fault.bytesPerSecond) * 1000));
      if (fault.corruptAt !== undefined && fault.corruptAt >= position && fault.corruptAt < position + chunk.length) {
        chunk[fault.corruptAt - position] ^= 1;
      }
      const room = (fault.cutAfter ?? Infinity) - (position - first);
      if (chunk.length > room) {
        // Gives the part before the cut time to arrive.
        response.write(chunk.subarray(0, room), () => setTimeout(() => response.destroy(), 50));
        return;
      }
      position += chunk.length;
      done(null, chunk);
    },
  });
}
