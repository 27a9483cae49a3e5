"""Folders of transformers: real MiniLM weights against a reference, and small ones of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from pilothouse_runtime.core.errors import LoadError, RequestError
from pilothouse_runtime.core.settings import Format
from pilothouse_runtime.core.tensors import Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.model import LoadedModel
from pilothouse_runtime.engine.selection import select
from pilothouse_runtime.engine.warmup import warm_up
from tests.support.written_models import MINILM, save_transformers

CPU = torch.device("cpu")
TEXTS = ["A cat sits on the mat.", "Stock prices fell sharply today.", "", "far too long " * 300]


def texts(*values: str) -> list[Tensor]:
    return [Tensor("text", Datatype.BYTES, np.array([value.encode() for value in values], object))]


def loaded(folder: Path, declared: Signature | None = None) -> LoadedModel:
    return select(folder, Format.AUTO, declared).load(CPU)


def reference(folder: Path, longest: int) -> Any:
    """Return normalized means of the tokens' states, by plain transformers, one text at a time."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in TEXTS:
        encoded = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            states = network(**encoded).last_hidden_state[0]
        rows.append(torch.nn.functional.normalize(states.mean(0), dim=0).numpy())
    return np.stack(rows)


def test_real_embeddings_are_those_of_the_library() -> None:
    model = loaded(MINILM)
    assert model.signature == Signature(
        (TensorSpec("text", Datatype.BYTES, (-1,)),), (TensorSpec("embedding", Datatype.FP32, (-1, 384)),)
    )
    assert 90e6 < model.weight_bytes < 91e6
    output = model.run(texts(*TEXTS))[0]
    np.testing.assert_allclose(output.array, reference(MINILM, 256), atol=1e-6)


def test_texts_are_batched(tmp_path: Path) -> None:
    assert warm_up(loaded(save_transformers(tmp_path / "m")), 8).max_batch == 8


def test_classes(tmp_path: Path) -> None:
    labels = {0: "calm", 1: "angry", 2: "sad"}
    folder = save_transformers(tmp_path / "m", "BertForSequenceClassification", num_labels=3, id2label=labels)
    model = loaded(folder)
    assert model.signature is not None
    assert [str(spec) for spec in model.signature.outputs] == ["logits FP32 [-1, 3]", "label BYTES [-1]"]
    assert warm_up(model, 8).max_batch == 8
    logits, label = model.run(texts("one red house", "runs slowly"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        want = network(
            **tokenizer(["one red house", "runs slowly"], padding=True, return_tensors="pt")
        ).logits
    np.testing.assert_allclose(logits.array, want.numpy(), atol=1e-6)
    assert label.array.tolist() == [labels[index].encode() for index in want.argmax(1).tolist()]


def test_tokens_in_place_of_texts(tmp_path: Path) -> None:
    folder = save_transformers(tmp_path / "m")
    names = ("input_ids", "attention_mask")
    declared = Signature(tuple(TensorSpec(name, Datatype.INT64, (-1, -1)) for name in names), ())
    by_tokens, by_text = loaded(folder, declared), loaded(folder)
    warm_up(by_tokens, 4)
    ids = np.array([[2, 5, 6, 7, 3]], np.int64)
    got = by_tokens.run(
        [Tensor(names[0], Datatype.INT64, ids), Tensor(names[1], Datatype.INT64, ids * 0 + 1)]
    )
    np.testing.assert_allclose(got[0].array, by_text.run(texts("one red house"))[0].array, atol=1e-6)


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
@pytest.mark.parametrize("old", [True, False])
def test_pooling_as_sentence_transformers_files_say(tmp_path: Path, mode: str, old: bool) -> None:
    folder = save_transformers(tmp_path / "m")
    kinds = {"0": "Transformer", "1": "Pooling", "2": "Normalize"}
    modules = [
        {"idx": int(index), "path": f"{index}_{kind}", "type": f"sentence_transformers.models.{kind}"}
        for index, kind in kinds.items()
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    field = {
        "mean": "pooling_mode_mean_tokens",
        "cls": "pooling_mode_cls_token",
        "max": "pooling_mode_max_tokens",
    }
    config = {field[mode]: True} if old else {"pooling_mode": mode}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    got = loaded(folder).run(texts("one red house", "runs"))[0].array
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModel.from_pretrained(folder).eval()
    for row, text in zip(got, ("one red house", "runs"), strict=True):
        with torch.inference_mode():
            states = network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        pooled = {"mean": states.mean(0), "cls": states[0], "max": states.amax(0)}[mode]
        np.testing.assert_allclose(row, torch.nn.functional.normalize(pooled, dim=0).numpy(), atol=1e-6)


def test_texts_that_are_no_texts(tmp_path: Path) -> None:
    model = loaded(save_transformers(tmp_path / "m"))
    with pytest.raises(RequestError, match="input 'text': texts must be UTF-8"):
        model.run([Tensor("text", Datatype.BYTES, np.array([b"\xff"], object))])


def test_what_is_not_served(tmp_path: Path) -> None:
    folder = save_transformers(tmp_path / "m", "BertForTokenClassification")
    with pytest.raises(LoadError, match="BertForTokenClassification is not served; embeddings and"):
        loaded(folder)
