# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The reference cluster's nodes, as Rancher and RKE2 would have made them. A later issue makes them through Rancher."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.kube import Object
from lab.settings import CLUSTER_NAME

VERSION = "v1.34.8+rke2r2"
NAMES = "bcdfghjklmnpqrstvwxz2456789"  # the letters Kubernetes makes names of


@dataclass(frozen=True)
class Pool:
    name: str
    count: int
    cpu: int
    memory: str
    disk: str
    control_plane: bool = False


POOLS = (
    Pool("controlplane", 3, 8, "32Gi", "80Gi", control_plane=True),
    Pool("general", 4, 4, "8Gi", "60Gi"),
    Pool("compute", 0, 8, "32Gi", "80Gi"),
    Pool("database", 4, 4, "16Gi", "80Gi"),
)


def suffix(*words: str) -> str:
    """Five letters that are the same at every start."""
    digest = hashlib.sha256("/".join(words).encode()).digest()
    return "".join(NAMES[byte % len(NAMES)] for byte in digest[:5])


def pod_range(number: int) -> str:
    """The pod addresses of the node of that number: a /24 each from 198.18.64.0 on."""
    if not 0 <= number < 63:
        raise ValueError(f"node number {number}: 198.18.64.0/18 holds 63 nodes beside the last range")
    return f"198.18.{64 + number}.0/24"


def node(pool: Pool, number: int, place: int) -> Object:
    """One node of the reference cluster; `number` counts within the cluster, `place` within the pool."""
    name = f"{CLUSTER_NAME}-{pool.name}-{suffix(pool.name)}-{suffix(pool.name, str(place))}"
    return assembled(
        name=name,
        identity=str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
        cluster=CLUSTER_NAME,
        pool=pool.name,
        machine=name,
        address=f"198.18.2.{number + 1}",
        number=number,
        version=VERSION,
        control_plane=pool.control_plane,
        etcd=pool.control_plane,
        worker=not pool.control_plane,
        labels={} if pool.control_plane else {"workload-type": pool.name},
        taints=[],
        resources={"cpu": str(pool.cpu), "memory": pool.memory, "ephemeral-storage": pool.disk, "pods": "110"},
    )


def assembled(
    *,
    name: str,
    identity: str,
    cluster: str,
    pool: str,
    machine: str,
    address: str,
    number: int,
    version: str,
    control_plane: bool,
    etcd: bool,
    worker: bool,
    labels: Mapping[str, str],
    taints: Sequence[Object],
    resources: Mapping[str, str],
) -> Object:
    """A node as RKE2 registers it; `number` decides its pods' addresses."""
    own = {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "cattle.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "harvester",
        "rke.cattle.io/machine": identity,
        "rke.cattle.io/rke-machine-pool-name": pool,
        **labels,
    }
    roles = {"control-plane": control_plane, "etcd": etcd, "master": control_plane, "worker": worker}
    own |= {f"node-role.kubernetes.io/{role}": "true" for role, has in roles.items() if has}
    all_taints = list(taints)
    if not worker:
        if control_plane:
            all_taints.append({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"})
        if etcd:
            all_taints.append({"key": "node-role.kubernetes.io/etcd", "effect": "NoExecute"})
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": own,
            "annotations": {
                "cluster.x-k8s.io/cluster-name": cluster,
                "cluster.x-k8s.io/cluster-namespace": "fleet-default",
                "cluster.x-k8s.io/machine": machine,
                "rke2.io/hostname": name,
                "rke2.io/internal-ip": address,
            },
        },
        "spec": {
            "podCIDR": pod_range(number),
            "podCIDRs": [pod_range(number)],
            "providerID": f"harvester://{identity}",
            **({"taints": all_taints} if all_taints else {}),
        },
        "status": {
            "capacity": dict(resources),
            "allocatable": dict(resources),
            "addresses": [
                {"type": "InternalIP", "address": address},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "kubeletVersion": version,
                "kubeProxyVersion": version,
                "containerRuntimeVersion": "containerd://2.1.5-k3s1",
                "kernelVersion": "5.14.0-611.el9.x86_64",
                "osImage": "Rocky Linux 9.7 (Blue Onyx)",
                "machineID": identity.replace("-", ""),
                "systemUUID": identity,
                "bootID": identity,
            },
        },
    }


def reference(pools: Sequence[Pool] = POOLS) -> list[Object]:
    made: list[Object] = []
    for pool in pools:
        for place in range(pool.count):
            made.append(node(pool, len(made), place))
    return made
