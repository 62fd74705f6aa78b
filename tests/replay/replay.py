"""Plays recorded evaluations again, without the engine's code: numpy and the specification alone.

    selfrag eval short|long … --output OUT --record RECORDING
    python3 replay.py RECORDING [--records OUT.records.jsonl] [--output RESULTS.json]

A recording holds, for each step of the model, what was read, the token that came, its log-probability and those of the 13 watched
reflection tokens. From these, this script decides, writes, criticises and ranks (short form: §3.2 of the specification; long form:
§4.8, and of the released code's tree what it does with its reflection tokens left out of the text) and compares its answers and scores
with those that the engine recorded: the same texts and choices, numbers within 1e-5. It exits with 1 where they differ.

Not replayed: baselines, sampling, passages that were cut to fit the context, reflection tokens spelled out in the text.
"""

import argparse
import gzip
import json
import re
import sys

import numpy as np

TOLERANCE = 1e-5
GROUPS = {"retrieval": slice(0, 3), "relevance": slice(3, 5), "utility": slice(5, 10), "support": slice(10, 13)}
WEIGHTS = {"relevance": [0, 1], "support": [1, 0.5, 0], "utility": [-1, -0.5, 0, 0.5, 1]}
NAMES = ["[No Retrieval]", "[Retrieval]", "[Continue to Use Evidence]", "[Irrelevant]", "[Relevant]", "<paragraph>", "</paragraph>",
         "[Utility:1]", "[Utility:2]", "[Utility:3]", "[Utility:4]", "[Utility:5]", "[Fully supported]", "[Partially supported]",
         "[No support / Contradictory]"]


def clamp(logprob):
    return min(max(logprob, -1e4), 0.0)


class Model:
    """What a batch's recording says about any sequence that was read in it."""

    def __init__(self, model, batch):
        self.reflection, self.stops, self.strips = model["reflection"], set(model["stops"]), model["strips_first_space"]
        self.pieces = {int(token): bytes.fromhex(piece) for token, piece in batch["pieces"].items()}
        self.searches = {search["query"]: search["passages"] for search in batch["searches"]}
        self.steps, held = {}, []
        for sequence in batch["sequences"]:
            tokens = held[sequence["fork"][0]][:sequence["fork"][1]] if sequence["fork"] else []
            for step in sequence["steps"]:
                tokens = tokens + step["in"]
                self.steps[self.key(tokens)] = (step["token"], step["logprob"], [clamp(value) for value in step["watched"]])
            held.append(tokens)

    @staticmethod
    def key(tokens):
        return np.array(tokens, np.uint32).tobytes()

    def step(self, tokens):
        found = self.steps.get(self.key(tokens))
        if found is None:
            raise LookupError(f"the model never read these {len(tokens)} tokens: {tokens[-8:]} at their end")
        return found

    def is_retrieval(self, token):
        return token in (self.reflection["no_retrieval"], self.reflection["retrieval"], self.reflection["continue_"])

    def is_support(self, token):
        return token in (self.reflection["fully"], self.reflection["partially"], self.reflection["no_support"])

    def text(self, tokens):
        """Special tokens have no piece."""
        data, started = b"", False
        for token in tokens:
            piece = self.pieces.get(token, b"")
            if not started and self.strips and piece.startswith(b" "):
                piece, started = piece[1:], True
            started = started or bool(piece)
            data += piece
        return data.decode("utf-8", errors="replace")


def expected(group, logprobs):
    """The mean of the group's weights under its probabilities."""
    probs = np.exp(np.array(logprobs) - max(logprobs))
    return float(probs @ np.array(WEIGHTS[group]) / probs.sum())


def write(model, prefix, has_passage, limit, ends):
    """One candidate: what follows `prefix`. `ends`: what ends it beside the model's end: nothing, a request, a segment."""
    tokens, logprobs, seen, boundary, ended = [], [], {}, None, False
    r = model.reflection
    while True:
        token, logprob, watched = model.step(prefix + tokens)
        groups = {name: watched[part] for name, part in GROUPS.items()}
        if ends == "segment" and (model.is_retrieval(token) or token == r["paragraph_open"]):
            boundary = (token, groups["retrieval"])
            break
        if not tokens and has_passage:
            seen["relevance"] = groups["relevance"]
        if model.is_support(token):
            seen.setdefault("support", groups["support"])
        if token in r["utility"]:
            seen.setdefault("utility", groups["utility"])
        tokens.append(token)
        logprobs.append(clamp(logprob))
        ended = token in model.stops
        if ended or ends == "request" and token == r["retrieval"] or len(tokens) == limit:
            break
    return {"tokens": tokens, "logprobs": logprobs, "seen": seen, "boundary": boundary, "ended": ended, "text": model.text(tokens)}


def criticise(candidate, config):
    is_rel, is_sup, is_use = (expected(group, candidate["seen"][group]) if group in candidate["seen"] else None
                              for group in ("relevance", "support", "utility"))
    sequence = float(np.exp(np.mean(candidate["logprobs"]))) if candidate["logprobs"] else None
    segment = config["w_rel"] * (is_rel or 0)
    segment += (sequence or 0) if config["use_seqscore"] else 0
    segment += config["w_sup"] * (is_sup or 0) if config["use_groundness"] else 0
    segment += config["w_use"] * (is_use or 0) if config["use_utility"] else 0
    return {"is_rel": is_rel, "is_sup": is_sup, "is_use": is_use, "sequence": sequence, "segment": segment}


def ratio(config, logprobs):
    no, yes = logprobs[:2]
    if config["decision"] == "probability":
        return float(np.exp(yes - np.logaddexp(yes, no)))
    return yes / (yes + no) if yes + no else 0.0


def decide(config, logprobs, asks):
    """Whether to retrieve, and the ratio."""
    if config["mode"] != "adaptive":
        return config["mode"] == "always", None
    found = ratio(config, logprobs)
    return (asks if config["threshold"] is None else found > config["threshold"]), found


def key(config, text):
    for mark in ("</s>", "\n", "<|endoftext|>"):
        text = text.replace(mark, "")
    text = text.strip() if config["trim_answer"] else text
    return text.lower() if config["task"]["closed"]["ignore_case"] else text


def rank(config, texts, scores):
    if config["task"] == "open":
        return int(np.argmax(scores))
    totals = {}
    for text, score in zip(texts, scores):
        totals[key(config, text)] = totals.get(key(config, text), 0) + score
    winner = max(totals, key=totals.get)
    return max((at for at, text in enumerate(texts) if key(config, text) == winner), key=lambda at: (scores[at], -at))


def short(model, config, question):
    r = model.reflection
    token, _, watched = model.step(question["prompt"])
    retrieve, probability = decide(config, watched[GROUPS["retrieval"]], token == r["retrieval"])
    passages = []
    if retrieve:
        passages = question["passages"] if question["passages"] is not None else model.searches.get(question["query"], [])
        passages = passages[:config["n_docs"]]
    ends = "request" if config["stop_at_retrieval"] else None
    prefixes = [(passage["tokens"], True) for passage in passages] or [([r["no_retrieval"]], False)]
    candidates = [write(model, question["prompt"] + tokens, has, config["max_new_tokens"], ends) for tokens, has in prefixes]
    scores = [criticise(candidate, config) for candidate in candidates]
    best = rank(config, [candidate["text"] for candidate in candidates], [score["segment"] for score in scores])
    text = candidates[best]["text"]
    text = text.strip() if config["trim_answer"] else text
    text = text[1:] if text[:1] in ("#", ":") else text
    text = text.strip() if config["trim_answer"] else text
    return {"text": text, "retrieved": bool(passages), "probability": probability, "best": best, "scores": scores}


# Long form.


def said(model, token):
    r = model.reflection
    return {r["retrieval"]: "yes", r["paragraph_open"]: "yes", r["no_retrieval"]: "no", r["continue_"]: "continue"}.get(token)


def wish(base, config, logprobs, said, has_passage, may_continue):
    """Retrieve before a segment: yes, no or continue."""
    yes, found = decide(base, logprobs, said == "yes")
    if base["mode"] == "adaptive" and may_continue and has_passage and said == "continue":
        return "continue", found
    return ("yes" if yes else "no"), found


def scoring(config):
    base = dict(config["base"])
    if config["fixed_weights"]:
        base.update(w_rel=1.0, w_sup=1.0, w_use=0.5)
    base["use_utility"] = base["use_utility"] and not config["ignore_utility"]
    base["use_seqscore"] = base["use_seqscore"] and not config["ignore_seqscore"]
    return base


def excluded(model, hard, candidate):
    support = next((token for token in candidate["tokens"] if model.is_support(token)), None)
    r = model.reflection
    return (hard["irrelevant"] and r["irrelevant"] in candidate["tokens"] or hard["no_support"] and support == r["no_support"]
            or hard["partial_support"] and support == r["partially"])


def path_score(rule, segments):
    return float({"sum": np.sum, "product": np.prod, "mean": np.mean}[rule](segments))


def long(model, config, question):
    if config["special_tokens_in_text"] and not config["stop_at_segment"]:
        raise LookupError("reflection tokens in the text are not replayed")
    base, weights, r = config["base"], scoring(config), model.reflection
    token, _, watched = model.step(question["prompt"])
    group = watched[GROUPS["retrieval"]]
    retrieve, probability = wish(base, config, group, said(model, token), False, False)
    if config["probe_decision"] and base["mode"] == "adaptive":
        retrieve = "no"  # The probe finds no [Retrieval] in a text without reflection tokens.
    nodes, ranked, finished, hits = [], [], [], question["passages"]
    # `tokens`: everything after the prompt that the next segment reads.
    paths = [{"node": None, "tokens": [], "written": 0, "held": None, "retrieve": retrieve}]
    ends = "segment" if config["stop_at_segment"] else None
    for level in range(1, config["max_depth"] - config["depth_counts_root"] + 1):
        if not paths:
            break
        new, grown = [], {}
        for path in paths:
            parent = path["node"]
            limit = min(base["max_new_tokens"], config["max_total_tokens"] - path["written"])
            if parent is not None and limit <= 0:
                finished.append(parent)
                continue
            offered = []
            if path["retrieve"] == "yes":
                if question["passages"] is not None:
                    offered = question["passages"]
                elif parent is not None and config["retrieve_again"]:
                    offered = model.searches.get(f"{question['query']} {nodes[parent]['text']}".rstrip(), [])
                else:
                    hits = model.searches.get(question["query"], []) if hits is None else hits
                    offered = hits
                offered = offered[:base["n_docs"]]
            decided = path["retrieve"] if path["retrieve"] != "yes" or offered else "no"
            inputs = {"yes": [(passage["tokens"], passage["id"]) for passage in offered],
                      "no": [([r["no_retrieval"]], None)], "continue": [([r["continue_"]], None)]}[decided]
            for tokens, passage in inputs:
                prefix = path["tokens"] + tokens
                candidate = write(model, question["prompt"] + prefix, passage is not None, limit, ends)
                text = candidate["text"]
                if config["stop_at_segment"]:
                    text = text.strip()
                elif decided != "yes":
                    text = text.split("\n\n")[0]
                cited = path["held"] if decided == "continue" else passage
                own = criticise(candidate, weights)
                chain = (nodes[parent]["chain"] if parent is not None else []) + [own["segment"]]
                nodes.append({"parent": parent, "text": text, "scores": own, "chain": chain, "retrieve": decided,
                              "path_score": path_score(config["path_score"], chain), "excluded": excluded(model, config["hard"], candidate)})
                here = len(nodes) - 1
                new.append(here)
                if candidate["boundary"]:
                    boundary, logprobs = candidate["boundary"]
                    asked, _ = wish(base, config, logprobs, said(model, boundary), cited is not None, config["continue_evidence"])
                    kept = prefix if config["keep_passages"] else path["tokens"]
                    grown[here] = {"node": here, "tokens": kept + candidate["tokens"], "held": cited, "retrieve": asked,
                                   "written": path["written"] + len(candidate["tokens"])}
        pool = (finished if config["keep_finished"] else []) + [node for node in new if not nodes[node]["excluded"]]
        ranked = sorted(pool or new, key=lambda node: -nodes[node]["path_score"])[:config["beam_width"]]
        paths, finished = [grown[node] for node in ranked if node in grown], [node for node in ranked if node not in grown]

    def path_of(node):
        return (path_of(nodes[node]["parent"]) if nodes[node]["parent"] is not None else []) + [node]

    def text_of(path):
        texts = [nodes[node]["text"] for node in path]
        if config["stop_at_segment"]:
            return " ".join(text for text in texts if text)
        return released(config, " ".join(texts))

    chosen = [path_of(node) for node in ranked]
    path = next((path for path in chosen if text_of(path).strip()), chosen[0] if chosen else [])
    return {"text": text_of(path), "retrieved": any(nodes[node]["retrieve"] == "yes" for node in path), "probability": probability,
            "path": path, "scores": [node["scores"] for node in nodes], "path_scores": [node["path_score"] for node in nodes]}


def released(config, text):
    """`postprocess`, and `fix_spacing` where it is on."""
    for name in NAMES + ["</s>"]:
        if not (name == NAMES[2] and config["keep_continue_text"]):
            text = text.replace(name, "")
    text = text[1:] if text.startswith(" ") else text
    if config["fix_spacing"]:
        text = re.sub(r"(?<=\w)([.!?])(?=\w)", r"\1 ", text)
    return text


# Comparison with the engine.


def differences(found, written):
    """What differs from the engine's record of the same question."""
    (form, answer), = written.items()
    theirs = {"text": answer["text"], "retrieved": answer["retrieved"], "probability": answer["probability"]}
    if form == "short":
        candidates = answer["candidates"]
        theirs["best"] = answer["best"]
    else:
        candidates = [node["candidate"] for node in answer["tree"]["nodes"]]
        theirs.update(path=answer["path"], path_scores=[node["path_score"] for node in answer["tree"]["nodes"]])
    theirs["scores"] = [candidate["scores"] for candidate in candidates]
    return list(compare("", found, theirs))


def compare(at, ours, theirs):
    if isinstance(ours, dict):
        for name in ours:
            yield from compare(f"{at}.{name}", ours[name], theirs.get(name))
    elif isinstance(ours, list):
        if len(ours) != len(theirs):
            yield f"{at}: {len(ours)} against the engine's {len(theirs)}"
        for index, pair in enumerate(zip(ours, theirs)):
            yield from compare(f"{at}[{index}]", *pair)
    elif isinstance(ours, float) and theirs is not None:
        if abs(ours - theirs) > TOLERANCE * max(1.0, abs(ours)):
            yield f"{at}: {ours} against the engine's {theirs}"
    elif ours != theirs:
        yield f"{at}: {ours!r} against the engine's {theirs!r}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording")
    parser.add_argument("--records", help="the engine's records of the same run")
    parser.add_argument("--output", help="where to write the results")
    args = parser.parse_args()
    opened = gzip.open if args.recording.endswith(".gz") else open
    with opened(args.recording, "rt") as file:
        model, *batches = map(json.loads, file)
    form, config = next(iter(model["header"]["method"].items()))
    replay = {"short": short, "long": long}.get(form) or sys.exit(f"{form} is not replayed")
    results = []
    for batch in batches:
        played = Model(model, batch)
        results += [{"index": question["index"]} | replay(played, config, question) for question in batch["questions"]]
    if args.output:
        with open(args.output, "w") as file:
            json.dump(results, file, indent=1, ensure_ascii=False)
            file.write("\n")
    if args.records:
        with open(args.records) as file:
            records = {record["index"]: record for record in map(json.loads, list(file)[1:])}
        wrong = 0
        for result in results:
            written = records[result["index"]]["outcome"].get("answered", {}).get("written")
            if written is None:
                continue  # The engine gave up on it.
            for line in differences({name: value for name, value in result.items() if name != "index"}, written):
                wrong += 1
                print(f"question {result['index']}{line}")
        n_scores = sum(len(result["scores"]) for result in results)
        print(f"{len(results)} questions, {n_scores} candidates: {wrong} differences")
        sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
