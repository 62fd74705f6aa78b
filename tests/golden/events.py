"""Reads a run's event files with TensorBoard's own reader and compares them with its log.jsonl. Needs `pip install tensorboard`.

    python tests/golden/events.py runs/first

Not a golden: it shows that TensorBoard reads what engine/src/train/events.rs writes; tests/train_log.rs tests the same with a reader of its own.
"""

import json
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

FIELDS = {"train/loss": "loss", "train/learning_rate": "lr", "train/grad_norm": "grad_norm", "train/epoch": "epoch", "speed/tflops": "tflops", "speed/mfu": "mfu"}

folder = Path(sys.argv[1])
lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
for tag in events.Tags()["scalars"]:
    found = {event.step: event.value for event in events.Scalars(tag)}
    assert len(found) == len(events.Scalars(tag)), f"{tag}: a step occurs twice"
    if field := FIELDS.get(tag):
        expected = {line["step"]: line[field] for line in lines}
        assert found.keys() == expected.keys(), f"{tag}: steps {sorted(found)}, {sorted(expected)} in log.jsonl"
        assert all(abs(found[step] - value) <= 1e-6 * abs(value) for step, value in expected.items()), tag
    print(f"{tag}: {len(found)} steps, last {list(found.values())[-1]:.6g}")
