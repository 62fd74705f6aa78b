"""What the base model itself answers to the plain instructions, so that training for [No Retrieval] keeps what it can do without passages.

    answers.py SmolLM2-135M-Instruct.Q4_1.gguf instructions.txt instructions.jsonl

Greedy with a mild penalty on repetitions, at most 80 tokens by the model's own chat template; an answer that is cut ends with its last whole
sentence or line, and one without any is left out (the decision alone is then trained). Needs tests/golden's environment (README there); takes
some twenty minutes on two cores, goes on where it was stopped, and uses a GPU that torch finds.
"""

import json
import re
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "golden"))
from common import read_gguf  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

gguf, source, out = sys.argv[1:4]
ROOT = Path(__file__).resolve().parents[2]
tokenizer = Tokenizer.from_file(str(ROOT / "public/adapter/tokenizer.json"))
START, END, NEW, BATCH = 1, 2, 80, 24  # <|im_start|>, <|im_end|>
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
model = read_gguf(gguf).eval().to(DEVICE)
model.generation_config.eos_token_id = END
model.generation_config.pad_token_id = END
lines = list(dict.fromkeys(line.strip() for line in Path(source).read_text().splitlines() if line.strip()))
if Path(out).exists():  # without a line that a kill has cut
    text = Path(out).read_bytes()
    Path(out).write_bytes(text[: text.rfind(b"\n") + 1])
done = sum(1 for _ in open(out)) if Path(out).exists() else 0


def prompt(text: str) -> list[int]:
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    chat = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return tokenizer.encode(chat, add_special_tokens=False).ids


def whole(ids: list[int]) -> str:
    ended = END in ids
    text = tokenizer.decode(ids[: ids.index(END)] if ended else ids).strip()
    if ended:
        return text
    ends = [m.end() for m in re.finditer(r"[.!?](?=\s)|\n", text)]
    return text[: ends[-1]].strip() if ends else ""


with open(out, "a") as file, torch.inference_mode():
    for at in range(done, len(lines), BATCH):
        batch = [prompt(line) for line in lines[at : at + BATCH]]
        longest = max(map(len, batch))
        ids = torch.tensor([[END] * (longest - len(p)) + p for p in batch], device=DEVICE)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in batch], device=DEVICE)
        answers = model.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, repetition_penalty=1.1)
        for line, answer in zip(lines[at : at + BATCH], answers[:, longest:].tolist()):
            file.write(json.dumps({"instruction": line, "output": whole(answer)}, ensure_ascii=False) + "\n")
        file.flush()
        print(min(at + BATCH, len(lines)), "of", len(lines), flush=True)
