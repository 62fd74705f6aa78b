"""Makes the rows of README's evaluation tables: larger files in the schemas of ../data/eval, without passages, which are searched.

    python3 rows.py DATA OUT    # DATA has questions_dev.jsonl.gz, ARC-Challenge.train.json.gz, paper_dev.jsonl.gz

| file | schema | from |
| --- | --- | --- |
| popqa.jsonl | question, answers | all of questions_dev: SQuAD about eight articles that the demo generator was not trained on |
| gold.jsonl | the same with `ctxs`: the paragraph that the question was asked about | questions_dev |
| pubhealth.jsonl | question (a claim), answers | the first 600 verifiable claims of FEVER's development set |
| arc_c.jsonl | question, choices, answerKey | the first 600 questions with four choices of ARC-Challenge's training set |
| asqa.json | question, qa_pairs, annotations | two questions about one paragraph of questions_dev, asked as one |
"""

import gzip
import json
import pathlib
import re
import sys

data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
MANY = 600


def lines(name):
    with gzip.open(data / name, "rt") as file:
        return [json.loads(line) for line in file]


def write(name, rows):
    (out / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{name}: {len(rows)} rows")


squad = lines("questions_dev.jsonl.gz")
write("popqa.jsonl", [{"question": row["question"], "answers": row["answers"]} for row in squad])
write("gold.jsonl", [{"question": row["question"], "answers": row["answers"], "ctxs": row["ctxs"][:1]} for row in squad])

claims = [row for row in lines("paper_dev.jsonl.gz") if row["label"] != "NOT ENOUGH INFO"][:MANY]
write("pubhealth.jsonl", [{"question": row["claim"], "answers": ["true" if row["label"] == "SUPPORTS" else "false"]} for row in claims])

arc = []
for row in json.loads(gzip.open(data / "ARC-Challenge.train.json.gz", "rt").read()):
    question, choices = row["instruction"].split("question: ", 1)[1].split("\n\n")[:2]
    texts = [text.strip() for text in re.split(r"Answer\d:", choices)[1:]]
    if len(texts) == 4:
        key = "ABCD"[int(row["answer"][-1]) - 1]
        arc.append({"question": question, "choices": {"text": texts, "label": list("ABCD")}, "answerKey": key})
write("arc_c.jsonl", arc[:MANY])

paragraphs = {}
for row in squad:
    paragraphs.setdefault(row["ctxs"][0]["text"], []).append(row)
asqa = []
for rows in paragraphs.values():
    if len(rows) >= 2:
        pairs = [{"question": row["question"], "short_answers": row["answers"], "context": "No context provided"} for row in rows[:2]]
        asqa.append({"sample_id": str(len(asqa)), "question": " ".join(row["question"] for row in rows[:2]), "qa_pairs": pairs,
                     "annotations": [{"long_answer": " ".join(row["answers"][0].rstrip(".") + "." for row in rows[:2]), "knowledge": []}]})
(out / "asqa.json").write_text(json.dumps(asqa, ensure_ascii=False, indent=1) + "\n")
print(f"asqa.json: {len(asqa)} rows")
