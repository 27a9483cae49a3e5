"""The names of what a model returns: a tensor, or tensors in tuples, lists and dicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch.utils import _pytree as pytree

from pilothouse_runtime.engine.failures import UnservableError

_PLAIN: Final = {torch.Tensor}


def name_leaves(result: Any) -> Iterator[tuple[str, Any]]:
    """Yield each leaf of a model's result with a name: keys of dicts joined by dots, else its position."""
    for index, (path, leaf) in enumerate(pytree.tree_flatten_with_path(result)[0]):
        named = any(not isinstance(key, pytree.SequenceKey) for key in path)
        keys = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]
        yield ".".join(keys) if named else f"output_{index}", leaf


def are_positions(names: Iterable[str]) -> bool:
    """Say whether `name_leaves` found no names in a result, only positions."""
    return all(name == f"output_{index}" for index, name in enumerate(names))


def named_tensors(result: Any, wanted: Sequence[str]) -> tuple[Sequence[str], Sequence[torch.Tensor]]:
    """Return the names of a result's tensors, and the tensors.

    Args:
        wanted: the signature's names of all outputs, in its order, or none: they name what has a position only.
    Raises:
        UnservableError: something is no tensor, or the outputs are not those wanted.
    """
    # Walking any tree takes longer than a small model: what most models return is taken as it is.
    kind = type(result)
    if kind is torch.Tensor:
        result = (result,)
    elif not ((kind is tuple or kind is list) and set(map(type, result)) <= _PLAIN):
        return _by_name(result, wanted)
    if len(wanted) == len(result):
        return wanted, result
    positions = [f"output_{index}" for index in range(len(result))]
    if wanted:
        raise _other_outputs(positions, wanted)
    return positions, result


def _by_name(result: Any, wanted: Sequence[str]) -> tuple[Sequence[str], Sequence[torch.Tensor]]:
    flat = (
        type(result) is dict and set(map(type, result.values())) <= _PLAIN and set(map(type, result)) <= {str}
    )
    named: Mapping[str, Any] = result if flat else dict(name_leaves(result))
    if not flat:
        for name, leaf in named.items():
            if not isinstance(leaf, torch.Tensor):
                raise UnservableError(f"{name} is of type {type(leaf).__name__}; a model returns tensors")
    if not wanted:
        return list(named), list(named.values())
    if len(named) == len(wanted) and are_positions(named):
        return wanted, list(named.values())
    if named.keys() != set(wanted):
        raise _other_outputs(named, wanted)
    return wanted, [named[name] for name in wanted]


def _other_outputs(found: Iterable[str], wanted: Iterable[str]) -> UnservableError:
    return UnservableError(f"it is {', '.join(found)}; the signature has {', '.join(wanted)}")
