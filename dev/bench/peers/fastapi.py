# mypy: ignore-errors
# (see __init__.py)
"""FastAPI on uvicorn, by hand: the body parsed with orjson, the model run in the event loop. No batching."""

from __future__ import annotations

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response

from dev.bench.peers import common

HOW = common.given()
RUN = common.load(HOW)
app = FastAPI()


@app.post("/predict")
async def predict(request: Request) -> Response:
    row = common.row(await request.body(), HOW)
    kind = "application/json" if HOW.json else "application/octet-stream"
    return Response(common.answer(RUN(row[np.newaxis])[0], HOW), media_type=kind)


if __name__ == "__main__":
    uvicorn.run(
        "dev.bench.peers.fastapi:app",
        host="127.0.0.1",
        port=HOW.port,
        workers=HOW.workers,
        loop="uvloop",
        http="httptools",
        access_log=False,
    )
