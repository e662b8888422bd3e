# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The nodes that machines become in the RKE2 cluster: labels and taints as RKE2 and the cloud provider set them, drain
and version."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lab.kube import Client, Object, Refused
from lab.nodes import assembled

log = logging.getLogger(__name__)
NODES = "/api/v1/nodes"
POOL = "rke.cattle.io/rke-machine-pool-name"
CLUSTER = "rke.cattle.io/cluster-name"
ROLES = {
    "controlPlaneRole": "rke.cattle.io/control-plane-role",
    "etcdRole": "rke.cattle.io/etcd-role",
    "workerRole": "rke.cattle.io/worker-role",
}
UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
# what a kubelet may say of itself below kubernetes.io
ALLOWED = (
    "node.kubernetes.io/",
    "kubelet.kubernetes.io/",
    "topology.kubernetes.io/",
    "failure-domain.beta.kubernetes.io/",
)
ALLOWED_NAMES = {"kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os"}


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Kubernetes' own rule; no selector selects all machines."""
    for key, value in ((selector or {}).get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for entry in (selector or {}).get("matchExpressions") or []:
        has, operator = labels.get(entry["key"]), entry["operator"]
        inside = has in (entry.get("values") or [])
        good = {"In": inside, "NotIn": not inside, "Exists": has is not None, "DoesNotExist": has is None}
        if not good.get(operator, False):
            return False
    return True


def agent_config(config: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """RKE2's configuration of one machine: the global one, then what its labels select."""
    merged: dict[str, Any] = dict(config.get("machineGlobalConfig") or {})
    for entry in config.get("machineSelectorConfig") or []:
        if selects(entry.get("machineLabelSelector"), labels):
            for key, value in (entry.get("config") or {}).items():
                both = isinstance(value, list) and isinstance(merged.get(key), list)
                merged[key] = [*merged[key], *value] if both else value
    return merged


def node_labels(config: Mapping[str, Any]) -> dict[str, str]:
    given = config.get("node-label") or []
    words = [given] if isinstance(given, str) else given
    return {name: value for name, _, value in (str(word).partition("=") for word in words)}


def node_taints(config: Mapping[str, Any]) -> list[Object]:
    taints = []
    for word in config.get("node-taint") or []:
        left, _, effect = str(word).rpartition(":")
        name, _, value = left.partition("=")
        taints.append({"key": name, "effect": effect, **({"value": value} if value else {})})
    return taints


def refused_label(labels: Mapping[str, str]) -> str:
    """A label with which the kubelet would not start."""
    for name in labels:
        domain = name.partition("/")[0] if "/" in name else ""
        reserved = domain in {"kubernetes.io", "k8s.io"} or domain.endswith((".kubernetes.io", ".k8s.io"))
        if reserved and not name.startswith(ALLOWED) and name not in ALLOWED_NAMES:
            return name
    return ""


def build(
    machine: Object, pool: Mapping[str, Any], config: Mapping[str, Any], address: str, version: str, *, labelled: bool
) -> Object:
    """The node of a machine. `labelled` is whether its own labels arrive (sometimes they do not)."""
    meta = machine["metadata"]
    labels = {**{str(key): str(value) for key, value in (pool.get("labels") or {}).items()}}
    if labelled:
        labels |= node_labels(config)
    taints = [*(dict(taint) for taint in pool.get("taints") or []), *node_taints(config)]
    if config.get("cloud-provider-name") == "harvester":
        taints.append({"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"})
    return assembled(
        name=meta["name"],
        identity=meta["uid"],
        cluster=machine["spec"]["clusterName"],
        pool=str(pool["name"]),
        machine=meta["name"],
        address=address,
        number=int(address.rsplit(".", 1)[1]) - 1,
        version=version,
        control_plane=bool(pool.get("controlPlaneRole")),
        etcd=bool(pool.get("etcdRole")),
        worker=bool(pool.get("workerRole")),
        labels=labels,
        taints=taints,
        resources=resources(machine),
    )


def resources(machine: Object) -> dict[str, str]:
    annotations = machine["metadata"].get("annotations") or {}
    sizes = str(annotations.get("lab.cattle.io/size") or "4,8,60").split(",")
    return {"cpu": sizes[0], "memory": f"{sizes[1]}Gi", "ephemeral-storage": f"{sizes[2]}Gi", "pods": "110"}


def initialize(client: Client, node: Object) -> None:
    """What the cloud provider does with a node that it finds at Harvester."""
    taints = [taint for taint in node["spec"].get("taints") or [] if taint["key"] != UNINITIALIZED]
    labels = {"node.kubernetes.io/instance-type": "harvester", "topology.kubernetes.io/region": "harvester"}
    body = {"metadata": {"labels": labels}, "spec": {"taints": taints or None}}
    client.merge(f"{NODES}/{node['metadata']['name']}", body)


def cordon(client: Client, name: str, on: bool = True) -> None:
    client.merge(f"{NODES}/{name}", {"spec": {"unschedulable": True if on else None}})


def drained(client: Client, name: str, force: bool = False) -> bool:
    """Evict what must go; True when nothing of it is left. Budgets are the API server's to keep."""
    pods = client.request("GET", "/api/v1/pods", query={"fieldSelector": f"spec.nodeName={name}"})["items"]
    left = False
    for pod in pods:
        meta = pod["metadata"]
        owners = [owner["kind"] for owner in meta.get("ownerReferences") or [] if owner.get("controller")]
        done = pod["status"].get("phase") in {"Succeeded", "Failed"}
        if "DaemonSet" in owners or "Node" in owners or done:
            continue
        left = True
        if "deletionTimestamp" in meta:
            continue
        target = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        try:
            if force:
                client.delete(target)
            else:
                inner = {"name": meta["name"], "namespace": meta["namespace"]}
                body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": inner}
                client.request("POST", f"{target}/eviction", body)
        except Refused as error:
            if error.status not in {404, 429}:
                raise
            log.info("draining %s: %s", name, error)
    return not left


def set_version(client: Client, name: str, version: str) -> None:
    info = {"kubeletVersion": version, "kubeProxyVersion": version}
    client.merge(f"{NODES}/{name}/status", {"status": {"nodeInfo": info}})


def ready(node: Object | None) -> bool:
    if node is None or "deletionTimestamp" in node["metadata"]:
        return False
    found = (node.get("status") or {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in found)
