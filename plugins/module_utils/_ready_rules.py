# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""When an object of Kubernetes' own kinds is ready: one small function a kind (private to this collection)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Ready or not, in whose words, and whether waiting longer is in vain."""

    ready: bool
    reason: str = ""
    hopeless: bool = False


Rule = Callable[[Object], Verdict]
READY = Verdict(True)


def status(obj: Object) -> Mapping[str, Any]:
    found = obj.get("status")
    return found if isinstance(found, Mapping) else {}


def spec(obj: Object) -> Mapping[str, Any]:
    found = obj.get("spec")
    return found if isinstance(found, Mapping) else {}


def condition(obj: Object, kind: str) -> Mapping[str, Any] | None:
    for found in status(obj).get("conditions") or []:
        if found.get("type") == kind:
            return dict(found)
    return None


def told(found: Mapping[str, Any]) -> str:
    """What a condition says about itself."""
    return ": ".join(str(part).strip() for part in (found.get("reason"), found.get("message")) if part) or (
        f"{found.get('type')} is {found.get('status')}"
    )


def stale(obj: Object, observed: Any = None) -> bool:
    """Whether the status is about an older spec."""
    generation = obj["metadata"].get("generation")
    observed = status(obj).get("observedGeneration") if observed is None else observed
    return generation is not None and observed is not None and int(observed) < int(generation)


OUTDATED = Verdict(False, "the controller has not seen the newest change yet")


def by_condition(kind: str, *, hopeless: tuple[str, ...] = ()) -> Rule:
    """Ready when the condition is True for the current generation."""

    def rule(obj: Object) -> Verdict:
        found = condition(obj, kind)
        if found is None:
            return Verdict(False, f"has no condition {kind} yet")
        if stale(obj, found.get("observedGeneration")):
            return OUTDATED
        if found.get("status") == "True":
            return READY
        return Verdict(False, told(found), found.get("reason") in hopeless)

    return rule


def _count(obj: Object, name: str) -> int:
    return int(status(obj).get(name) or 0)


def deployment(obj: Object) -> Verdict:
    if _count(obj, "observedGeneration") < int(obj["metadata"].get("generation") or 0):
        return OUTDATED
    wanted = int(spec(obj).get("replicas", 1))
    progress = condition(obj, "Progressing") or {}
    if progress.get("status") == "False" and progress.get("reason") == "ProgressDeadlineExceeded":
        return Verdict(False, told(progress))
    if _count(obj, "updatedReplicas") < wanted:
        return Verdict(False, f"{_count(obj, 'updatedReplicas')} of {wanted} replicas are updated")
    if _count(obj, "replicas") > _count(obj, "updatedReplicas"):
        return Verdict(False, f"{_count(obj, 'replicas') - _count(obj, 'updatedReplicas')} old replicas still run")
    if _count(obj, "availableReplicas") < wanted:
        return Verdict(False, f"{_count(obj, 'availableReplicas')} of {wanted} replicas are available")
    return READY


def stateful_set(obj: Object) -> Verdict:
    if _count(obj, "observedGeneration") < int(obj["metadata"].get("generation") or 0):
        return OUTDATED
    wanted = int(spec(obj).get("replicas", 1))
    strategy = spec(obj).get("updateStrategy") or {}
    if _count(obj, "readyReplicas") < wanted:
        return Verdict(False, f"{_count(obj, 'readyReplicas')} of {wanted} replicas are ready")
    if strategy.get("type") == "OnDelete":
        # Pods of the old revision are replaced by whoever deletes them, not by the controller.
        return READY
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    due = max(0, wanted - partition)
    same = status(obj).get("currentRevision") == status(obj).get("updateRevision")
    if not same and _count(obj, "updatedReplicas") < due:
        return Verdict(False, f"{_count(obj, 'updatedReplicas')} of {due} replicas are updated")
    return READY


def daemon_set(obj: Object) -> Verdict:
    if _count(obj, "observedGeneration") < int(obj["metadata"].get("generation") or 0):
        return OUTDATED
    wanted = _count(obj, "desiredNumberScheduled")
    on_delete = (spec(obj).get("updateStrategy") or {}).get("type") == "OnDelete"
    if not on_delete and _count(obj, "updatedNumberScheduled") < wanted:
        return Verdict(False, f"{_count(obj, 'updatedNumberScheduled')} of {wanted} pods are updated")
    if _count(obj, "numberReady") < wanted:
        return Verdict(False, f"{_count(obj, 'numberReady')} of {wanted} pods are ready")
    return READY


def replica_set(obj: Object) -> Verdict:
    if _count(obj, "observedGeneration") < int(obj["metadata"].get("generation") or 0):
        return OUTDATED
    wanted = int(spec(obj).get("replicas", 1))
    if _count(obj, "readyReplicas") < wanted:
        return Verdict(False, f"{_count(obj, 'readyReplicas')} of {wanted} replicas are ready")
    return READY


def container_troubles(pod: Object) -> list[str]:
    """Why the containers of a pod do not run."""
    found = []
    for name in ("initContainerStatuses", "containerStatuses"):
        for entry in status(pod).get(name) or []:
            state = entry.get("state") or {}
            waiting, ended = state.get("waiting"), state.get("terminated")
            if waiting:
                found.append(f"container {entry['name']} waits: {told(waiting)}")
            elif ended and ended.get("exitCode"):
                found.append(f"container {entry['name']} ended with {ended['exitCode']}: {told(ended)}")
            elif not entry.get("ready") and name == "containerStatuses":
                found.append(f"container {entry['name']} runs but is not ready")
    return found


def pod(obj: Object) -> Verdict:
    phase = status(obj).get("phase", "Pending")
    if phase == "Succeeded":
        return READY
    if phase == "Failed":
        return Verdict(False, told({"type": "phase", "status": phase, **status(obj)}), True)
    ready = condition(obj, "Ready")
    if ready is not None and ready.get("status") == "True":
        return READY
    scheduled = condition(obj, "PodScheduled")
    if scheduled is not None and scheduled.get("status") == "False":
        return Verdict(False, told(scheduled))
    return Verdict(False, "; ".join(container_troubles(obj)) or f"is {phase}")


def job(obj: Object) -> Verdict:
    for kind, ready in (("Complete", True), ("Failed", False)):
        found = condition(obj, kind)
        if found is not None and found.get("status") == "True":
            return READY if ready else Verdict(False, told(found), True)
    if spec(obj).get("suspend"):
        return READY
    return Verdict(False, f"{_count(obj, 'active')} pods run, {_count(obj, 'failed')} have failed")


def persistent_volume_claim(obj: Object) -> Verdict:
    phase = status(obj).get("phase", "Pending")
    if phase == "Lost":
        return Verdict(False, "its volume is lost", True)
    return READY if phase == "Bound" else Verdict(False, f"is {phase}")


def established(obj: Object) -> Verdict:
    names = condition(obj, "NamesAccepted")
    if names is not None and names.get("status") == "False":
        return Verdict(False, told(names))
    return by_condition("Established")(obj)


def namespace(obj: Object) -> Verdict:
    phase = status(obj).get("phase")
    return READY if phase == "Active" else Verdict(False, f"is {phase or 'without a phase'}")


def service(obj: Object) -> Verdict:
    if spec(obj).get("type") != "LoadBalancer" or (status(obj).get("loadBalancer") or {}).get("ingress"):
        return READY
    return Verdict(False, "has no load balancer address yet")


def exists(obj: Object) -> Verdict:
    return READY


CORE: dict[tuple[str, str], Rule] = {
    ("", "Namespace"): namespace,
    ("", "Pod"): pod,
    ("", "PersistentVolumeClaim"): persistent_volume_claim,
    ("", "ReplicationController"): replica_set,
    ("", "Service"): service,
    ("apps", "Deployment"): deployment,
    ("apps", "StatefulSet"): stateful_set,
    ("apps", "DaemonSet"): daemon_set,
    ("apps", "ReplicaSet"): replica_set,
    ("batch", "Job"): job,
    ("batch", "CronJob"): exists,
    ("policy", "PodDisruptionBudget"): exists,
    ("autoscaling", "HorizontalPodAutoscaler"): exists,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): established,
    ("apiregistration.k8s.io", "APIService"): by_condition("Available"),
}
