"""The names, labels and limits that the API is made of."""

from __future__ import annotations

from typing import Final

GROUP: Final = "pilothouse.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "ModelDeployment"
LIST_KIND: Final = "ModelDeploymentList"
PLURAL: Final = "modeldeployments"
SINGULAR: Final = "modeldeployment"
SHORT_NAME: Final = "mdep"
CATEGORY: Final = "all"

LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "pilothouse"
# Keys that begin with this are ours, on whatever object.
LABEL_PREFIX: Final = f"{GROUP}/"
LABEL_MODEL: Final = f"{LABEL_PREFIX}model"
LABEL_REVISION: Final = f"{LABEL_PREFIX}revision"

# On pods that requests may be mixed to; taken off ("false") a pod of a revision that has more than its share.
LABEL_SERVING: Final = f"{LABEL_PREFIX}serving"
SERVING: Final = "true"
NOT_SERVING: Final = "false"
# On the pods of a validation's Job, with the revision's name: no Service selects them.
LABEL_VALIDATION: Final = f"{LABEL_PREFIX}validates"
PREVIEW_SUFFIX: Final = "-preview"

HASH_LENGTH: Final = 10
# A revision's name is also a Service's name and a label's value, which end at 63 characters.
NAME_MAX_LENGTH: Final = 63 - 1 - HASH_LENGTH
# A Service's name is a DNS-1035 label (RFC 1035, section 2.3.1): unlike most names it begins with a letter.
NAME_PATTERN: Final = "^[a-z]([-a-z0-9]*[a-z0-9])?$"


def revision_name(name: str, revision_hash: str) -> str:
    """Return the name of the revision of ModelDeployment `name` whose content has this hash."""
    return f"{name}-{revision_hash}"


def child_labels(model: str, revision: str | None) -> dict[str, str]:
    """Return the labels of a child of ModelDeployment `model`; `revision` is None for what all of them share."""
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_MODEL: model}
    if revision is not None:
        labels[LABEL_REVISION] = revision
    return labels


def model_selector(model: str) -> dict[str, str]:
    """Return the labels by which all children and pods of ModelDeployment `model` are found."""
    return child_labels(model, None)


def pod_selector(model: str, revision: str) -> dict[str, str]:
    """Return the labels by which the pods of one revision are found."""
    return {LABEL_MODEL: model, LABEL_REVISION: revision}


def mixed_selector(model: str) -> dict[str, str]:
    """Return the labels by which the pods of all revisions that share the requests are found."""
    return {LABEL_MODEL: model, LABEL_SERVING: SERVING}


def command_annotation(command: str) -> str:
    """Return the annotation by which a command is given."""
    return f"{LABEL_PREFIX}{command}"


def selector_text(labels: dict[str, str]) -> str:
    """Return `labels` as the API server's label selector syntax wants them, in a stable order."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
