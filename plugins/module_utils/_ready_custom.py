# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""When an object of the platform's custom kinds is ready (private to this collection)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._kube_discovery import group_of
from ._ready_rules import (
    CORE,
    OUTDATED,
    READY,
    Object,
    Rule,
    Verdict,
    by_condition,
    condition,
    exists,
    spec,
    stale,
    status,
    told,
)

Reference = tuple[str, str, str, str]


def route(obj: Object) -> Verdict:
    """Every parent that the route names has taken it, and its backends exist."""
    answers = status(obj).get("parents") or []
    for parent in spec(obj).get("parentRefs") or []:
        mine = [
            answer
            for answer in answers
            if all(
                (answer.get("parentRef") or {}).get(key, fallback) == parent.get(key, fallback)
                for key, fallback in (("name", None), ("sectionName", None), ("port", None))
            )
        ]
        where = f"{parent.get('name')}" + (f" ({parent['sectionName']})" if parent.get("sectionName") else "")
        if not mine:
            return Verdict(False, f"Gateway {where} has not answered yet")
        for answer in mine:
            for kind in ("Accepted", "ResolvedRefs"):
                found = condition({"status": answer}, kind)
                if found is None:
                    return Verdict(False, f"Gateway {where} has no condition {kind} yet")
                if stale(obj, found.get("observedGeneration")):
                    return OUTDATED
                if found.get("status") != "True":
                    return Verdict(False, f"Gateway {where}: {told(found)}")
    return READY


def cnpg_cluster(obj: Object) -> Verdict:
    phase = status(obj).get("phase")
    wanted, ready = int(spec(obj).get("instances") or 1), int(status(obj).get("readyInstances") or 0)
    if phase != "Cluster in healthy state":
        why = ": ".join(str(part) for part in (phase, status(obj).get("phaseReason")) if part)
        return Verdict(False, why or "has no phase yet")
    if ready < wanted:
        return Verdict(False, f"{ready} of {wanted} instances are ready")
    return by_condition("Ready")(obj)


def by_phase(*good: str, bad: tuple[str, ...] = (), field: str = "phase") -> Rule:
    def rule(obj: Object) -> Verdict:
        phase = status(obj).get(field)
        if phase in good:
            return READY
        why = ": ".join(str(part) for part in (phase, status(obj).get("reason"), status(obj).get("error")) if part)
        return Verdict(False, why or f"has no {field} yet", phase in bad)

    return rule


def cnpg_database(obj: Object) -> Verdict:
    if stale(obj):
        return OUTDATED
    if status(obj).get("applied") is True:
        return READY
    return Verdict(False, str(status(obj).get("message") or "is not applied yet"))


def cnpg_pooler(obj: Object) -> Verdict:
    wanted, ready = int(spec(obj).get("instances") or 1), int(status(obj).get("instances") or 0)
    return READY if ready >= wanted else Verdict(False, f"{ready} of {wanted} instances run")


def redis_replication(obj: Object) -> Verdict:
    return READY if status(obj).get("masterNode") else Verdict(False, "has no master yet")


def argo_application(obj: Object) -> Verdict:
    sync, health = status(obj).get("sync") or {}, status(obj).get("health") or {}
    operation = status(obj).get("operationState") or {}
    if sync.get("status") == "Synced" and health.get("status") == "Healthy":
        return READY
    why = f"sync is {sync.get('status', 'unknown')}, health is {health.get('status', 'unknown')}"
    detail = health.get("message") or operation.get("message")
    return Verdict(False, f"{why}: {detail}" if detail else why)


def machine_image(obj: Object) -> Verdict:
    url = spec(obj).get("url", "")
    if status(obj).get("appliedUrl", url) != url:
        return Verdict(False, "Harvester has not begun with its new URL yet")
    imported = condition(obj, "Imported")
    if imported is not None and imported.get("status") == "True" and int(status(obj).get("progress") or 0) == 100:
        return READY
    if imported is not None and imported.get("status") == "False":
        # Harvester has tried as often as it will; as long as it tries, the condition is Unknown.
        mend = "correct harvester_vm_image_url, or delete the image on Harvester, then run again"
        return Verdict(False, f"{told(imported)}; Harvester does not try this again by itself: {mend}", True)
    return Verdict(False, f"{int(status(obj).get('progress') or 0)} % are imported")


def virtual_machine(obj: Object) -> Verdict:
    shown = status(obj).get("printableStatus", "without a status")
    if spec(obj).get("runStrategy") == "Halted" or spec(obj).get("running") is False:
        return READY if shown == "Stopped" else Verdict(False, f"is {shown}")
    if stale(obj):
        return OUTDATED
    if status(obj).get("ready") is True:
        return READY
    found = condition(obj, "Ready") or {}
    return Verdict(False, f"is {shown}" + (f" ({told(found)})" if found else ""))


def rancher_cluster(obj: Object) -> Verdict:
    if stale(obj):
        return OUTDATED
    for kind in ("Stalled", "Provisioned", "Updated", "Ready"):
        found = condition(obj, kind)
        if kind == "Stalled":
            if found is not None and found.get("status") == "True":
                return Verdict(False, told(found))
        elif found is not None and found.get("status") != "True":
            return Verdict(False, told(found))
    return READY if status(obj).get("ready") is True else Verdict(False, "is not ready yet")


def machine(obj: Object) -> Verdict:
    phase = status(obj).get("phase", "without a phase")
    if phase == "Running" and status(obj).get("nodeRef"):
        return READY
    why = status(obj).get("failureMessage") or next(
        (told(found) for found in status(obj).get("conditions") or [] if found.get("status") == "False"), ""
    )
    return Verdict(False, f"is {phase}" + (f": {why}" if why else ""), phase == "Failed")


def helm_chart(obj: Object) -> Verdict:
    failed = condition(obj, "Failed")
    if failed is not None and failed.get("status") == "True":
        return Verdict(False, told(failed))
    return READY if status(obj).get("jobName") else Verdict(False, "its job has not been made yet")


def address_pool(obj: Object) -> Verdict:
    conflict = condition(obj, "cilium.io/PoolConflict")
    if conflict is not None and conflict.get("status") == "True":
        return Verdict(False, told(conflict))
    return READY


def snapshot(obj: Object) -> Verdict:
    if status(obj).get("readyToUse") is True:
        return READY
    return Verdict(False, str((status(obj).get("error") or {}).get("message") or "is not ready to use yet"))


def generic(obj: Object) -> Verdict:
    """Kinds without a rule: there is enough, unless they say themselves that they are not Ready."""
    return by_condition("Ready")(obj) if condition(obj, "Ready") is not None else READY


_READY = by_condition("Ready")
RULES: dict[tuple[str, str], Rule] = {
    **CORE,
    ("cert-manager.io", "Issuer"): _READY,
    ("cert-manager.io", "ClusterIssuer"): _READY,
    ("cert-manager.io", "Certificate"): _READY,
    ("cert-manager.io", "CertificateRequest"): by_condition("Ready", hopeless=("Denied", "Failed")),
    ("gateway.networking.k8s.io", "GatewayClass"): by_condition("Accepted"),
    ("gateway.networking.k8s.io", "Gateway"): by_condition("Programmed"),
    **{("gateway.networking.k8s.io", kind): route for kind in ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute")},
    ("postgresql.cnpg.io", "Cluster"): cnpg_cluster,
    ("postgresql.cnpg.io", "Backup"): by_phase("completed", bad=("failed",)),
    ("postgresql.cnpg.io", "Database"): cnpg_database,
    ("postgresql.cnpg.io", "Pooler"): cnpg_pooler,
    ("postgresql.cnpg.io", "ScheduledBackup"): exists,
    ("redis.redis.opstreelabs.in", "Redis"): exists,
    ("redis.redis.opstreelabs.in", "RedisReplication"): redis_replication,
    ("redis.redis.opstreelabs.in", "RedisSentinel"): exists,
    ("redis.redis.opstreelabs.in", "RedisCluster"): by_phase("Ready", field="state"),
    **{
        ("k8s.mariadb.com", kind): _READY
        for kind in ("MariaDB", "MaxScale", "Database", "User", "Grant", "Connection", "ExternalMariaDB")
    },
    ("k8s.mariadb.com", "Backup"): by_condition("Complete"),
    ("k8s.mariadb.com", "PhysicalBackup"): by_condition("Complete"),
    ("k8s.mariadb.com", "Restore"): by_condition("Complete"),
    ("argoproj.io", "Application"): argo_application,
    ("external-secrets.io", "SecretStore"): _READY,
    ("external-secrets.io", "ClusterSecretStore"): _READY,
    ("external-secrets.io", "ExternalSecret"): _READY,
    ("harvesterhci.io", "VirtualMachineImage"): machine_image,
    ("kubevirt.io", "VirtualMachine"): virtual_machine,
    ("kubevirt.io", "VirtualMachineInstance"): by_condition("Ready"),
    ("cdi.kubevirt.io", "DataVolume"): by_phase("Succeeded", bad=("Failed",)),
    ("snapshot.storage.k8s.io", "VolumeSnapshot"): snapshot,
    ("provisioning.cattle.io", "Cluster"): rancher_cluster,
    ("cluster.x-k8s.io", "Machine"): machine,
    ("helm.cattle.io", "HelmChart"): helm_chart,
    ("helm.cattle.io", "HelmChartConfig"): exists,
    ("cilium.io", "CiliumLoadBalancerIPPool"): address_pool,
}


def _workload(obj: Object, suffix: str = "") -> list[Reference]:
    meta = obj["metadata"]
    return [("apps/v1", "StatefulSet", str(meta["namespace"]), f"{meta['name']}{suffix}")]


def _job(obj: Object) -> list[Reference]:
    name = status(obj).get("jobName")
    namespace = str(obj["metadata"]["namespace"])
    return [("batch/v1", "Job", namespace, str(name))] if name else []


# Kinds whose own status says too little: what must be ready beside them.
COMPANIONS: dict[tuple[str, str], Callable[[Object], list[Reference]]] = {
    ("redis.redis.opstreelabs.in", "Redis"): _workload,
    ("redis.redis.opstreelabs.in", "RedisReplication"): _workload,
    ("redis.redis.opstreelabs.in", "RedisSentinel"): lambda obj: _workload(obj, "-sentinel"),
    ("helm.cattle.io", "HelmChart"): _job,
}


def judge(obj: Object, late_binding: frozenset[Any] = frozenset()) -> Verdict:
    """Whether the object is ready by the rule of its kind.

    ``late_binding`` are the storage classes that bind a claim only when a pod wants it.
    """
    if obj["metadata"].get("deletionTimestamp"):
        return Verdict(False, "is being deleted")
    key = (group_of(obj["apiVersion"]), obj["kind"])
    if key == ("", "PersistentVolumeClaim") and spec(obj).get("storageClassName") in late_binding:
        notes = obj["metadata"].get("annotations") or {}
        if status(obj).get("phase") == "Pending" and not notes.get("volume.kubernetes.io/selected-node"):
            return READY
    return RULES.get(key, generic)(obj)
