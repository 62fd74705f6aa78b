// Headless Chromium with WebGPU on SwiftShader, and pages that report their own mistakes.
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const WEBGPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/** A browser; `gpu: false` leaves navigator.gpu without an adapter. */
export function launch({ gpu = true } = {}) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: gpu ? [...FLAGS, ...WEBGPU] : FLAGS,
    headless: false, // "--headless=new" is among the flags.
  });
}

/** A fresh page in its own profile; `errors` collects exceptions and console errors other than failed requests. */
export async function open(browser, url, options = {}) {
  const context = options.context ?? (await browser.newContext(options));
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (e) => errors.push(String(e)));
  page.on("console", (m) => {
    if (m.type() === "error" && !m.text().startsWith("Failed to load resource")) errors.push(m.text());
  });
  if (options.before) await page.addInitScript(options.before);
  await page.goto(url);
  return { page, context, errors };
}
