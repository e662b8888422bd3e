# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Let go of what a cluster's workloads hold outside of it, while those who can let go still run (private to this
collection).

In this order: addresses of load balancers; custom objects that wait for their operator (finalizers); namespaces with
claims, whose volumes Harvester's driver then deletes. What is left of a volume when its cluster has gone nobody knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ._kube_client import CRDS, ApiError, KubeClient

# Of RKE2, Rancher and the network: they go with the nodes.
_SYSTEM_GROUPS = ("cattle.io", "cilium.io", "k8s.cni.cncf.io", "cluster.x-k8s.io", "kwok.x-k8s.io")
_SYSTEM_SPACES = ("kube-", "cattle-", "fleet-", "cluster-fleet-")
_PAUSE = 1.0


@dataclass(frozen=True)
class Holder:
    """An object that somebody must let go of."""

    title: str
    uid: str


Found = dict[str, Holder]  # by path


def _holder(kind: str, meta: Mapping[str, Any]) -> Holder:
    name = f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"]
    return Holder(f"{kind} {name}", str(meta.get("uid") or ""))


def addresses(client: KubeClient) -> Found:
    found = {}
    for item in client.list_all("/api/v1/services")["items"]:
        meta = item["metadata"]
        if (item.get("spec") or {}).get("type") == "LoadBalancer":
            found[f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}"] = _holder("Service", meta)
    return found


def waiting_for_operators(client: KubeClient) -> Found:
    """Custom objects that somebody must let go of."""
    kinds = []
    for item in client.list_all(CRDS)["items"]:
        spec = item["spec"]
        if not spec["group"].endswith(_SYSTEM_GROUPS):
            version = next(entry["name"] for entry in spec["versions"] if entry.get("served"))
            kinds.append((spec["group"], version, spec["names"]["plural"], spec["names"]["kind"]))

    def objects(kind: tuple[str, str, str, str]) -> Found:
        group, version, plural, title = kind
        listed = client.get_or_none(f"/apis/{group}/{version}/{plural}") or {}
        found = {}
        for item in listed.get("items") or []:
            meta = item["metadata"]
            if meta.get("finalizers"):
                space = f"/namespaces/{meta['namespace']}" if meta.get("namespace") else ""
                found[f"/apis/{group}/{version}{space}/{plural}/{meta['name']}"] = _holder(title, meta)
        return found

    with ThreadPoolExecutor(8) as pool:
        return {path: holder for found in pool.map(objects, kinds) for path, holder in found.items()}


def spaces_with_claims(client: KubeClient) -> Found:
    """Whole namespaces, as for a claim alone its pod's owner would make another one; of the system's the claims."""
    spaces = {item["metadata"]["name"]: item["metadata"] for item in client.list_all("/api/v1/namespaces")["items"]}
    found = {}
    for item in client.list_all("/api/v1/persistentvolumeclaims")["items"]:
        meta = item["metadata"]
        space = meta["namespace"]
        if space.startswith(_SYSTEM_SPACES) or space in ("default", "local") or space not in spaces:
            path = f"/api/v1/namespaces/{space}/persistentvolumeclaims/{meta['name']}"
            found[path] = _holder("PersistentVolumeClaim", meta)
        else:
            found[f"/api/v1/namespaces/{space}"] = _holder("Namespace", spaces[space])
    return found


def volumes(client: KubeClient) -> Found:
    """Those that their driver deletes. Nobody else may: they are only waited for."""
    found = {}
    for item in client.list_all("/api/v1/persistentvolumes")["items"]:
        if (item.get("spec") or {}).get("persistentVolumeReclaimPolicy") == "Delete":
            path = f"/api/v1/persistentvolumes/{item['metadata']['name']}"
            found[path] = _holder("PersistentVolume", item["metadata"])
    return found


STEPS: Mapping[str, Callable[[KubeClient], Found]] = {
    "load balancers": addresses,
    "custom objects": waiting_for_operators,
    "namespaces": spaces_with_claims,
    "volumes": volumes,
}


def planned(client: KubeClient) -> dict[str, list[str]]:
    """What would go, step by step."""
    return {step: sorted(holder.title for holder in find(client).values()) for step, find in STEPS.items()}


def release(client: KubeClient, seconds: float) -> tuple[list[str], list[str]]:
    """Delete step by step; returns what went and what still holds on when time is up.

    What comes back as another object of the same name is not waited for: somebody in the cluster makes it anew for
    as long as he lives.
    """
    deadline = time.monotonic() + seconds
    asked: Found = {}
    for find in STEPS.values():
        while True:
            found = find(client)
            for path, holder in found.items():
                if path not in asked:
                    asked[path] = holder
                    if find is not volumes:
                        _delete(client, path)
            left = {path: holder for path, holder in found.items() if asked[path] == holder}
            if not left:
                break
            if time.monotonic() > deadline:
                gone = [holder.title for path, holder in asked.items() if path not in left]
                return sorted(gone), sorted(holder.title for holder in left.values())
            time.sleep(_PAUSE)
    return sorted(holder.title for holder in asked.values()), []


def _delete(client: KubeClient, path: str) -> None:
    try:
        client.delete(path)
    except ApiError as exc:
        # A namespace that is going already says so.
        if exc.status != 409:
            raise
