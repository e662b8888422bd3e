# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What Rancher's controllers see and write with, and the names of their kinds."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.kube import Client, Object
from lab.mirror import Store
from lab.rancher.driver import Credentials
from lab.rancher.faults import Faults
from lab.rancher.guests import POOL
from lab.rancher.loop import Due
from lab.rancher.settings import FLEET, Times

CLUSTERS = "/apis/provisioning.cattle.io/v1/clusters"
MANAGEMENT = "/apis/management.cattle.io/v3/clusters"
CONFIGS = "/apis/rke-machine-config.cattle.io/v1/harvesterconfigs"
MACHINES = "/apis/cluster.x-k8s.io/v1beta1/machines"
DEPLOYMENTS = "/apis/cluster.x-k8s.io/v1beta1/machinedeployments"
TEMPLATES = "/apis/rke-machine.cattle.io/v1/harvestermachinetemplates"
FINALIZER = "machine.cluster.x-k8s.io"
CLUSTER_FINALIZER = "wrangler.cattle.io/provisioning-cluster-remove"


@dataclass
class World:
    """One look at everything, and the clients to act with."""

    rancher: Client
    harvester: Client
    guest: Client
    faults: Faults
    times: Times
    credentials: Credentials
    authority: bytes = b""  # of Rancher's webhook
    stores: Mapping[str, Store] = field(default_factory=dict)
    due: Due = field(default_factory=Due)
    notes: dict[str, str] = field(default_factory=dict)  # machine: what it waits for
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, machine: Object, text: str) -> None:
        self.notes[machine["metadata"]["name"]] = text

    def cluster(self, name: str) -> Object | None:
        return self.stores["clusters"].get(f"{FLEET}/{name}")

    def machines(self, cluster: str, pool: str | None = None) -> list[Object]:
        found = [
            machine
            for machine in self.stores["machines"].values()
            if machine["spec"]["clusterName"] == cluster and pool in (None, label(machine, POOL))
        ]
        return sorted(found, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"]))

    def node(self, machine: Object) -> Object | None:
        node = self.stores["guests"].get(machine["metadata"]["name"])
        return (
            node
            if node and node["metadata"]["labels"].get("rke.cattle.io/machine") == machine["metadata"]["uid"]
            else None
        )


def label(item: Object, name: str) -> str:
    return str((item["metadata"].get("labels") or {}).get(name) or "")


def rke(cluster: Object) -> dict[str, Any]:
    return dict((cluster.get("spec") or {}).get("rkeConfig") or {})


def pools(cluster: Object) -> list[dict[str, Any]]:
    return list(rke(cluster).get("machinePools") or [])


def pool_of(cluster: Object | None, machine: Object) -> dict[str, Any] | None:
    name = label(machine, POOL)
    return next((pool for pool in pools(cluster or {}) if pool["name"] == name), None)


def credential_of(cluster: Object, pool: Mapping[str, Any] | None) -> str:
    own = (pool or {}).get("cloudCredentialSecretName")
    return str(own or (cluster.get("spec") or {}).get("cloudCredentialSecretName") or "")
