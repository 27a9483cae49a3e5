"""Repositories of the Hugging Face hub: a whole one, a folder or a file of it, at one commit."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from pilothouse_runtime.digests import file_sha256
from pilothouse_runtime.engine.download import RetryableError, persist
from pilothouse_runtime.fetch.job import SECRET_FIELD, Job, check_count

TOKEN: Final = "HF_TOKEN"  # noqa: S105 - the name of a variable
ENDPOINT: Final = "HF_ENDPOINT"
_PUBLIC: Final = "https://huggingface.co"
_URI: Final = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<path>.*))?")
# Weights in other forms, which lie beside safetensors in many repositories, and make them several times larger.
_OTHER_WEIGHTS: Final = re.compile(
    r"(?i)(^|/)(onnx|openvino|coreml|flax|original)/|[.](bin|h5|msgpack|ot|pth?|ckpt|onnx|gguf|tflite)$"
)


def fetch_hub(job: Job) -> str:
    """Fetch what hf://owner/name[@revision][/path] names, and return "". Raises LoadError."""
    parts = _URI.fullmatch(job.uri)
    if parts is None:
        raise job.refuse("hf:// takes owner and name, as in hf://sentence-transformers/all-MiniLM-L6-v2@main")
    repo, path = parts["repo"], unquote(parts["path"] or "")
    token, endpoint = job.environ.get(TOKEN, "").strip(), job.environ.get(ENDPOINT) or _PUBLIC
    info = _info(
        job, HfApi(endpoint=endpoint, token=token or False), repo, unquote(parts["revision"] or "main")
    )
    wanted = _wanted(job, info.siblings or [], path)
    job.expect(sibling.size or 0 for sibling in wanted)
    whole = path.rstrip("/") or repo
    for sibling in wanted:
        name = whole.rpartition("/")[2]
        if sibling.rfilename != path:
            name += "/" + sibling.rfilename.removeprefix(path)
        target = job.place(name)
        url = hf_hub_url(repo, sibling.rfilename, revision=info.sha, endpoint=endpoint)
        # A token is sent to the hub, and not to where it redirects large files to.
        job.download(url, target, {"Authorization": f"Bearer {token}"} if token else {})
        if sibling.lfs and file_sha256(target) != sibling.lfs.sha256:
            raise job.refuse(
                f"{sibling.rfilename} came damaged: its sha256 is not the hub's", permanent=False
            )
    return ""


def _info(job: Job, api: HfApi, repo: str, revision: str) -> Any:
    """Return what the hub tells of a repository: its files, and the commit that a name stands for now."""

    def attempt() -> Any:
        try:
            return api.model_info(
                repo, revision=revision, files_metadata=True, timeout=job.policy.read_timeout
            )
        except GatedRepoError:
            told = f"the repository is gated: {SECRET_FIELD} must name a Secret with {TOKEN} of somebody who was let in"
            raise job.refuse(told) from None
        except RevisionNotFoundError:
            raise job.refuse(f"the repository has no revision {revision!r}") from None
        except RepositoryNotFoundError:
            told = f"there is no such repository, or it is private and {SECRET_FIELD} names no Secret with its {TOKEN}"
            raise job.refuse(told) from None
        except HFValidationError:
            raise job.refuse(f"{repo!r} is no name of a repository") from None
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            told = f"the hub answered {status}"
            if status >= 500 or status in (0, 408, 429):
                raise RetryableError(told) from None
            raise job.refuse(told) from None
        except Exception as error:  # of whichever HTTP library this release of huggingface_hub has
            raise RetryableError(f"the hub cannot be reached: {type(error).__name__}") from None

    job.say(f"asking for {job.uri}")
    return persist(attempt, lambda: 0, job.uri, job.policy, job.say)


def _wanted(job: Job, siblings: list[Any], path: str) -> list[Any]:
    """Return the files to fetch: the one of that path, or those below it."""
    if path and not path.endswith("/"):
        found = [sibling for sibling in siblings if sibling.rfilename == path]
        if not found:
            raise job.refuse(
                f"the repository has no file {path!r}; for all that is in a folder, end the uri with /"
            )
        return found
    below = [sibling for sibling in siblings if sibling.rfilename.startswith(path)]
    if any(sibling.rfilename.endswith(".safetensors") for sibling in below):
        below = [s for s in below if not _OTHER_WEIGHTS.search(s.rfilename.removeprefix(path))]
    check_count(job, len(below))
    return below
