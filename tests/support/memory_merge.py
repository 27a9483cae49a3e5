"""How the in-memory API server merges what is applied and fills in what was left out.

Server-side apply (KEP-555) for one object: fields that a manager sends are set, fields it sent last time and
not now are removed, all others stay. Lists are taken as a whole, which is what it comes to when one manager
owns them.
"""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any

from pilothouse.plan.seen import Json


def timestamp(moment: datetime) -> str:
    """Return a moment as metav1.Time writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(live: Json, before: Json, now: Json) -> Json:
    """Return `live` after a manager that had applied `before` applies `now`."""
    out = copy.deepcopy(live)
    for field in before.keys() - now.keys():
        out.pop(field, None)
    for field, value in now.items():
        old = out.get(field)
        if isinstance(value, dict) and isinstance(old, dict):
            out[field] = merged(old, _object(before.get(field)), value)
        else:
            out[field] = copy.deepcopy(value)
    return out


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def defaulted(body: Json, number: int) -> Json:
    """Fill in, in place, the defaults of our kinds that people trip over; return `body`."""
    if body["kind"] == "Deployment":
        _fill(body["spec"], replicas=1, progressDeadlineSeconds=600, revisionHistoryLimit=10)
        rolling = {"maxSurge": "25%", "maxUnavailable": "25%"}
        _fill(body["spec"], strategy={"type": "RollingUpdate", "rollingUpdate": rolling})
        _default_pod(body["spec"]["template"]["spec"])
    elif body["kind"] == "Service":
        spec = body["spec"]
        _fill(
            spec,
            clusterIP=f"10.0.{number // 250}.{number % 250 + 1}",
            type="ClusterIP",
            sessionAffinity="None",
        )
        for port in spec.get("ports", ()):
            _fill(port, protocol="TCP", targetPort=port["port"])
    elif body["kind"] == "Job":
        _default_job(body)
    elif body["kind"] == "HorizontalPodAutoscaler":
        _default_autoscaler(body["spec"])
    return body


def _default_job(body: Json) -> None:
    spec, uid = body["spec"], body["metadata"]["uid"]
    _fill(spec, parallelism=1, completions=1, backoffLimit=6)
    _fill(spec, selector={"matchLabels": {"controller-uid": uid}})
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    labels |= {"controller-uid": uid, "job-name": body["metadata"]["name"]}
    _default_pod(spec["template"]["spec"])


def _default_autoscaler(spec: Json) -> None:
    utilization = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    _fill(spec, minReplicas=1, metrics=[{"type": "Resource", "resource": utilization}])
    # Kubernetes before 1.23 keeps these objects as autoscaling/v1, where the CPU's is a field and the others follow
    # from an annotation: read back, it is the last.
    spec["metrics"].sort(key=_is_cpu_utilization)


def _is_cpu_utilization(metric: Json) -> bool:
    resource = metric.get("resource", {})
    return bool(resource.get("name") == "cpu" and resource["target"]["type"] == "Utilization")


def _default_pod(spec: Json) -> None:
    _fill(spec, dnsPolicy="ClusterFirst", restartPolicy="Always", schedulerName="default-scheduler")
    _fill(spec, securityContext={}, terminationGracePeriodSeconds=30)
    for container in spec.get("containers", ()):
        _fill(container, imagePullPolicy="IfNotPresent", resources={})
        _fill(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
        for port in container.get("ports", ()):
            _fill(port, protocol="TCP")
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            if kind in container:
                _fill(
                    container[kind],
                    successThreshold=1,
                    timeoutSeconds=1,
                    periodSeconds=10,
                    failureThreshold=3,
                )
                if "httpGet" in container[kind]:
                    _fill(container[kind]["httpGet"], scheme="HTTP")


def _fill(target: Json, **values: Any) -> None:
    for field, value in values.items():
        target.setdefault(field, copy.deepcopy(value))
