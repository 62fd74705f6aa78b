// Markdown to HTML, in a worker of its own: on hostile text marked takes minutes, which whoever started it can end.
import { marked } from "./libraries/marked.esm.js";

onmessage = ({ data }) => {
  try {
    postMessage({ html: marked.parse(data, { async: false, gfm: true }) });
  } catch (e) {
    // The stack's end, of quotes within quotes; the second line asks to report it.
    postMessage({ problem: `${e?.message ?? e}`.split("\n")[0] });
  }
};
