"""The transformers backend: folders as Hugging Face's hub holds them, for embeddings and classification of texts.

Never code from the folder (`auto_map`), never a pickle (`pytorch_model.bin`), never the network.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

# Read when the library is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import logging as library_logging

from pilothouse_runtime.core.errors import LoadError, invalid
from pilothouse_runtime.core.settings import Format, Optimize
from pilothouse_runtime.core.signature import SignatureError, reconcile
from pilothouse_runtime.core.tensors import ANY, Datatype, Signature, Tensor, TensorSpec
from pilothouse_runtime.engine.failures import first_cause, unloadable
from pilothouse_runtime.engine.mapped import check_mapped
from pilothouse_runtime.engine.model import PLAIN, Options
from pilothouse_runtime.engine.torch_model import TorchModel
from pilothouse_runtime.engine.transformers_folder import Recipe, read_recipe

_TEXT: Final = TensorSpec("text", Datatype.BYTES, (ANY,))
_LONGEST: Final = 512  # tokens, where neither the network nor the folder says it
_TOKENS: Final = ("input_ids", "attention_mask")
_VOCABULARIES: Final = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
_OFFLINE: Final[Any] = {"local_files_only": True, "trust_remote_code": False}


class TransformersModel(TorchModel):
    """A network with its tokenizer. Gives `embedding`, or `logits` and the `label` with the largest.

    Args:
        tokenize: texts to tensors by name; None where requests bring tokens.
    """

    format = Format.TRANSFORMERS
    platform = "pytorch_transformers"

    def __init__(
        self,
        network: torch.nn.Module,
        tokenize: Callable[[list[str]], Mapping[str, Any]] | None,
        recipe: Recipe,
        signature: Signature,
        device: torch.device,
        path: Path,
        options: Options = PLAIN,
    ) -> None:
        super().__init__(signature, device, (*network.parameters(), *network.buffers()))
        self._path = path
        self._optimize = options.optimize
        self._network = network
        self._tokenize = tokenize
        self._recipe = recipe
        self._names = (signature.outputs[0].name,)

    def settle(self, inputs: Sequence[Tensor]) -> float | None:
        """See `LoadedModel`. The library maps weights in any case: what is asked for is that it could."""
        if self._optimize is Optimize.MMAP:
            check_mapped(self._path, self._network.parameters())
        return None

    def compute(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """See `LoadedModel`."""
        if self._tokenize is not None:
            inputs = _tokens(inputs[0], self._tokenize)
        outputs = super().compute(inputs)
        if labels := self._recipe.labels:
            best = outputs[0].array.argmax(axis=-1)
            texts = np.array([labels[index].encode() for index in best.flat], object).reshape(best.shape)
            outputs.append(Tensor("label", Datatype.BYTES, texts))
        return outputs

    def call(self, inputs: Sequence[torch.Tensor]) -> Any:
        """Run the network on ids and mask."""
        ids, mask = inputs
        answer = self._network(input_ids=ids, attention_mask=mask)
        if not self._recipe.is_embedding:
            return answer.logits.float()
        states = answer.last_hidden_state.float()
        weights = mask.unsqueeze(-1).to(states.dtype)
        if self._recipe.pooling == "cls":
            pooled = states[:, 0]
        elif self._recipe.pooling == "max":
            pooled = states.masked_fill(weights == 0, -torch.inf).amax(1)
        else:
            pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=1) if self._recipe.normalize else pooled


def load(
    path: Path, device: torch.device, declared: Signature | None, options: Options = PLAIN
) -> TransformersModel:
    """Load a folder: config.json, weights as safetensors, and a tokenizer.

    Args:
        declared: the user's signature, if any. With inputs input_ids and attention_mask, requests bring tokens.
    Raises:
        LoadError: ModelLoadFailed.
    """
    recipe = read_recipe(path)
    # Its lines and progress bars would be no JSON in the log.
    library_logging.disable_progress_bar()  # type: ignore[no-untyped-call] # the library's own
    library_logging.set_verbosity(logging.CRITICAL)
    try:
        config = AutoConfig.from_pretrained(path, **_OFFLINE)
        kind = AutoModel if recipe.is_embedding else AutoModelForSequenceClassification
        network, told = kind.from_pretrained(
            path, config=config, use_safetensors=True, output_loading_info=True, **_OFFLINE
        )
        by_tokens = declared is not None and {spec.name for spec in declared.inputs} == set(_TOKENS)
        tokenizer = None if by_tokens else _tokenizer(options.tokenizer or path)
    except LoadError:
        raise
    except MemoryError as error:
        raise unloadable(f"{path.name}: not enough memory to load it", permanent=False) from error
    except Exception as error:
        raise unloadable(
            f"{path.name}: transformers cannot load this folder: {first_cause(error)}"
        ) from error
    _check_weights(path, told)
    width = config.hidden_size if recipe.is_embedding else config.num_labels
    signature = _signature(path, declared, recipe, by_tokens, int(width))
    tokenize = None
    if tokenizer is not None:
        longest = recipe.longest or int(getattr(config, "max_position_embeddings", _LONGEST))
        tokenize = partial(tokenizer, padding=True, truncation=True, max_length=longest, return_tensors="np")
    return TransformersModel(network.to(device).eval(), tokenize, recipe, signature, device, path, options)


def _tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder. Without its files, the library would make one that knows no word."""
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise unloadable(f"{folder.name} has no tokenizer: {_VOCABULARIES[0]} is missing")
    return AutoTokenizer.from_pretrained(folder, **_OFFLINE)


def _check_weights(path: Path, told: dict[str, Any]) -> None:
    """Refuse weights that the library would have made up; those of an unused pooler do not matter."""
    missing = sorted(name for name in told["missing_keys"] if "pooler." not in name)
    if missing:
        raise unloadable(
            f"{path.name}: its weights lack {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}"
        )
    if told["mismatched_keys"]:
        raise unloadable(
            f"{path.name}: weights of another shape than config.json says: {told['mismatched_keys']}"
        )


def _signature(
    path: Path, declared: Signature | None, recipe: Recipe, by_tokens: bool, width: int
) -> Signature:
    name = "embedding" if recipe.is_embedding else "logits"
    outputs = [TensorSpec(name, Datatype.FP32, (ANY, width))]
    if recipe.labels:
        outputs.append(TensorSpec("label", Datatype.BYTES, (ANY,)))
    tokens = tuple(TensorSpec(token, Datatype.INT64, (ANY, ANY)) for token in _TOKENS)
    found = Signature(tokens if by_tokens else (_TEXT,), tuple(outputs))
    try:
        return reconcile(declared, found, names_made_up=False) or found
    except SignatureError as error:
        raise unloadable(
            f"{path.name}: model.inputs and model.outputs contradict the folder: {error}"
        ) from None


def _tokens(tensor: Tensor, tokenize: Callable[[list[str]], Mapping[str, Any]]) -> list[Tensor]:
    try:
        texts = [text.decode() for text in tensor.array]
    except UnicodeDecodeError:
        raise invalid(f"input {tensor.name!r}: texts must be UTF-8") from None
    encoded = tokenize(texts)
    return [Tensor(name, Datatype.INT64, np.asarray(encoded[name], np.int64)) for name in _TOKENS]
