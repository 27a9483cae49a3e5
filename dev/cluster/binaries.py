"""The programs of the cluster: Kubernetes built once from Debian's source package, the rest from Debian's packages.

Both are kept outside the checkout, under a key of everything that decides what they are.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from dev.cluster import debian
from dev.cluster.errors import ClusterError
from dev.cluster.report import Report

KUBERNETES_VERSION = "1.20.2"
COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")

_PACKAGES = ("etcd-server", "containerd", "runc", "containernetworking-plugins", "busybox-static")
_GO_PACKAGES = ("golang-1.19-go", "golang-1.19-src", "golang-github-modern-go-reflect2-dev")
# The tree's own reflect2 1.0.1 is older than Go 1.18, which changed how maps are walked: an API server built with
# it dies with "fatal error: fault" on the first custom resource. Debian's is 1.0.2, which knows both ways.
_REFLECT2 = "github.com/modern-go/reflect2"
_BUILD_PROGRAMS = {"dpkg-source": "dpkg-dev"}
_PROGRAMS = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "mount": "mount",
    "iptables": "iptables",
    "conntrack": "conntrack",
}

# `kubectl version` and Helm believe what is linked in here; the tree is no Git checkout that could tell.
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.split(".")
_VERSION = {
    "gitVersion": f"v{KUBERNETES_VERSION}",
    "gitMajor": _MAJOR,
    "gitMinor": _MINOR,
    "gitTreeState": "clean",
}
_VERSION_PACKAGES = ("component-base/version", "client-go/pkg/version")
_LINKER = " ".join(
    ["-s", "-w"]
    + [
        f"-X k8s.io/kubernetes/vendor/k8s.io/{package}.{name}={value}"
        for package in _VERSION_PACKAGES
        for name, value in _VERSION.items()
    ]
)
# Without inlining the compiler has less to do, and the code is fast enough. CGO is off: static programs.
_COMPILER = ("-gcflags=all=-l", "-tags=providerless dockerless")
_GO_ENVIRONMENT = {"GO111MODULE": "off", "CGO_ENABLED": "0", "GOFLAGS": "", "GOGC": "400"}
_OPENAPI = "pkg/generated/openapi"
_PAUSE_SOURCE = Path(__file__).parent / "pause" / "main.go"


@dataclass(frozen=True)
class Binaries:
    """Where the programs are."""

    kubernetes: Path  # a directory with COMMANDS and `pause`
    debian: Path  # the packages, unpacked: usr/bin/etcd, usr/lib/cni/...

    @property
    def path(self) -> str:
        """The PATH that components are started with."""
        own = [self.kubernetes, self.debian / "usr/bin", self.debian / "usr/sbin"]
        return ":".join([*map(str, own), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])


def cached() -> Binaries:
    """Where the programs are, or will be once `ensure` has made them."""
    return Binaries(
        kubernetes=_cache() / f"kubernetes/{_kubernetes_key()}", debian=_cache() / f"debian/{_debian_key()}"
    )


def ensure(report: Report) -> Binaries:
    """Make sure that every program is there: install, download and build what is missing (the build takes minutes).

    Raises:
        ClusterError: a package cannot be had, or the build fails; the message names it.
    """
    debian.install_missing(_PROGRAMS, report)
    binaries = cached()
    if not (binaries.kubernetes.is_dir() and binaries.debian.is_dir()):
        with _exclusively(report):
            make(binaries.debian, lambda work: _unpack_packages(work, report))
            make(binaries.kubernetes, lambda work: _build_kubernetes(work, report))
    return binaries


def missing() -> list[str]:
    """What `ensure` would have to make or install, for people."""
    found = [
        f"{program} (Debian package {package})"
        for program, package in debian.missing_programs(_PROGRAMS).items()
    ]
    binaries = cached()
    if not binaries.debian.is_dir():
        found.append(f"{', '.join(_PACKAGES)} (Debian packages, unpacked into {binaries.debian})")
    if not binaries.kubernetes.is_dir():
        found.append(
            f"Kubernetes {KUBERNETES_VERSION} (built from Debian's source package into {binaries.kubernetes})"
        )
    return found


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pilothouse"


def _kubernetes_key() -> str:
    recipe = (debian.SUITE, _GO_PACKAGES, COMMANDS, _LINKER, _COMPILER, sorted(_GO_ENVIRONMENT.items()))
    return f"{KUBERNETES_VERSION}-{_digest(repr(recipe).encode() + _PAUSE_SOURCE.read_bytes())}"


def _debian_key() -> str:
    return f"{debian.SUITE}-{_digest(repr(_PACKAGES).encode())}"


def _digest(recipe: bytes) -> str:
    return hashlib.sha256(recipe + platform.machine().encode()).hexdigest()[:10]


@contextmanager
def _exclusively(report: Report) -> Iterator[None]:
    """One build at a time on this machine; a second one waits, then finds the work done."""
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / "cluster-build.lock").open("w") as lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            report.say("another build is going on: waiting for it")
            flock(lock, LOCK_EX)
        yield


def make(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a directory and put it in its place by one rename, so that an interrupted build leaves no half cache."""
    if target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(".work-*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=".work-", dir=target.parent) as work:
        fill(Path(work))
        (Path(work) / "result").rename(target)


def _unpack_packages(work: Path, report: Report) -> None:
    report.say(f"downloading Debian's {', '.join(_PACKAGES)} (unpacked, not installed)")
    archive = debian.Archive(work)
    archive.update()
    names = archive.unpack(_PACKAGES, work / "result")
    (work / "result" / "versions").write_text("".join(f"{name}\n" for name in names))


def _build_kubernetes(work: Path, report: Report) -> None:
    debian.install_missing(_BUILD_PROGRAMS, report)
    report.say(f"downloading the source of Kubernetes {KUBERNETES_VERSION} and the Go compiler")
    archive = debian.Archive(work / "apt")
    archive.update()
    archive.unpack(_GO_PACKAGES, work / "go")
    source = work / "gopath/src/k8s.io/kubernetes"
    source.parent.mkdir(parents=True)
    version = archive.unpack_source("kubernetes", source)
    if KUBERNETES_VERSION not in version:
        raise ClusterError(
            f"Debian {debian.SUITE} has Kubernetes {version}, but {KUBERNETES_VERSION} is expected"
        )

    shutil.rmtree(source / "vendor" / _REFLECT2)
    shutil.copytree(work / "go/usr/share/gocode/src" / _REFLECT2, source / "vendor" / _REFLECT2)

    go_root = work / "go/usr/lib/go-1.19"
    environment = {**os.environ, **_GO_ENVIRONMENT, "GOROOT": str(go_root)}
    environment |= {"GOPATH": str(work / "gopath"), "GOCACHE": str(work / "go-cache")}
    result = work / "result"
    result.mkdir()

    def build(packages: Sequence[str], output: Path) -> None:
        go = str(go_root / "bin/go")
        listed = [go, "list", "-deps", *_COMPILER, *packages]
        needed = subprocess.run(
            listed, cwd=source, env=environment, capture_output=True, text=True, check=False
        )
        command = [go, "build", "-v", *_COMPILER, f"-ldflags={_LINKER}", "-o", str(output), *packages]
        _watch(command, source, environment, len(needed.stdout.splitlines()), report)

    report.say("generating the API server's OpenAPI definitions")
    generator = work / "openapi-gen"
    build(["./vendor/k8s.io/kube-openapi/cmd/openapi-gen"], generator)
    _generate_openapi(generator, source, environment)
    report.say(f"building {', '.join(COMMANDS)}: four minutes on two cores, once")
    build([f"./cmd/{command}" for command in COMMANDS], result)
    build([str(_PAUSE_SOURCE)], result / "pause")
    (result / "version").write_text(f"{version}\n")


def _generate_openapi(generator: Path, source: Path, environment: dict[str, str]) -> None:
    """Make the one file that is missing from the tree, as build/root/Makefile.generated_files does."""
    marked = []
    for top in ("vendor/k8s.io", "pkg", "cmd", "plugin"):
        for directory, _, files in os.walk(source / top, followlinks=True):
            if any(name in directory for name in ("/code-generator", "/sample-apiserver", "/_")):
                continue
            go_files = (Path(directory, file) for file in files if file.endswith(".go"))
            if any(b"+k8s:openapi-gen=" in file.read_bytes() for file in go_files):
                marked.append(f"k8s.io/kubernetes/{Path(directory).relative_to(source)}")
    command = [str(generator), "-i", ",".join(sorted(marked)), "-p", f"k8s.io/kubernetes/{_OPENAPI}"]
    command += ["-O", "zz_generated.openapi", "-h", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt"]
    command += ["-r", os.devnull]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"openapi-gen failed with exit status {done.returncode}:\n{done.stderr[-2000:]}")


def _watch(
    command: Sequence[str], cwd: Path, environment: dict[str, str], total: int, report: Report
) -> None:
    """Run a Go build and say every ten seconds how far it is (`-v` names each package that it compiles)."""
    last: list[str] = []
    compiled, told = 0, time.monotonic()
    with subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None  # noqa: S101 - what stderr=PIPE means, said to the type checker
        for line in process.stderr:
            last = [*last[-20:], line]
            compiled += 1
            if time.monotonic() - told > 10:
                told = time.monotonic()
                report.say(f"  {compiled} of {total} packages compiled")
    if process.returncode != 0:
        raise ClusterError(
            f"{' '.join(command[:2])} failed with exit status {process.returncode}:\n{''.join(last)}"
        )
