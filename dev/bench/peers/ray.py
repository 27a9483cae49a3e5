# mypy: ignore-errors
# (see __init__.py)
"""Ray Serve: replicas behind its HTTP proxy, batched by its decorator."""

import os
import signal

import numpy as np
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from dev.bench.peers import common

HOW = common.given()


@serve.deployment(
    num_replicas=HOW.workers, max_ongoing_requests=256, ray_actor_options={"num_cpus": HOW.threads}
)
class Model:
    """The model, in each replica."""

    def __init__(self):
        self.run = common.load(HOW)

    @serve.batch(max_batch_size=max(HOW.batch, 2), batch_wait_timeout_s=HOW.wait / 1000)
    async def together(self, rows):
        return list(self.run(np.stack(rows)))

    async def __call__(self, request: Request) -> Response:
        row = common.row(await request.body(), HOW)
        output = await self.together(row) if HOW.batch > 1 else self.run(row[np.newaxis])[0]
        return Response(common.answer(output, HOW), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, configure_logging=False, _temp_dir=os.environ["BENCH_TEMP"])
    serve.start(
        http_options={"host": "127.0.0.1", "port": HOW.port}, logging_config={"enable_access_log": False}
    )
    serve.run(Model.bind(), name="model", route_prefix="/")
    signal.pause()
