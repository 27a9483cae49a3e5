"""Writes the models' files and the right answers: `python -m dev.bench.prepare FOLDER`.

It is a process of its own, so that the one that measures never loads torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from dev.bench import models

QUESTIONS = 16


def main(folder: Path) -> None:
    """Write NAME.pt, NAME.pt2 and NAME.npz for each model."""
    for name in models.KINDS:
        models.save(name, folder)
        rows = models.sample(name, QUESTIONS)
        model = models.build(name)
        with torch.inference_mode():
            answers = model(rows)
        weights = sum(tensor.nbytes for tensor in model.state_dict().values())
        np.savez(folder / f"{name}.npz", rows=rows.numpy(), answers=answers.numpy(), weights=weights)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
