# mypy: ignore-errors
# (see __init__.py)
"""MLServer with a custom runtime, over the Open Inference Protocol, started by its own command."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

from dev.bench import models
from dev.bench.peers import common


class Runtime(MLModel):
    """Its JSON has no binary extension: large tensors come as base64, the content type that it has for bytes."""

    async def load(self):
        self.how = common.given()
        self.run = common.load(self.how)
        return True

    async def predict(self, payload):
        tensor = payload.inputs[0]
        if tensor.datatype == "BYTES":
            content = b"".join(base64.b64decode(one) for one in tensor.data)
            shape = (-1, *models.KINDS[self.how.model].row)
            rows = np.frombuffer(bytearray(content), common.dtype(self.how)).reshape(shape)
        else:
            rows = NumpyCodec.decode_input(tensor)
        output = NumpyCodec.encode_output(models.OUTPUT, self.run(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])


def start(how):
    """Write the settings that `mlserver start` reads into the working directory, and become it."""
    server = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": how.port,
        "grpc_port": int(os.environ["BENCH_PORT_2"]),
        "metrics_port": int(os.environ["BENCH_PORT_3"]),
        "parallel_workers": how.workers if how.workers > 1 else 0,  # 0 runs the model in the server's process
        "gzip_enabled": False,
    }
    model = {"name": how.model, "implementation": "dev.bench.peers.mlserver.Runtime"}
    if how.batch > 1:
        model |= {"max_batch_size": how.batch, "max_batch_time": how.wait / 1000}
    Path("settings.json").write_text(json.dumps(server))
    Path("model-settings.json").write_text(json.dumps(model))
    program = str(Path(sys.executable).parent / "mlserver")
    os.execv(program, [program, "start", "."])  # noqa: S606 - it takes this process's place


if __name__ == "__main__":
    start(common.given())
