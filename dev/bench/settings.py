"""The settings of each peer: several ways to run it, so that for every load its best one counts.

Without batching and with it (small batches and waits), and with one and two workers, as far as the peer has these.
Torch has one thread where the model is small, else the workers share the cores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev.bench.bodies import Form
from dev.bench.environments import Environment
from dev.bench.servers import Setting
from dev.bench.subjects import FORMS

CORES: Final = 2  # what the settings are made for
# The fastest way to run each model in a process, of those that `limits` measures.
_FORMS: Final = {"small": "torchscript", "resnet18": "eager", "transformer": "eager"}


@dataclass(frozen=True)
class Way:
    """One way to run a peer.

    Attributes:
        batch: most rows that are run together; 1 is no batching.
        wait: milliseconds to wait for more of them.
        env: what the peer's server file reads besides.
    """

    batch: int = 1
    wait: int = 0
    workers: int = 1
    note: str = ""
    env: tuple[tuple[str, str], ...] = ()
    quick: bool = True

    @property
    def label(self) -> str:
        """How tables name it."""
        parts = [f"batch {self.batch}" if self.batch > 1 else "no batching"]
        parts += [f"wait {self.wait} ms"] if self.wait else []
        parts += [f"{self.workers} workers"] if self.workers > 1 else []
        return ", ".join([*parts, *([self.note] if self.note else [])])


@dataclass(frozen=True)
class Peer:
    """A peer, and how it is run.

    Attributes:
        name: of its files in peers/.
        package: whose version tables tell.
        oip: whether it speaks the Open Inference Protocol.
        path: where requests go; {model} stands for the model's name.
        path_of_bytes: where they go if they are bytes, if that is elsewhere.
        ways: for a model.
        form: how tensors are sent, for a model.
        argv: the command; {python} is its environment's interpreter, {bin} the folder of its programs.
        env: environment besides.
    """

    name: str
    title: str
    package: str
    path: str
    ways: Callable[[bool], tuple[Way, ...]]
    form: Callable[[str], Form]
    oip: bool = False
    path_of_bytes: str = ""
    argv: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    def settings(self, model: str, folder: Path, environment: Environment) -> list[Setting]:
        """Return all ways to run it for a model whose files are in `folder`."""
        form = self.form(model)
        path = self.path_of_bytes if form is Form.RAW and self.path_of_bytes else self.path
        argv = self.argv or ("{python}", "-W", "ignore", "-m", f"dev.bench.peers.{self.name}")
        argv = tuple(
            word.replace("{python}", str(environment.python)).replace("{bin}", str(environment.python.parent))
            for word in argv
        )
        return [
            Setting(
                self.title,
                way.label,
                argv,
                path.format(model=model),
                form,
                _environment(model, folder, way, form) | dict(self.env) | dict(way.env),
                way.quick,
            )
            for way in self.ways(model == "small")
        ]


def _environment(model: str, folder: Path, way: Way, form: Form) -> dict[str, str]:
    threads = str(1 if model == "small" else max(1, CORES // way.workers))
    return {
        "BENCH_MODEL": model,
        "BENCH_FORM": _FORMS[model],
        "BENCH_FOLDER": str(folder),
        "BENCH_PORT": "{port}",
        "BENCH_BATCH": str(way.batch),
        "BENCH_WAIT": str(way.wait),
        "BENCH_WORKERS": str(way.workers),
        "BENCH_THREADS": threads,
        "BENCH_JSON": "1" if form in (Form.OIP_JSON, Form.ROWS_JSON) else "0",
        "OMP_NUM_THREADS": threads,
    }


def _bytes(model: str) -> Form:
    """For peers that read bodies as they like: the same JSON as ours, or the tensor's bytes and nothing else."""
    return Form.OIP_JSON if model == "small" else Form.RAW


def _mosec(small: bool) -> tuple[Way, ...]:
    if small:
        return (
            Way(),
            Way(workers=2, quick=False),
            Way(8, 1, quick=False),
            Way(16, 1, quick=False),
            Way(32, 1, quick=False),
            Way(64, 1, quick=False),
            Way(8, 1, 2),
            Way(32, 1, 2),
        )
    return (Way(), Way(workers=2, quick=False), Way(8, 1, quick=False), Way(8, 1, 2))


def _fastapi(small: bool) -> tuple[Way, ...]:
    return (Way(quick=not small), Way(workers=2))


def _litserve(small: bool) -> tuple[Way, ...]:
    one, two = (("BENCH_API_SERVERS", "1"),), (("BENCH_API_SERVERS", "2"),)
    plain, fast = (("BENCH_FAST_QUEUE", "0"),), (("BENCH_FAST_QUEUE", "1"),)
    if small:
        return (
            Way(env=one + plain, quick=False),
            Way(8, 1, env=one + plain, quick=False),
            Way(32, 1, env=one + fast, note="fast queue", quick=False),
            Way(32, 1, env=two + fast, note="fast queue, 2 API servers"),
        )
    return (
        Way(env=one + plain, quick=False),
        Way(workers=2, env=one + plain, quick=False),
        Way(8, 1, env=one + plain),
        Way(8, 1, 2, env=one + plain, quick=False),
    )


def _kserve(small: bool) -> tuple[Way, ...]:
    return (Way(quick=small), Way(workers=2, quick=not small))


def _mlserver(small: bool) -> tuple[Way, ...]:
    if small:
        return (Way(), Way(32, 1, quick=False), Way(32, 1, 2, quick=False))
    return (Way(quick=False), Way(8, 1, quick=False), Way(workers=2))


def _bentoml(small: bool) -> tuple[Way, ...]:
    if small:  # its dispatcher finds the waits itself
        return (Way(quick=False), Way(workers=2), Way(32, workers=2, quick=False))
    return (Way(), Way(workers=2, quick=False))


def _ray(small: bool) -> tuple[Way, ...]:
    if small:
        return (Way(quick=False), Way(32, 1), Way(32, 1, 2, quick=False))
    return (Way(8, 1, quick=False), Way(8, 1, 2))


PEERS: Final = (
    Peer("mosec", "mosec", "mosec", "/inference", _mosec, _bytes),
    Peer("fastapi", "FastAPI", "fastapi", "/predict", _fastapi, _bytes),
    Peer("litserve", "LitServe", "litserve", "/predict", _litserve, _bytes),
    Peer(
        "kserve",
        "KServe",
        "kserve",
        "/v2/models/{model}/infer",
        _kserve,
        lambda model: FORMS[model],
        oip=True,
    ),
    Peer(
        "mlserver",
        "MLServer",
        "mlserver",
        "/v2/models/{model}/infer",
        _mlserver,
        lambda model: Form.OIP_JSON if model == "small" else Form.OIP_BASE64,
        oip=True,
        env=(("BENCH_PORT_2", "{port2}"), ("BENCH_PORT_3", "{port3}")),
    ),
    Peer(
        "bentoml",
        "BentoML",
        "bentoml",
        "/predict",
        _bentoml,
        lambda model: Form.ROWS_JSON if model == "small" else Form.RAW,
        path_of_bytes="/raw/",
        argv=(
            *("{bin}/bentoml", "serve", "dev.bench.peers.bentoml:Service"),
            *("--host", "127.0.0.1", "--port", "{port}"),
        ),
        env=(("BENTOML_DO_NOT_TRACK", "True"), ("BENTOML_HOME", "{scratch}/bentoml")),
    ),
    Peer(
        "ray",
        "Ray Serve",
        "ray",
        "/",
        _ray,
        _bytes,
        env=(
            *(("BENCH_TEMP", "{scratch}/ray"), ("RAY_USAGE_STATS_ENABLED", "0")),
            ("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1"),
        ),
    ),
)
