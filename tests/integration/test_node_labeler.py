# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The node labeler as its role deployed it on a running lab: real pods, a real API."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.tests.integration.controller_pods import Controller
from ansible_collections.harvester_rke2.platform.tests.integration.platform_lab import until

from lab.kube import Client

NODES = "/api/v1/nodes"
EVENTS = "/api/v1/namespaces/default/events"
LABEL = "workload-type"
SUCCESS = 'patches_total{result="success"}'


@pytest.fixture(scope="module")
def labeler() -> Controller:
    return Controller("node-labeler")


@pytest.fixture
def api(labeler: Controller) -> Client:
    return labeler.api


def label(api: Client, node: str) -> str | None:
    """The node's label."""
    metadata = api.request("GET", f"{NODES}/{node}")["metadata"]
    value: str | None = metadata.get("labels", {}).get(LABEL)
    return value


def set_label(api: Client, node: str, value: str | None) -> None:
    """Change it, as an administrator would; None removes it."""
    api.merge(f"{NODES}/{node}", {"metadata": {"labels": {LABEL: value}}})


@pytest.fixture
def node(api: Client) -> Iterator[str]:
    """A worker node of the pool general, which has its label again afterwards."""
    nodes = api.request("GET", NODES)["items"]
    name = next(node["metadata"]["name"] for node in nodes if node["metadata"]["labels"].get(LABEL) == "general")
    yield str(name)
    if label(api, name) != "general":
        set_label(api, name, "general")


def test_one_of_two_leads(labeler: Controller) -> None:
    """Both are ready, which means that they reached the API with their own account; one holds the lease."""

    def known() -> bool:
        """The nodes, as the leader sees them: the one that has just become it has not seen them yet."""
        held = labeler.metrics()
        nodes = {state: held.get(f'nodes{{state="{state}"}}', -1) for state in ("control_plane", "labelled", "missing")}
        return nodes["control_plane"] == 3 and nodes["labelled"] >= 8 and nodes["missing"] == 0

    until(lambda: sum(labeler.metrics(pod)["leader"] for pod in labeler.ready()) == 1, 30, "one leader")
    until(known, 30, "the leader's nodes")


def test_a_label_that_is_removed_comes_back(labeler: Controller, api: Client, node: str) -> None:
    """By the watch, long before a list would show it."""
    before = labeler.metrics()[SUCCESS]
    set_label(api, node, None)
    began = time.monotonic()
    until(lambda: label(api, node) == "general", 30, "the label", pause=0.1)
    print(f"came back after {time.monotonic() - began:.1f} s")
    until(lambda: labeler.metrics()[SUCCESS] == before + 1, 10, "its count")


def test_a_node_that_comes_without_its_label(api: Client) -> None:
    """As one that the autoscaler made: neither label of Rancher's, only its name."""
    made = api.request("GET", NODES)["items"][0]["metadata"]["name"]
    cluster = re.sub(r"-controlplane-.*|-general-.*|-database-.*|-compute-.*", "", made)
    name = f"{cluster}-compute-test-{os.getpid()}"
    api.request("POST", NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    try:
        until(lambda: label(api, name) == "compute", 30, "the label")
    finally:
        api.delete(f"{NODES}/{name}")


def test_another_value_is_never_overwritten(api: Client, node: str) -> None:
    """It is told by one Event of the node."""
    uid = api.request("GET", f"{NODES}/{node}")["metadata"]["uid"]
    value = f"own-{os.getpid()}"
    set_label(api, node, value)

    def events() -> list[dict[str, Any]]:
        found = api.request("GET", EVENTS, query={"fieldSelector": "reason=PoolLabelMismatch"})["items"]
        return [event for event in found if event["involvedObject"]["uid"] == uid and value in event["message"]]

    until(events, 30, "the Event")
    # Other changes of the node come by while the label is wrong.
    for other in (value, None):
        api.merge(f"{NODES}/{node}", {"metadata": {"annotations": {"platform.harvester-rke2.io/test": other}}})
        time.sleep(1.0)
    assert label(api, node) == value
    assert len(events()) == 1
    assert events()[0]["type"] == "Warning"


def test_the_control_plane_gets_none(api: Client) -> None:
    """Its nodes are no place for services."""
    for item in api.request("GET", NODES)["items"]:
        labels = item["metadata"]["labels"]
        assert ("node-role.kubernetes.io/control-plane" in labels) != (LABEL in labels), item["metadata"]["name"]


@pytest.mark.parametrize(
    ("grace", "most"),
    [
        # SIGTERM: the lease is given back, so the other need not see it unchanged for its 15 s.
        (30, 14.0),
        # SIGKILL: it must.
        (0, 40.0),
    ],
)
def test_the_other_takes_over(labeler: Controller, api: Client, node: str, grace: int, most: float) -> None:
    """And labels."""
    labeler.settle()
    old, began = labeler.kill(grace), time.monotonic()
    until(lambda: labeler.leader() not in ("", old), most, "another leader", pause=0.1)
    took = time.monotonic() - began
    print(f"taken over after {took:.1f} s")
    assert grace or took > 5, "a lease that its holder still may use was taken"
    set_label(api, node, None)
    until(lambda: label(api, node) == "general", 30, "the label")
    labeler.settle()


@pytest.mark.parametrize(
    ("verb", "group", "resource", "namespace", "name", "allowed"),
    [
        ("patch", "", "nodes", "", "", True),
        ("update", "coordination.k8s.io", "leases", "node-labeler", "node-labeler", True),
        ("create", "", "events", "default", "", True),
        ("update", "", "nodes", "", "", False),
        ("delete", "", "nodes", "", "", False),
        ("update", "coordination.k8s.io", "leases", "node-labeler", "other", False),
        ("update", "coordination.k8s.io", "leases", "kube-system", "node-labeler", False),
        ("create", "", "events", "node-labeler", "", False),
        ("get", "", "secrets", "node-labeler", "", False),
        ("list", "", "pods", "", "", False),
    ],
)
def test_its_rights(
    labeler: Controller, verb: str, group: str, resource: str, namespace: str, name: str, allowed: bool
) -> None:
    """No more than it needs."""
    assert labeler.allowed(namespace, name, verb=verb, group=group, resource=resource) is allowed


def test_its_pods_are_restricted(labeler: Controller) -> None:
    """The namespace enforces what the description says, and the pods were admitted."""
    labels = labeler.api.request("GET", labeler.system)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert len(labeler.ready()) == 2 and not labeler.restarts()
