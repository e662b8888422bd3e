# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The autoscaler's part, played with nothing but what its role deployed: its Secret, and its user's rights in Rancher.

Needs a lab whose nodes Rancher has made (LAB_NODES=rancher) and the site on it: in others there is no such Secret.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.tests.integration.rancher_cluster import (
    CLUSTERS,
    DIRECTORY,
    MACHINES,
    Rancher,
    wait,
)

from lab.kube import Client, Object, Refused

SECRET = "/api/v1/namespaces/kube-system/secrets/cluster-autoscaler-cloud-config"
KUBECONFIG = DIRECTORY / "kubeconfig" / "cluster.yaml"
DELETE = "cluster.x-k8s.io/delete-machine"

pytestmark = pytest.mark.skipif(not KUBECONFIG.exists(), reason=f"no lab in {DIRECTORY}")


class Autoscaler:
    """Does to Rancher what the provider `rancher` does: whole updates of Cluster and Machine, no patch."""

    def __init__(self, config: dict[str, str]) -> None:
        self.name = config["clusterName"]
        self.path = f"{CLUSTERS}/{self.name}"
        assert config["clusterNamespace"] == "fleet-default"
        self.client: Client = Rancher(config["token"]).client("local")

    def pool(self, cluster: Object, name: str) -> Object:
        found: Object = next(pool for pool in cluster["spec"]["rkeConfig"]["machinePools"] if pool["name"] == name)
        return found

    def quantity(self, name: str) -> int:
        return int(self.pool(self.client.request("GET", self.path), name)["quantity"])

    def scale(self, name: str, change: int) -> int:
        for _ in range(10):
            cluster = self.client.request("GET", self.path)
            pool = self.pool(cluster, name)
            pool["quantity"] += change
            try:
                self.client.request("PUT", self.path, cluster)
                return int(pool["quantity"])
            except Refused as refused:
                assert refused.status in (409, 500), refused
                time.sleep(0.5)
        raise AssertionError("the Cluster was never free to be changed")

    def machines(self, name: str) -> list[Object]:
        selector = f"cluster.x-k8s.io/deployment-name={self.name}-{name}"
        found: list[Object] = self.client.request("GET", f"{MACHINES}?labelSelector={selector}")["items"]
        return found

    def remove(self, name: str, machine: Object) -> None:
        marked = self.client.request("GET", f"{MACHINES}/{machine['metadata']['name']}")
        marked["metadata"].setdefault("annotations", {})[DELETE] = "now"
        self.client.request("PUT", f"{MACHINES}/{machine['metadata']['name']}", marked)
        self.scale(name, -1)


@pytest.fixture(scope="module")
def autoscaler() -> Autoscaler:
    secret = Client(KUBECONFIG).get(SECRET)
    if secret is None:
        pytest.skip("the autoscaler is not deployed there: LAB_NODES=rancher make lab")
    return Autoscaler(yaml.safe_load(base64.b64decode(secret["data"]["cloud-config"])))


@pytest.fixture
def grown(autoscaler: Autoscaler) -> Iterator[int]:
    """A pool of one node more, and its number of nodes before; as before afterwards."""
    before = autoscaler.quantity("general")
    autoscaler.scale("general", 1)
    yield before
    while autoscaler.quantity("general") > before:
        autoscaler.scale("general", -1)
    wait(lambda: len(autoscaler.machines("general")) == before, 90, "the pool has its size again")


def test_it_is_nobody_else(autoscaler: Autoscaler) -> None:
    """Its user is not the administrator, and may do the two things only."""
    name = autoscaler.name
    for method, path in (
        ("GET", CLUSTERS),
        ("GET", f"{CLUSTERS}/harvester"),
        ("DELETE", f"{CLUSTERS}/{name}"),
        ("DELETE", f"{MACHINES}/{autoscaler.machines('general')[0]['metadata']['name']}"),
        ("GET", "/api/v1/namespaces/cattle-global-data/secrets"),
        ("GET", "/apis/management.cattle.io/v3/tokens"),
    ):
        with pytest.raises(Refused) as refused:
            autoscaler.client.request(method, path)
        assert refused.value.status == 403, (method, path)


def test_a_pool_grows_and_the_node_that_was_marked_goes(autoscaler: Autoscaler, grown: int) -> None:
    """Up by one; then down again, by the machine that the autoscaler chose."""

    def ready() -> list[Object]:
        return [machine for machine in autoscaler.machines("general") if machine.get("status", {}).get("nodeRef")]

    there = wait(lambda: found if len(found := ready()) == grown + 1 else None, 120, "the machine has a node")
    nodes: Any = Client(KUBECONFIG).request("GET", "/api/v1/nodes?labelSelector=workload-type=general")
    assert len(nodes["items"]) == grown + 1, json.dumps([node["metadata"]["name"] for node in nodes["items"]])
    oldest = min(there, key=lambda machine: str(machine["metadata"]["creationTimestamp"]))
    assert all(machine["spec"].get("providerID") for machine in there), "the provider stops at a machine without"
    autoscaler.remove("general", oldest)
    wait(lambda: len(autoscaler.machines("general")) == grown, 120, "the pool is smaller")
    assert oldest["metadata"]["name"] not in {machine["metadata"]["name"] for machine in autoscaler.machines("general")}
