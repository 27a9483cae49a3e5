# mypy: ignore-errors
# (see __init__.py)
"""KServe's Python model server with a custom model, over the Open Inference Protocol. It has no batching of its own."""

from __future__ import annotations

import kserve
import numpy as np
from kserve import InferOutput, InferResponse
from kserve.utils.utils import generate_uuid

from dev.bench import models
from dev.bench.peers import common

HOW = common.given()


class Model(kserve.Model):
    """Answers in the way that the request asks for: JSON or binary."""

    def __init__(self, name):
        super().__init__(name)
        self.run = None
        self.ready = True  # each worker process loads its own when it is first asked: a loaded one cannot be sent there

    async def predict(self, payload, headers=None, response_headers=None):
        if self.run is None:
            self.run = common.load(HOW)
        rows = payload.inputs[0].as_numpy()
        answer = self.run(rows if rows.flags.writeable else np.array(rows))
        output = InferOutput(models.OUTPUT, list(answer.shape), "FP32")
        output.set_data_from_numpy(answer, binary_data=bool(payload.use_binary_outputs))
        return InferResponse(
            payload.id or generate_uuid(),
            self.name,
            [output],
            use_binary_outputs=bool(payload.use_binary_outputs),
        )


if __name__ == "__main__":
    kserve.ModelServer(
        http_port=HOW.port, workers=HOW.workers, enable_grpc=False, enable_latency_logging=False
    ).start([Model(HOW.model)])
