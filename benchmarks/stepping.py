"""A training run that takes a step each time that a line comes in, and tells of it in a line.

``benchmarks.before`` runs this file, with the packages of the checkout that is measured.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks import peers


def main(folder: str, kind: str, compile: bool) -> None:
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    fit = peers.fit

    def on_demand(*given: Any, **named: Any) -> Iterator[Any]:
        steps = fit(*given, **named)
        print("ready", file=told, flush=True)
        for _ in sys.stdin:
            step = next(steps)
            found = {"seconds": step.seconds, "tokens": step.tokens, "loss": step.loss}
            print(json.dumps(found), file=told, flush=True)
            yield step

    peers.fit = on_demand
    peers.train_burnish(peers.Job("burnish", folder, "", kind), compile=compile)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "compiled")
