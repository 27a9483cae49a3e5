# mypy: ignore-errors
# (see __init__.py)
"""BentoML: a service with an adaptive-batching method, started by `bentoml serve`; bytes go to a mounted ASGI app."""

import bentoml
import numpy as np
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from dev.bench.peers import common

HOW = common.given()
RUN = common.load(HOW)
BATCHING = {"batchable": True, "max_batch_size": HOW.batch, "max_latency_ms": 1000} if HOW.batch > 1 else {}


async def raw(request):
    """Answer one row of bytes."""
    row = common.row(await request.body(), HOW)
    return Response(common.answer(RUN(row[np.newaxis])[0], HOW), media_type="application/octet-stream")


@bentoml.asgi_app(Starlette(routes=[Route("/", raw, methods=["POST"])]), path="/raw")
@bentoml.service(workers=HOW.workers, traffic={"timeout": 60}, metrics={"enabled": True})
class Service:
    """The model, in each worker."""

    @bentoml.api(**BATCHING)
    async def predict(self, x: np.ndarray) -> np.ndarray:
        return RUN(x.astype(common.dtype(HOW)))
