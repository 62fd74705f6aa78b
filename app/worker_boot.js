// Starts the engine's worker. A failure must reach the page, which would otherwise wait for ever.
import init from "./worker.js";

try {
  await init();
} catch (e) {
  postMessage(JSON.stringify({ Failed: { kind: "worker", message: `The engine did not start: ${e}` } }));
}
