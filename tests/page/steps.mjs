// What a visitor does on the page, step by step, for the tests that ask questions.
import assert from "node:assert/strict";

/** A question that the demo's passages answer. */
export const QUESTION = "How many species of trees can be found in the Amazon rainforest?";
/** A software GPU on a busy machine. */
export const PATIENCE = { timeout: 240_000 };

/** Waits until a model is loaded. */
export async function ready(page) {
  await page.locator("[data-testid=ready], [data-testid=notice-failure]").first().waitFor(PATIENCE);
  assert.deepEqual(await page.getByTestId("notice-failure").allInnerTexts(), []);
}

/** Loads the demo. */
export async function load(page) {
  await page.getByTestId("gpu-facts").waitFor({ timeout: 20_000 });
  await page.getByTestId("load-demo").click();
  await ready(page);
}

/** Sets what the settings panel offers. */
export async function settings(page, mode, { passages = 2, tokens = 20 } = {}) {
  if (!(await page.getByTestId("max-tokens").isVisible())) await page.getByTestId("settings").click();
  await page.getByTestId("mode-always").check({ force: true });
  await page.getByTestId("n-docs").fill(String(passages));
  await page.getByTestId("max-tokens").fill(String(tokens));
  await page.getByTestId(`mode-${mode}`).check({ force: true });
}

/** Asks, without waiting. */
export async function ask(page, question = QUESTION) {
  await page.getByTestId("question").fill(question);
  await page.getByTestId("question").press("Enter");
}

/** Waits for the answer and returns its text. */
export async function answered(page) {
  await page.locator("[data-testid=answer-text], [data-testid=notice-failure]").first().waitFor(PATIENCE);
  assert.deepEqual(await page.getByTestId("notice-failure").allInnerTexts(), []);
  return page.getByTestId("answer-text").innerText();
}
