"""Makes the small evaluation files beside this script, three real rows in each task's schema.

    python3 make.py DIR    # with questions_dev.jsonl.gz, ARC-Challenge.train.json.gz, paper_dev.jsonl.gz, wikipedia_leads.jsonl.gz

| file | schema | from |
| --- | --- | --- |
| popqa.jsonl, triviaqa.jsonl | question, answers, ctxs | SQuAD 1.1 dev |
| pubhealth.jsonl | question (a claim), answers, ctxs | FEVER's verifiable claims; leads of Wikipedia as passages |
| arc_c.jsonl | question, choices, answerKey, ctxs | ARC-Challenge train; leads of Wikipedia as passages |
| asqa.json | question, qa_pairs, annotations, docs (a list, as ALCE has it) | SQuAD, two questions about one paragraph as one |
| eli5.json | question, answer, docs | SQuAD |
| factscore.jsonl | input, topic, cat, ctxs | leads of Wikipedia about people |
"""

import gzip
import json
import pathlib
import re
import sys

data, here = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent


def lines(name):
    with gzip.open(data / name, "rt") as file:
        return [json.loads(line) for line in file]


def passage(title, text, n=0):
    return {"id": str(n), "title": title, "text": " ".join(text.split()[:40]), "score": "1.5"}


def write_lines(name, rows):
    (here / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


leads = lines("wikipedia_leads.jsonl.gz")
squad = lines("questions_dev.jsonl.gz")


def others(n, count=2):
    return [passage(lead["title"], lead["text"], 10 + i) for i, lead in enumerate(leads[n * 7:n * 7 + count])]


def own(row):
    return passage(row["ctxs"][0]["title"], row["ctxs"][0]["text"])


for name, chosen in [("popqa.jsonl", squad[0:300:100]), ("triviaqa.jsonl", squad[50:350:100])]:
    write_lines(name, [{"question": row["question"], "answers": row["answers"], "ctxs": [own(row)] + others(n)}
                       for n, row in enumerate(chosen)])

claims = [row for row in lines("paper_dev.jsonl.gz") if row["label"] != "NOT ENOUGH INFO"][:3]
write_lines("pubhealth.jsonl", [{"question": row["claim"], "answers": ["true" if row["label"] == "SUPPORTS" else "false"], "ctxs": others(n + 3)}
                                for n, row in enumerate(claims)])

arc = json.loads(gzip.open(data / "ARC-Challenge.train.json.gz", "rt").read())
rows = []
for n, row in enumerate(arc[:3]):
    question, choices = row["instruction"].split("question: ", 1)[1].split("\n\n")[:2]
    texts = [text.strip() for text in re.split(r"Answer\d:", choices)[1:]]
    # One row with the labels that make the released code miss its gold answer.
    labels = list("1234" if n == 2 else "ABCD")[:len(texts)]
    key = labels[int(row["answer"][-1]) - 1]
    rows.append({"question": question, "choices": {"text": texts, "label": labels}, "answerKey": key, "ctxs": others(n + 6)})
write_lines("arc_c.jsonl", rows)

asqa, eli5 = [], []
for n in range(3):
    first, second = squad[n * 200 + 1], squad[n * 200 + 2]
    pairs = [{"question": row["question"], "short_answers": row["answers"], "context": "No context provided"} for row in (first, second)]
    docs = [own(first)] + others(n + 9)
    asqa.append({"sample_id": str(n), "question": first["question"], "qa_pairs": pairs, "docs": docs,
                 "annotations": [{"long_answer": f"{first['answers'][0]}. {second['answers'][0]}.", "knowledge": []}]})
    eli5.append({"question": second["question"], "answer": second["answers"][0], "docs": docs})
(here / "asqa.json").write_text(json.dumps(asqa, ensure_ascii=False, indent=1) + "\n")
(here / "eli5.json").write_text(json.dumps(eli5, ensure_ascii=False, indent=1) + "\n")

people = [lead for lead in leads if re.search(r"\(born \d|\(\d{4} ?[–-] ?\d{4}\)", lead["text"][:120])][:3]
write_lines("factscore.jsonl", [{"input": f"Question: Tell me a bio of {lead['title']}.", "topic": lead["title"], "cat": ["medium"],
                                 "question": f"Who is {lead['title']}?", "ctxs": [passage(lead["title"], lead["text"])] + others(n + 12, 1)}
                                for n, lead in enumerate(people)])
