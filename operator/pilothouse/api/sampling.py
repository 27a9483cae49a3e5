"""Which requests are kept, with their answers, and where."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from pilothouse.api.pods import SUBDOMAIN_PATTERN
from pilothouse.api.rollout import AT_MOST_ALL, Percentage
from pilothouse.api.rules import Rule, SpecModel, matches, unfilled

SAMPLES_URI_PATTERN: Final = r"^$|^(s3|gs|az)://[^ \t\r\n]+$"
_PREFIX: Final = "^(s3|gs|az)://[a-z0-9][-a-z0-9._]*/([^?#]*/)?$"
_UPWARDS: Final = "/[.][.]/"
_MOST_IN_MEMORY: Final = 64  # 2^20 bytes

_HAS_URI: Final = "has(self.uri) && self.uri != ''"


class Sampling(SpecModel):
    """Which requests are kept, with their answers, and where."""

    rate: Percentage = Field(description="Share of the requests that are kept, such as 1%, at most 100%.")
    claim: str = Field(
        default="",
        pattern=f"^$|{SUBDOMAIN_PATTERN}",
        max_length=253,
        description="PersistentVolumeClaim that they are written to, as JSON lines. Either this or a uri.",
        json_schema_extra=unfilled,
    )
    uri: str = Field(
        default="",
        pattern=SAMPLES_URI_PATTERN,
        max_length=1024,
        description="Where in a store of objects they are written to, as JSON lines, one object a minute: "
        "s3://bucket/prefix/, gs://bucket/prefix/ or az://container/prefix/. Either this or a claim.",
        json_schema_extra=unfilled,
    )
    secret_name: str = Field(
        default="",
        pattern=f"^$|{SUBDOMAIN_PATTERN}",
        max_length=253,
        description="Secret of the same namespace with credentials that may write to the uri, and do nothing else: its "
        "keys are environment variables of the container that serves. Default: none.",
        json_schema_extra=unfilled,
    )
    max_per_minute: int = Field(
        default=60,
        ge=1,
        le=6000,
        description="The most that a pod keeps in a minute. Default: 60.",
        json_schema_extra=unfilled,
    )
    max_megabytes: int = Field(
        default=64,
        ge=1,
        le=102400,
        description="The most that the files of a pod on a claim hold together, or an object at the uri (at most 64), "
        "in 2^20 bytes. Default: 64.",
        json_schema_extra=unfilled,
    )

    rules = (
        Rule(
            "rate",
            "must be more than 0% and at most 100%",
            lambda self: matches(AT_MOST_ALL, self.rate) and matches("[1-9]", self.rate),
            f"self.rate.matches('{AT_MOST_ALL}') && self.rate.matches('[1-9]')",
        ),
        Rule(
            "claim",
            "or uri must say where samples are kept, and not both; name one of them",
            lambda self: bool(self.claim) != bool(self.uri),
            f"(has(self.claim) && self.claim != '') != ({_HAS_URI})",
        ),
        Rule(
            "uri",
            "must name a bucket (container) and a prefix that ends with /, as in s3://samples/digits/, without ? or #",
            lambda self: not self.uri or matches(_PREFIX, self.uri),
            f"!has(self.uri) || self.uri == '' || self.uri.matches('{_PREFIX}')",
        ),
        Rule(
            "uri",
            'must not go upwards with ".."; write the prefix out',
            lambda self: not matches(_UPWARDS, self.uri),
            f"!has(self.uri) || !self.uri.matches('{_UPWARDS}')",
        ),
        Rule(
            "secretName",
            "is for a uri; a claim needs no credentials: take it away",
            lambda self: not self.secret_name or bool(self.uri),
            f"!has(self.secretName) || self.secretName == '' || {_HAS_URI}",
        ),
        Rule(
            "maxMegabytes",
            f"must be at most {_MOST_IN_MEMORY} with a uri: an object is in the pod's memory until it is written",
            lambda self: not self.uri or self.max_megabytes <= _MOST_IN_MEMORY,
            f"!(has(self.uri) && self.uri != '') || !has(self.maxMegabytes) || self.maxMegabytes <= {_MOST_IN_MEMORY}",
        ),
    )
