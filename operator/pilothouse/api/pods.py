"""The parts of core/v1 PodSpec that a ModelDeployment passes on, spelled as Kubernetes spells them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from pilothouse.api.names import LABEL_MANAGED_BY, LABEL_PREFIX
from pilothouse.api.quantities import Quantity, amount
from pilothouse.api.rules import Rule, SpecModel, matches
from pilothouse_runtime.contract import ENV_PREFIX

# apimachinery, pkg/util/validation: label values, and qualified names as the keys of labels and annotations are.
LABEL_VALUE_PATTERN = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
_QUALIFIED_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$"
SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
ENV_NAME_PATTERN = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"

LabelValue = Annotated[str, Field(pattern=LABEL_VALUE_PATTERN, max_length=63)]
ObjectName = Annotated[str, Field(pattern=SUBDOMAIN_PATTERN, max_length=253)]
Labels = Annotated[dict[str, LabelValue], Field(max_length=32)]
Annotations = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32)]

# Kubernetes' own schema of affinity alone is larger than ours as a whole; the API server checks it in the Deployment.
Affinity = Annotated[
    dict[Literal["nodeAffinity", "podAffinity", "podAntiAffinity"], dict[str, Any]],
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                kind: {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity")
            },
        }
    ),
]


def keys_rule(field: str, attribute: str, *, reserved: bool) -> tuple[Rule, ...]:
    """Return the rules for the keys of a map of labels or annotations: well formed and, where `reserved`, not ours."""
    well_formed = Rule(
        field,
        'has a malformed key; keys are names such as "team" or "example.com/team"',
        lambda self: all(matches(_QUALIFIED_NAME, key) for key in getattr(self, attribute)),
        f"!has(self.{field}) || self.{field}.all(k, k.matches('{_QUALIFIED_NAME}'))",
    )
    ours = Rule(
        field,
        f'has a reserved key; keys that begin with "{LABEL_PREFIX}" and "{LABEL_MANAGED_BY}" belong to the operator',
        lambda self: (
            not any(k.startswith(LABEL_PREFIX) or k == LABEL_MANAGED_BY for k in getattr(self, attribute))
        ),
        f"!has(self.{field}) || "
        f"!self.{field}.exists(k, k.startsWith('{LABEL_PREFIX}') || k == '{LABEL_MANAGED_BY}')",
    )
    return (well_formed, ours) if reserved else (well_formed,)


class KeyRef(SpecModel):
    """A key of a ConfigMap or Secret in the same namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap or Secret.")
    key: str = Field(min_length=1, max_length=253, description="Key in it.")
    optional: bool | None = Field(
        default=None, description="Whether pods may start without the object or the key. Default: false."
    )


class FieldRef(SpecModel):
    """A field of the pod."""

    api_version: str | None = Field(
        default=None, max_length=63, description="Version that fieldPath is written against. Default: v1."
    )
    field_path: str = Field(min_length=1, max_length=253, description="Path, such as status.podIP.")


class ResourceFieldRef(SpecModel):
    """A request or limit of a container."""

    container_name: str | None = Field(
        default=None, max_length=63, description="Name of the container. Default: this one."
    )
    resource: str = Field(min_length=1, max_length=253, description="Resource, such as limits.cpu.")
    divisor: Quantity | None = Field(default=None, description="Unit to count in. Default: 1.")


_SOURCES = {
    "configMapKeyRef": "config_map_key_ref",
    "secretKeyRef": "secret_key_ref",
    "fieldRef": "field_ref",
    "resourceFieldRef": "resource_field_ref",
}


class EnvVarSource(SpecModel):
    """Where the value of an environment variable comes from."""

    config_map_key_ref: KeyRef | None = Field(default=None, description="A key of a ConfigMap.")
    secret_key_ref: KeyRef | None = Field(default=None, description="A key of a Secret.")
    field_ref: FieldRef | None = Field(default=None, description="A field of the pod.")
    resource_field_ref: ResourceFieldRef | None = Field(
        default=None, description="A request or limit of the container."
    )

    rules = (
        Rule(
            "",
            f"must name exactly one source: {', '.join(_SOURCES)}",
            lambda self: sum(getattr(self, source) is not None for source in _SOURCES.values()) == 1,
            f"[{', '.join(f'has(self.{source})' for source in _SOURCES)}].exists_one(present, present)",
        ),
    )


class EnvVar(SpecModel):
    """An environment variable of the serving container."""

    name: str = Field(
        pattern=ENV_NAME_PATTERN,
        max_length=253,
        description=f"Name of the variable. Names that begin with {ENV_PREFIX} belong to the operator.",
    )
    value: str | None = Field(default=None, max_length=32768, description="The value, as text.")
    value_from: EnvVarSource | None = Field(
        default=None, description="Source of the value: a ConfigMap, a Secret, the pod or its resources."
    )

    rules = (
        Rule(
            "name",
            f"is reserved: names that begin with {ENV_PREFIX} belong to the operator; choose another",
            lambda self: not self.name.startswith(ENV_PREFIX),
            f"!self.name.startsWith('{ENV_PREFIX}')",
        ),
        Rule(
            "value",
            "and valueFrom: give exactly one of the two",
            lambda self: (self.value is None) != (self.value_from is None),
            "has(self.value) != has(self.valueFrom)",
        ),
    )


class ResourceRequirements(SpecModel):
    """What each pod asks of its node, as in core/v1."""

    requests: dict[str, Quantity] = Field(
        default_factory=dict,
        max_length=32,
        description='What is set aside for each pod, such as {cpu: "1", memory: 1Gi}.',
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict,
        max_length=32,
        description="The most each pod may use, such as {memory: 2Gi, nvidia.com/gpu: 1}.",
    )

    rules = (
        Rule(
            "requests",
            "must not be above limits of the same name; lower the request or raise the limit",
            lambda self: all(
                amount(asked) <= amount(self.limits[name])
                for name, asked in self.requests.items()
                if name in self.limits
            ),
            # CEL's quantity() came with Kubernetes 1.29: a server from 1.25 on would refuse the whole CRD.
            None,
        ),
    )


class TolerationOperator(StrEnum):
    """How a toleration compares with a taint."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(SpecModel):
    """A taint of nodes that the pods put up with, as in core/v1."""

    key: str | None = Field(
        default=None, max_length=317, description="Key of the taint. Without it: all taints."
    )
    operator: TolerationOperator | None = Field(
        default=None, description="How value is compared. Default: Equal."
    )
    value: LabelValue | None = Field(default=None, description="Value of the taint, for Equal.")
    effect: TaintEffect | None = Field(
        default=None, description="Effect of the taint. Without it: all effects."
    )
    toleration_seconds: int | None = Field(
        default=None,
        description="For NoExecute: how long a pod stays on a node that becomes tainted. Without it: for ever.",
    )

    rules = (
        Rule(
            "value",
            "must be left out when operator is Exists",
            lambda self: self.operator is not TolerationOperator.EXISTS or not self.value,
            "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
        ),
        Rule(
            "operator",
            "must be Exists when key is left out",
            lambda self: bool(self.key) or self.operator is TolerationOperator.EXISTS,
            "has(self.key) && self.key != '' || has(self.operator) && self.operator == 'Exists'",
        ),
        Rule(
            "tolerationSeconds",
            "works for effect NoExecute only; set that effect or leave it out",
            lambda self: self.toleration_seconds is None or self.effect is TaintEffect.NO_EXECUTE,
            "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
        ),
    )


class LocalObjectReference(SpecModel):
    """An object of the same namespace, by name."""

    name: ObjectName = Field(description="Name of the object.")
