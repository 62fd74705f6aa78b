"""DPR's has_answer, by the package `regex` as DPR itself uses it: tokens and hits.

    pip install regex && python has_answer.py        # made with regex 2026.x, Python 3.11

Writes has_answer.json: of each text its tokens, and whether any of the answers is in it.
"""

import json
import unicodedata
from pathlib import Path

import regex

PATTERN = regex.compile(r"([\p{L}\p{N}\p{M}]+)|([^\p{Z}\p{C}])", flags=regex.IGNORECASE + regex.UNICODE + regex.MULTILINE)

CASES = [
    ("Paris is the capital of France.", ["paris"]),
    ("Paris is the capital of France.", ["Par", "capital France"]),
    ("It was 1,234.5 m (4,050 ft) long", ["1,234.5 M"]),
    ("It was 1,234.5 m (4,050 ft) long", ["234"]),
    ("the café CAFÉ cafe\u0301", ["CAFE\u0301"]),
    ("the café", ["cafe"]),
    ("Beyoncé’s “Halo”", ["beyoncé's"]),
    ("Beyoncé’s “Halo”", ["Beyoncé’s"]),
    ("東京は日本の首都です。", ["日本"]),
    ("東京は日本の首都です。", ["東京は日本の首都です"]),
    ("ﬁne ½ Ⅷ x² हिन्दी ไทย", ["हिन्दी", "nothing"]),
    ("tab\tnon\u00a0breaking\u200bzero\u200dwidth\u00adsoft\u2028line", ["breaking zero"]),
    ("İstanbul STRASSE Straße ΟΔΟΣ", ["straße οδος"]),
    ("a_b-c $5 🚀 e=mc^2", ["$5 🚀"]),
    ("U.S. state", ["us"]),
    ("", ["x"]),
]


def tokens(text: str) -> list[str]:
    return [m.group().lower() for m in PATTERN.finditer(unicodedata.normalize("NFD", text))]


def main() -> None:
    rows = []
    for text, answers in CASES:
        words = tokens(text)
        hit = any(words[i : i + len(a)] == a for a in map(tokens, answers) for i in range(len(words) - len(a) + 1))
        rows.append({"text": text, "answers": answers, "tokens": words, "has_answer": hit})
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (Path(__file__).parent / "has_answer.json").write_text(f"[\n{lines}\n]\n")


main()
