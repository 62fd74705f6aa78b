"""Passage embeddings as the original pickles them, small ones, in every way that Python and NumPy write them.

    python embeddings.py NAME        # NAME: numpy1 or numpy2, the NumPy of this interpreter
    python embeddings.py read FILE   # no golden: what Python makes of a file that `selfrag embed` wrote

Writes embeddings/NAME-pPROTOCOL-DTYPE-ORDER (ids are strings, as in the original's files), embeddings/NAME-p4-numbers (ids are numbers) and
embeddings/values.json: the ids and values that every file holds. Made with Python 3.11, NumPy 1.26.4 and 2.4.6; neither anything else is needed.
"""

import json
import pickle
import sys
from pathlib import Path

import numpy as np

ROWS, DIM = 7, 5


def main() -> None:
    name = sys.argv[1]
    if name == "read":
        with open(sys.argv[2], "rb") as file:
            ids, array = pickle.load(file)
        print(f"NumPy {np.__version__}: {len(ids)} ids {ids[:3]} …, {array.dtype} {array.shape}, lengths {np.linalg.norm(array[:3].astype('f4'), axis=1)}")
        return
    assert np.__version__.startswith(name[-1]), np.__version__
    folder = Path(__file__).parent / "embeddings"
    folder.mkdir(exist_ok=True)
    # Every value is a half float, so that f16 and f32 files hold the same; all bytes occur, which matters to protocol 2.
    values = np.random.default_rng(6).standard_normal((ROWS, DIM)).astype(np.float16)
    ids = ["1", "17", "doc-é", "", "a" * 300, "3", "2"]
    for protocol in (2, 3, 4, 5):
        for dtype in ("f2", "f4"):
            for order in "CF":
                array = np.array(values, dtype=dtype, order=order)
                with open(folder / f"{name}-p{protocol}-{dtype}-{order}", "wb") as file:
                    pickle.dump((ids, array), file, protocol=protocol)
    with open(folder / f"{name}-p4-numbers", "wb") as file:
        pickle.dump(([1, 255, 256, 65536, -1, 2**40, 0], values), file, protocol=4)
    text = json.dumps({"ids": ids, "numbers": [1, 255, 256, 65536, -1, 2**40, 0], "values": values.astype(float).tolist()})
    (folder / "values.json").write_text(text + "\n")


main()
