#!/bin/sh
# The whole way from annotated questions to an answer: from-qa → train → merge → convert → eval labels → index → ask.
#
#   BASE=models/SmolLM2-135M-Instruct.Q4_1.gguf CONFIG=train.toml QA="squad.json.gz nq-train.json" \
#   INSTRUCTIONS=plain.txt PASSAGES=passages.jsonl QUESTION="When …?" tests/pipeline.sh OUT
#
# Every step can be run again by itself; a training run that was stopped goes on with --resume. SELFRAG is a build with `--features training`.
# tests/pipeline.rs runs this script on a tiny model (under a minute on two cores; a software GPU will do).
set -eu
OUT=${1:?the folder to write into}
: "${BASE:?a GGUF file or a Hugging Face folder to begin with}"
: "${QA:?annotated questions, SQuAD or DPR}" "${INSTRUCTIONS:?plain instructions, one a line}" "${PASSAGES:?.jsonl with id, title and text}"
: "${CONFIG:?settings of the training}" "${QUESTION:?what to ask at the end}"
SELFRAG=${SELFRAG:-selfrag}
ENCODER=${ENCODER:-models/encoder.gguf}
mkdir -p "$OUT"

# 1. Questions with annotated answers become training rows with reflection tokens. No language model takes part.
# shellcheck disable=SC2086 # QA may name several files
"$SELFRAG" data from-qa $QA --instructions "$INSTRUCTIONS" --output "$OUT/rows.jsonl" --critic "$OUT/critic.json"
"$SELFRAG" data report "$OUT/rows.jsonl"

# 2. LoRA on the base, with the rows of the new tokens. log.jsonl and TensorBoard's event files are in the same folder.
"$SELFRAG" train generator --config "$CONFIG" --model "$BASE" --data "$OUT/rows.jsonl" --output "$OUT/run" > "$OUT/checkpoint"

# 3. Base and adapter become one model, and its logits are compared with theirs.
"$SELFRAG" merge "$BASE" "$(cat "$OUT/checkpoint")" --folder "$OUT/merged" --type "${TYPE:-f16}" --verify

# 4. For ask, the page and llama.cpp.
"$SELFRAG" convert "$OUT/merged" "$OUT/generator.gguf" --type "${GGUF_TYPE:-q8_0}"

# 5. How often are its reflection tokens the rows'? HELD_OUT: rows that it was not trained on (from-qa --held-out makes them).
"$SELFRAG" eval labels --data "${HELD_OUT:-$OUT/rows.jsonl}" --model "$OUT/generator.gguf" > "$OUT/labels.md"

# 6. Passages with their vectors, and a question.
"$SELFRAG" index build --passages "$PASSAGES" --encoder "$ENCODER" --output "$OUT/store"
"$SELFRAG" ask "$QUESTION" --model "$OUT/generator.gguf" --index "$OUT/store" --encoder "$ENCODER" --mode always --json > "$OUT/answer.json"
