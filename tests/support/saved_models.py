"""Makes SavedModels, good and bad, and says what the runtime's backend makes of them.

Run by the interpreter of an environment that has TensorFlow: `make FOLDER DIGITS.npz` or `judge FOLDER`, which prints
{name of a model: null, or [reason, permanent, message]} as JSON.
"""

# mypy: ignore-errors

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="2")

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

MARK = "code-has-run"  # in the folder of the models, once one has done what it may not


def digits(folder: Path, data: Path) -> None:
    """Train a network on digits and export it as Keras does, with its answers to the held-out ones."""
    import keras

    keras.utils.set_random_seed(7)
    arrays = np.load(data)
    images, labels = arrays["images"], arrays["labels"]
    model = keras.Sequential(
        [
            keras.Input((64,), name="image"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, name="scores"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(images[:1500], labels[:1500], batch_size=100, epochs=5, verbose=0)
    model.export(folder / "digits", format="tf_saved_model", verbose=False)
    model.save(folder / "digits.keras")
    np.save(folder / "digits.npy", model.predict(images[1500:], verbose=0))


class Words(tf.Module):
    """Texts to texts and numbers, with a table of words: from a list, or from a file among the model's own."""

    def __init__(self, vocabulary: Path | None = None) -> None:
        super().__init__()
        keys, values = tf.constant(["red", "house"]), tf.constant([0, 1], tf.int64)
        initializer = tf.lookup.KeyValueTensorInitializer(keys, values)
        if vocabulary:
            line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
            initializer = tf.lookup.TextFileInitializer(str(vocabulary), tf.string, line, tf.int64, number)
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "text")])
    def __call__(self, text: Any) -> Any:
        """Return the text in capitals, and the word's number."""
        return {"upper": tf.strings.upper(text), "number": self.table.lookup(text)}


def save(folder: Path, body: Callable[[Any], Any]) -> None:
    """Save a model that doubles x, with something beside."""

    class Doubling(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two = tf.Variable([2.0])

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
        def __call__(self, x: Any) -> Any:
            with tf.control_dependencies([item for item in [body(x)] if item is not None]):
                return {"y": x * self.two}

    module = Doubling()
    tf.saved_model.save(module, str(folder), signatures=module.__call__)


def hostile(folder: Path) -> None:
    """Save models whose graphs do what a model may not."""
    mark = str(folder / MARK)
    table = tf.raw_ops.HashTableV2
    bodies = {
        "reads": lambda x: tf.io.read_file("/etc/hostname"),
        "writes": lambda x: tf.io.write_file(mark, "x"),
        "lists": lambda x: tf.io.matching_files("/*"),
        "python": lambda x: tf.py_function(lambda: Path(mark).mkdir(), [], []),
        "numpy": lambda x: tf.numpy_function(lambda: Path(mark).mkdir(), [], []),
        "prints": lambda x: tf.print("x", output_stream=f"file://{mark}"),
        "checkpoints": lambda x: tf.raw_ops.SaveV2(
            prefix=mark, tensor_names=["x"], shape_and_slices=[""], tensors=[x]
        ),
        "table": lambda x: tf.raw_ops.InitializeTableFromTextFileV2(
            table_handle=table(key_dtype=tf.string, value_dtype=tf.int64),
            filename="/etc/passwd",
            key_index=-2,
            value_index=-1,
        ),
        "dataset": lambda x: tf.data.TextLineDataset("/etc/passwd").reduce(np.int64(0), lambda n, _: n + 1),
        "graph-in-text": lambda x: tf.raw_ops.DatasetFromGraph(graph_def="x"),
        "words-elsewhere": lambda x: (
            tf.raw_ops.FixedUnigramCandidateSampler(
                true_classes=[[np.int64(1)]],
                num_true=1,
                num_sampled=1,
                unique=True,
                range_max=2,
                vocab_file="/etc/passwd",
            ).sampled_candidates
        ),
        "condition": lambda x: tf.cond(
            tf.size(x) > 0, lambda: tf.io.write_file(mark, "x"), lambda: tf.no_op()
        ),
    }
    for name, body in bodies.items():
        save(folder / name, body)

    class Writing(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self) -> Any:
            return table(key_dtype=tf.string, value_dtype=tf.int64)

        def _initialize(self) -> None:
            tf.io.write_file(mark, "x")

    module = tf.Module()
    module.resource = Writing()
    module.serve = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
    tf.saved_model.save(module, str(folder / "starts"), signatures=module.serve)
    Path(mark).unlink(missing_ok=True)  # it was initialised here too


def edited(folder: Path, source: str, name: str, change: Callable[[Any], None]) -> None:
    """Copy a model and change its protobuf."""
    shutil.copytree(folder / source, folder / name)
    file = folder / name / "saved_model.pb"
    found = SavedModel.FromString(file.read_bytes())
    change(found)
    file.write_bytes(found.SerializeToString())


def disguised(found: Any) -> None:
    """Call the function that writes a checkpoint what TensorFlow calls its own."""
    graph, objects = found.meta_graphs[0].graph_def, found.meta_graphs[0].object_graph_def
    function = next(
        item
        for item in graph.library.function
        if "SaveV2" in {node.op for node in item.node_def} and "traced_save" not in item.signature.name
    )
    old, new = function.signature.name, "__inference__traced_save_999"
    function.signature.name = new
    for item in graph.library.function:
        for node in item.node_def:
            if node.attr["f"].func.name == old:
                node.attr["f"].func.name = new
    objects.concrete_functions[new].CopyFrom(objects.concrete_functions[old])
    del objects.concrete_functions[old]
    for item in objects.nodes:
        names = item.function.concrete_functions
        names[:] = [new if name == old else name for name in names]


def broken(folder: Path) -> None:
    """Copy a good model, and break the copies."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(folder / "digits", folder / name))

    pb = "saved_model.pb"
    content = (folder / "digits" / pb).read_bytes()
    copy("short").joinpath(pb).write_bytes(content[: len(content) // 2])
    copy("empty").joinpath(pb).write_bytes(b"")
    copy("text").joinpath(pb).write_text("saved_model_schema_version: 1\n")
    copy("no-index").joinpath("variables", "variables.index").unlink()
    shutil.rmtree(copy("no-variables") / "variables")
    shard = "variables.data-00000-of-00001"
    copy("no-shard").joinpath("variables", shard).unlink()
    file = copy("short-shard") / "variables" / shard
    file.write_bytes(file.read_bytes()[:1000])
    edited(folder, "digits", "of-tf1", lambda found: found.meta_graphs[0].ClearField("object_graph_def"))
    edited(folder, "digits", "doubled", lambda found: found.meta_graphs.append(found.meta_graphs[0]))
    edited(folder, "checkpoints", "disguised", disguised)

    def elsewhere(found: Any) -> None:
        found.meta_graphs[0].asset_file_def[0].filename = "../../../../etc/passwd"

    def unknown(found: Any) -> None:
        for function in found.meta_graphs[0].graph_def.library.function:
            for node in function.node_def:
                node.op = "MatMulBetter" if node.op == "MatMul" else node.op

    edited(folder, "vocabulary", "elsewhere", elsewhere)
    edited(folder, "digits", "unknown", unknown)
    module = tf.Module()
    module.serve = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec((None,), tf.float32, "x")])
    tf.saved_model.save(module, str(folder / "other-name"), signatures={"predict": module.serve})
    module.serve = tf.function(
        lambda x: {"y": tf.complex(x, x)}, input_signature=[tf.TensorSpec((None,), tf.float32, "x")]
    )
    tf.saved_model.save(module, str(folder / "complex"), signatures=module.serve)


def make(folder: Path, data: Path) -> None:
    """Write all models."""
    digits(folder, data)
    words = Words()
    tf.saved_model.save(words, str(folder / "words"), signatures=words.__call__)
    list_of_words = folder / "words.txt"
    list_of_words.write_text("red\nhouse\n")
    words = Words(list_of_words)
    tf.saved_model.save(words, str(folder / "vocabulary"), signatures=words.__call__)
    list_of_words.unlink()
    save(folder / "talks", lambda x: tf.print("x", x))
    hostile(folder)
    broken(folder)


def judge(folder: Path) -> dict[str, Any]:
    """Load and warm up all models as the runtime would."""
    from pilothouse_runtime.core.errors import LoadError
    from pilothouse_runtime.core.settings import Device, Format
    from pilothouse_runtime.engine.formats import detect
    from pilothouse_runtime.engine.registry import BACKENDS
    from pilothouse_runtime.engine.warmup import warm_up

    found: dict[str, Any] = {}
    for path in sorted(item for item in folder.iterdir() if item.is_dir()):
        try:
            backend = BACKENDS[detect(path, Format.AUTO)]
            found[path.name] = warm_up(backend.load(path, Device.AUTO, None), 32).max_batch
        except LoadError as error:
            found[path.name] = [error.reason, error.permanent, error.message]
    return found


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.stdout.write(json.dumps(judge(Path(sys.argv[2]))))
