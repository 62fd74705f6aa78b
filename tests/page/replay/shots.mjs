// Screenshots of a replay build (trunk build --features replay --dist target/page/replay) into target/page/: for looking at the design.
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { launch, open } from "../browser.mjs";
import { serve } from "../server.mjs";

const root = new URL("../../..", import.meta.url).pathname;
const out = `${root}target/page`;
const dist = `${out}/replay`;
mkdirSync(out, { recursive: true });
const server = await serve({ "/": dist });
const browser = await launch();
const scenes = process.argv.slice(2).length ? process.argv.slice(2) : ["start", "loading", "writing", "answer"];
for (const scene of scenes) {
  writeFileSync(`${dist}/${scene}.jsonl`, execFileSync("node", [`${root}tests/page/replay/record.mjs`, scene]));
  for (const [name, colorScheme, width] of [["light", "light", 1200], ["dark", "dark", 1200], ["phone", "light", 360]]) {
    const { page, context, errors } = await open(browser, `${server.url}?replay=${scene}.jsonl`, { colorScheme, viewport: { width, height: 800 } });
    await page.waitForTimeout(1500);
    await page.screenshot({ path: `${out}/${scene}-${name}.png`, fullPage: true });
    if (errors.length) console.log(scene, name, errors.map((e) => e.slice(0, 300)));
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (overflow > 0) console.log(scene, name, `scrolls sideways by ${overflow}px`);
    await context.close();
  }
}
await browser.close();
await server.close();
