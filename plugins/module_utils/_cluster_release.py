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

from ._kube_client import ApiError, KubeClient

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# Of RKE2, Rancher and the network: they go with the nodes.
_SYSTEM_GROUPS = ("cattle.io", "cilium.io", "k8s.cni.cncf.io", "cluster.x-k8s.io", "kwok.x-k8s.io")
_SYSTEM_SPACES = ("kube-", "cattle-", "fleet-", "default", "local", "cluster-fleet-")
_PAUSE = 1.0
Found = dict[str, str]  # path of an object: what to call it


def addresses(client: KubeClient) -> Found:
    items = client.list_all("/api/v1/services")["items"]
    found = {}
    for item in items:
        meta = item["metadata"]
        if (item.get("spec") or {}).get("type") == "LoadBalancer":
            path = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}"
            found[path] = f"Service {meta['namespace']}/{meta['name']}"
    return found


def waiting_for_operators(client: KubeClient) -> Found:
    """Custom objects that somebody must let go of."""
    kinds = []
    for item in client.list_all(_CRDS)["items"]:
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
                name = f"{meta['namespace']}/{meta['name']}" if space else meta["name"]
                found[f"/apis/{group}/{version}{space}/{plural}/{meta['name']}"] = f"{title} {name}"
        return found

    with ThreadPoolExecutor(8) as pool:
        return {path: title for found in pool.map(objects, kinds) for path, title in found.items()}


def spaces_with_claims(client: KubeClient) -> Found:
    """Whole namespaces, as for a claim alone its pod's owner would make another one; of the system's the claims."""
    found = {}
    for item in client.list_all("/api/v1/persistentvolumeclaims")["items"]:
        space, name = item["metadata"]["namespace"], item["metadata"]["name"]
        if space.startswith(_SYSTEM_SPACES):
            found[f"/api/v1/namespaces/{space}/persistentvolumeclaims/{name}"] = f"PersistentVolumeClaim {space}/{name}"
        else:
            found[f"/api/v1/namespaces/{space}"] = f"Namespace {space}"
    return found


def volumes(client: KubeClient) -> Found:
    """Those that their driver deletes. Nobody else may: they are only waited for."""
    found = {}
    for item in client.list_all("/api/v1/persistentvolumes")["items"]:
        if (item.get("spec") or {}).get("persistentVolumeReclaimPolicy") == "Delete":
            found[f"/api/v1/persistentvolumes/{item['metadata']['name']}"] = (
                f"PersistentVolume {item['metadata']['name']}"
            )
    return found


STEPS: Mapping[str, Callable[[KubeClient], Found]] = {
    "load balancers": addresses,
    "custom objects": waiting_for_operators,
    "namespaces": spaces_with_claims,
    "volumes": volumes,
}


def planned(client: KubeClient) -> dict[str, list[str]]:
    """What would go, step by step."""
    return {step: sorted(find(client).values()) for step, find in STEPS.items()}


def release(client: KubeClient, seconds: float) -> tuple[list[str], list[str]]:
    """Delete step by step; returns what went and what still holds on when time is up."""
    deadline = time.monotonic() + seconds
    asked: Found = {}
    for find in STEPS.values():
        while left := find(client):
            for path, title in left.items():
                if path not in asked:
                    asked[path] = title
                    _delete(client, path, find)
            if time.monotonic() > deadline:
                gone = [title for path, title in asked.items() if path not in left]
                return sorted(gone), sorted(left.values())
            time.sleep(_PAUSE)
    return sorted(asked.values()), []


def _delete(client: KubeClient, path: str, find: Callable[[KubeClient], Found]) -> None:
    if find is volumes:
        return
    try:
        client.delete(path)
    except ApiError as exc:
        # A namespace that is going already says so.
        if exc.status != 409:
            raise
