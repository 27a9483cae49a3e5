"""What a SavedModel may hold: its graph is a program, whose operators can read and write files and start Python.

All nodes are looked at before TensorFlow sees the model: those of the graph, and of every function in its library.
Format: tensorflow/core/protobuf/saved_model.proto. Operators: `tf.raw_ops`, TensorFlow 2.21.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pilothouse_runtime.engine.failures import unloadable

_GRAPH: Final = "saved_model.pb"
# By what they do: files (and datasets, readers, checkpoints, summaries, lists of words and descriptions, which are
# files), graphs inside of texts, Python, other processes and machines, and ends of the process.
_FORBIDDEN: Final = re.compile(
    r"(Experimental)?("
    r"ReadFile|WriteFile|MatchingFiles\w*|\w*Reader(V2)?|Reader\w+|RecordInput|FileSystemSetConfiguration"
    r"|InitializeTableFromTextFile|LoadAndRemapMatrix|GenerateVocabRemapping"
    r"|(CSV|LMDB|Sql|TFRecord|TextLine|FixedLengthRecord|Generator|MatchingFiles|Cache|Save|Load|Snapshot"
    r"|ListSnapshotChunks|SnapshotChunk|SnapshotNested|DataService)\w*Dataset\w*|Snapshot\w+|DatasetToTFRecord"
    r"|\w*MemoryCache|Save(Slices|V2)?|Restore(Slice|V2)?|MergeV2Checkpoints|DistributedSave|DTensorRestoreV2"
    r"|\w*Summary(Writer|DbWriter|FileWriter)\w*|Write\w*Summary|ImportEvent|CalibrationStatisticsSaver"
    r"|DumpTensor|Debug\w+|Copy(Host)?|DatasetFromGraph|DeserializeIterator|Skipgram|FixedUnigramCandidateSampler"
    r"|DecodeProto(V2)?|EncodeProto"
    r"|\w*PyFunc\w*|Rpc\w+|RemoteCall|RegisterDataset(V2)?|Collective\w+|\w*(Send|Recv)\w*|\w*TPU\w*|XlaCustomCall(V2)?"
    r"|XlaHostCompute|_XlaHostCompute\w*|RemoteFusedGraphExecute|Abort|WorkerHeartbeat|Sleep(IdentityOp|Op|Dataset)"
    r")"
)
_TEXT_FILE: Final = "InitializeTableFromTextFileV2"  # a table of words, which may be an asset of the model
# The functions that write and read the variables' files. TensorFlow itself restores them from the folder's own.
_SAVER: Final = re.compile(r"__inference__traced_(save|restore)_\d+")
_SAVER_OPERATORS: Final = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints"})


def check(path: Path) -> None:
    """Look through a SavedModel's graph.

    Raises:
        LoadError: ModelLoadFailed, where it could do more than compute, or is broken.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    if not path.joinpath(_GRAPH).is_file():
        raise unloadable(f"{path.name} holds its graph as text; save it as {_GRAPH}")
    found = SavedModel()
    try:
        found.ParseFromString((path / _GRAPH).read_bytes())
    except DecodeError as error:
        raise unloadable(f"{path.name}: {_GRAPH} is broken ({error}): is it cut off?") from None
    serving = [graph for graph in found.meta_graphs if "serve" in graph.meta_info_def.tags]
    if len(serving) != 1 or len(found.meta_graphs) != 1:
        tags = ["+".join(graph.meta_info_def.tags) or "none" for graph in found.meta_graphs]
        raise unloadable(
            f"{path.name}: {_GRAPH} must hold one graph with the tag serve, and holds {', '.join(tags) or 'none'};"
            " save the model with tf.saved_model.save or model.export"
        )
    if not serving[0].HasField("object_graph_def"):
        raise unloadable(
            f"{path.name} was saved by TensorFlow 1; load it with tf.compat.v1 and save it with tf.saved_model.save"
        )
    for asset in serving[0].asset_file_def:
        if "/" in asset.filename or asset.filename in ("", ".."):
            raise unloadable(f"{path.name}: the asset {asset.filename[:80]!r} leads out of its folder")
    _check_functions(path, serving[0].graph_def, serving[0].object_graph_def)
    if path.joinpath("variables").is_dir() != path.joinpath("variables", "variables.index").is_file():
        raise unloadable(f"{path.name}: variables/variables.index is missing")


def _check_functions(path: Path, graph: Any, objects: Any) -> None:
    """Refuse operators that a model has no business with; what saves and restores may be there, but not be run."""
    for function in graph.library.function:
        allowed = _SAVER_OPERATORS if _SAVER.fullmatch(function.signature.name) else frozenset()
        for node in function.node_def:
            if node.op not in allowed:
                _check_node(path, node, _own_files(function, objects))
    for node in graph.node:
        _check_node(path, node, frozenset())
    run = {
        called
        for function in graph.library.function
        for node in function.node_def
        for called in _called(node)
    }
    for name in run | objects.concrete_functions.keys():
        if _SAVER.fullmatch(name):
            raise unloadable(f"{path.name}: the model calls {name}, which uses files: a model may not")


def _own_files(function: Any, objects: Any) -> frozenset[str]:
    """Return those of a function's arguments that are names of files among the model's assets."""
    known = objects.concrete_functions.get(function.signature.name)
    if known is None or not known.bound_inputs:
        return frozenset()
    bound = known.bound_inputs  # the last arguments
    captured = [argument.name for argument in function.signature.input_arg][-len(bound) :]
    return frozenset(
        name
        for name, place in zip(captured, bound, strict=False)
        if place < len(objects.nodes) and objects.nodes[place].WhichOneof("kind") == "asset"
    )


def _check_node(path: Path, node: Any, own_files: frozenset[str]) -> None:
    forbidden = bool(_FORBIDDEN.fullmatch(node.op))
    if node.op == _TEXT_FILE:
        forbidden = len(node.input) < 2 or node.input[1] not in own_files
    if node.op == "PrintV2":
        forbidden = b"://" in node.attr["output_stream"].s
    if forbidden:
        raise unloadable(
            f"{path.name}: its graph holds the operator {node.op}: a model may not use files other than its own, Python"
            " or other programs; leave it out of what is exported"
        )


def _called(node: Any) -> Iterator[str]:
    if node.op:
        yield node.op  # a function may be called by its name
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)
