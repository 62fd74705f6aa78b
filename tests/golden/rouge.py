"""Makes rouge.json: ROUGE-Lsum of random texts by the rouge-score package, without stemming.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install rouge-score==0.1.2 && /tmp/venv/bin/python tests/golden/rouge.py
"""

import json
import pathlib
import random

from rouge_score import rouge_scorer

random.seed(4)
WORDS = "the a river Paris capital of France is was 1789 it's U.S. Ünder naïve high-speed king queen, and or".split()


def text():
    sentence = lambda: " ".join(random.choice(WORDS) for _ in range(random.randint(0, 12)))
    return "\n".join(sentence() for _ in range(random.randint(1, 5)))


scorer = rouge_scorer.RougeScorer(["rougeLsum"], use_stemmer=False)
cases = []
for _ in range(150):
    reference, candidate = text(), text()
    score = scorer.score(reference, candidate)["rougeLsum"]
    cases.append(
        {
            "reference": reference,
            "text": candidate,
            "precision": score.precision,
            "recall": score.recall,
            "f1": score.fmeasure,
        }
    )
lines = ",\n".join(json.dumps(case) for case in cases)
pathlib.Path(__file__).with_name("rouge.json").write_text(f"[\n{lines}\n]\n")
