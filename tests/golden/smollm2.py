"""Golden of a SmolLM2-sized GGUF: the file's own dequantised values run by transformers in f32.

    smollm2.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --out smollm2/base.json
    smollm2.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --adapter ../../public/adapter --questions questions_dev.jsonl.gz --out smollm2/demo.json
    smollm2.py --gguf demo.q8_0.gguf [--questions …] --out smollm2/demo.q8_0.json      # any file that `selfrag convert` wrote

With `--adapter`, PEFT merges it into the dequantised weights first. With `--questions` (needs the enlarged vocabulary) the
reflection tokens' log-probabilities are added: at step 0 of five questions, and at every step of the greedy answer after the gold passage.
"""

import argparse
import gzip
import json
from pathlib import Path

import torch
from common import HERE, floats, greedy, logits_of, margin, read_gguf, write_json

SEED = 20260524
REFLECTION = range(49152, 49167)  # [No Retrieval] … [No support / Contradictory], Self-RAG's order
END = 2  # <|im_end|>
# "The Amazon rainforest is a moist broadleaf forest that covers most of the Amazon basin of South America. This basin is the"
TOKENS = [504, 9860, 22450, 314, 253, 5686, 2932, 18857, 3150, 338, 7725, 768, 282, 260, 9860, 14573, 282, 2582, 2493, 30, 669, 14573, 314, 260]
WHICH = (0, 211, 467, 803, 1200)  # rows of the questions file: different articles


def merge(model, folder: str):
    """PEFT's own merge: LoRA into the projections, `trainable_token_indices` rows into the (tied) embedding."""
    from peft import PeftModel

    rows = max(json.loads((Path(folder) / "adapter_config.json").read_text())["trainable_token_indices"]) + 1
    model.resize_token_embeddings(rows, mean_resizing=False)
    merged = PeftModel.from_pretrained(model, folder).merge_and_unload().eval()
    # Asked of the result rather than trusted: the rows are the adapter's, and the head still shares them.
    assert merged.lm_head.weight.data_ptr() == merged.get_input_embeddings().weight.data_ptr(), "the head lost its tie"
    return merged.float()


def reflect(row: torch.Tensor) -> list[float]:
    return floats(torch.log_softmax(row, -1)[list(REFLECTION)])


def ask(model, path: str, tokenizer_json: Path) -> list[dict]:
    """Reflection log-probabilities at step 0 of the prompt, then along the greedy answer after the gold passage."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    rows = [json.loads(line) for line in gzip.open(path, "rt")]
    out = []
    for which in WHICH:
        question, passage = rows[which]["question"], rows[which]["ctxs"][0]
        prompt = f"### Instruction:\n{question}\n\n### Response:\n"
        given = f"{prompt}[Retrieval]<paragraph>{passage['title']}\n{passage['text']}</paragraph>"
        prompt_ids, given_ids = (tokenizer.encode(text, add_special_tokens=False).ids for text in (prompt, given))
        decision = logits_of(model, prompt_ids)[-1]
        answer, steps = greedy(model, given_ids, 100, stop=END)
        out.append({
            "row": which, "question": question, "title": passage["title"], "prompt": prompt_ids, "decision": reflect(decision),
            "with_passage": given_ids, "answer": answer, "answer_text": tokenizer.decode(answer, skip_special_tokens=False),
            "answer_reflection": [reflect(step) for step in steps],
            "answer_logprobs": floats(torch.stack([torch.log_softmax(s, -1)[t] for s, t in zip(steps, answer)])),
            "answer_margin": float(f"{margin(steps):.4g}"),
        })  # fmt: skip
        print(f"{question}\n  → {out[-1]['answer_text']}")
    return out


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--gguf", required=True)
    args.add_argument("--adapter")
    args.add_argument("--questions")
    args.add_argument("--tokenizer", default=str(HERE / "../../public/adapter/tokenizer.json"))
    args.add_argument("--out", required=True)
    args = args.parse_args()
    print(f"seed {SEED}")

    model = read_gguf(args.gguf)
    if args.adapter:
        model = merge(model, args.adapter)
    row = logits_of(model, TOKENS)[-1]
    top = row.topk(64)
    torch.manual_seed(SEED)
    sample = torch.randperm(49152)[:512].sort().values  # the base vocabulary, so that base and merged files share the ids
    tail, steps = greedy(model, TOKENS, 24)
    golden = {
        "made_by": "tests/golden/smollm2.py", "seed": SEED, "gguf": Path(args.gguf).name, "adapter": args.adapter and Path(args.adapter).name,
        "vocabulary": len(row), "tokens": TOKENS, "logsumexp": floats(torch.logsumexp(row, -1).view(1))[0],
        "top_ids": top.indices.tolist(), "top_logits": floats(top.values),
        "sample_ids": sample.tolist(), "sample_logits": floats(row[sample]),
        "greedy": tail, "greedy_margin": float(f"{margin(steps):.4g}"),
    }  # fmt: skip
    if args.questions:
        golden["questions"] = ask(model, args.questions, Path(args.tokenizer))
    write_json(Path(args.out), golden)


main()
