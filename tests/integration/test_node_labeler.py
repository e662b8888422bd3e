# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The node labeler as its role deployed it on a running lab (LAB_DIR, else that of LAB_NAME): real pods, a real API."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_client import KubeClient

ROOT = Path(__file__).resolve().parents[2]
NAME = os.environ.get("LAB_NAME", "lab")
LAB = Path(os.environ.get("LAB_DIR") or ROOT / (".lab" if NAME == "lab" else f".lab-{NAME}"))
KUBECONFIG = LAB / "kubeconfig" / "cluster.yaml"
NODES = "/api/v1/nodes"
PODS = "/api/v1/namespaces/node-labeler/pods"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/node-labeler/leases/node-labeler"
EVENTS = "/api/v1/namespaces/default/events"
MERGE_PATCH = "application/merge-patch+json"
LABEL = "workload-type"

pytestmark = pytest.mark.skipif(not KUBECONFIG.exists(), reason=f"no lab in {LAB}: make lab")


def until(condition: Callable[[], Any], seconds: float) -> float:
    """Wait for a condition and return the seconds that it took; fail when it does not come."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def api() -> KubeClient:
    """The cluster's API, with two ready replicas of the labeler."""
    client = KubeClient.from_options({"kubeconfig": str(KUBECONFIG)})
    if client.get_or_none(LEASE) is None:
        pytest.skip("the role node_labeler is not deployed there: ansible-playbook site.yml -i inventories/lab")
    until(lambda: len(ready_pods(client)) == 2, 60)
    return client


def ready_pods(api: KubeClient) -> dict[str, dict[str, Any]]:
    """Name to pod, of those that are ready and stay."""
    return {
        pod["metadata"]["name"]: pod
        for pod in api.request("GET", PODS)["items"]
        if "deletionTimestamp" not in pod["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    }


def leader(api: KubeClient) -> str:
    """Name of the pod that holds the lease."""
    return str(api.request("GET", LEASE)["spec"].get("holderIdentity") or "").partition("_")[0]


def label(api: KubeClient, node: str) -> str | None:
    """The node's label."""
    metadata = api.request("GET", f"{NODES}/{node}")["metadata"]
    value: str | None = metadata.get("labels", {}).get(LABEL)
    return value


def set_label(api: KubeClient, node: str, value: str | None) -> None:
    """Change it, as an administrator would; None removes it."""
    body = {"metadata": {"labels": {LABEL: value}}}
    api.request("PATCH", f"{NODES}/{node}", body=body, content_type=MERGE_PATCH)


def metrics(pod: str) -> dict[str, float]:
    """The pod's metrics, read through the API."""
    command = [str(LAB / "bin" / "kubectl"), "--kubeconfig", str(KUBECONFIG), "get", "--raw"]
    answer = subprocess.run([*command, f"{PODS}/{pod}:8080/proxy/metrics"], capture_output=True, text=True, check=True)
    lines = [line.rpartition(" ") for line in answer.stdout.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.fixture
def node(api: KubeClient) -> Iterator[str]:
    """A worker node of the pool general, which has its label again afterwards."""
    nodes = api.request("GET", NODES)["items"]
    name = next(node["metadata"]["name"] for node in nodes if node["metadata"]["labels"].get(LABEL) == "general")
    yield str(name)
    if label(api, name) != "general":
        set_label(api, name, "general")


def test_one_of_two_leads(api: KubeClient) -> None:
    """Both are ready, which means that they reached the API with their own account; one holds the lease."""
    pods = ready_pods(api)
    until(lambda: leader(api) in pods, 30)
    until(lambda: sum(metrics(pod)["node_labeler_leader"] for pod in pods) == 1, 10)
    held = metrics(leader(api))
    assert held['node_labeler_nodes{state="control_plane"}'] == 3
    assert held['node_labeler_nodes{state="labelled"}'] >= 8
    assert held['node_labeler_nodes{state="missing"}'] == 0


def test_a_label_that_is_removed_comes_back(api: KubeClient, node: str) -> None:
    """Within seconds."""
    before = metrics(leader(api))['node_labeler_patches_total{result="success"}']
    set_label(api, node, None)
    took = until(lambda: label(api, node) == "general", 10)
    assert took < 5
    until(lambda: metrics(leader(api))['node_labeler_patches_total{result="success"}'] == before + 1, 5)


def test_a_node_that_comes_without_its_label(api: KubeClient) -> None:
    """As one that the autoscaler made: neither label of Rancher's, only its name."""
    made = api.request("GET", NODES)["items"][0]["metadata"]["name"]
    cluster = re.sub(r"-controlplane-.*|-general-.*|-database-.*|-compute-.*", "", made)
    name = f"{cluster}-compute-test-{os.getpid()}"
    api.request("POST", NODES, body={"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    try:
        until(lambda: label(api, name) == "compute", 10)
    finally:
        api.request("DELETE", f"{NODES}/{name}")


def test_another_value_is_never_overwritten(api: KubeClient, node: str) -> None:
    """It is told by one Event of the node."""
    uid = api.request("GET", f"{NODES}/{node}")["metadata"]["uid"]
    value = f"own-{os.getpid()}"
    set_label(api, node, value)

    def events() -> list[dict[str, Any]]:
        found = api.request("GET", EVENTS, query={"fieldSelector": "reason=PoolLabelMismatch"})["items"]
        return [event for event in found if event["involvedObject"]["uid"] == uid and value in event["message"]]

    until(events, 10)
    # Other changes of the node come by while the label is wrong.
    for other in (value, None):
        body = {"metadata": {"annotations": {"platform.harvester-rke2.io/test": other}}}
        api.request("PATCH", f"{NODES}/{node}", body=body, content_type=MERGE_PATCH)
        time.sleep(1.0)
    assert label(api, node) == value
    assert len(events()) == 1
    assert events()[0]["type"] == "Warning"


def test_the_control_plane_gets_none(api: KubeClient) -> None:
    """Its nodes are no place for services."""
    for item in api.request("GET", NODES)["items"]:
        labels = item["metadata"]["labels"]
        assert ("node-role.kubernetes.io/control-plane" in labels) != (LABEL in labels), item["metadata"]["name"]


@pytest.mark.parametrize(
    ("grace", "most"),
    [
        # SIGTERM: the lease is given back.
        (30, 10.0),
        # SIGKILL: the other must see the lease unchanged for its 15 s.
        (0, 25.0),
    ],
)
def test_the_other_takes_over(api: KubeClient, node: str, grace: int, most: float) -> None:
    """And labels at once."""
    until(lambda: len(ready_pods(api)) == 2 and leader(api) in ready_pods(api), 60)
    old = leader(api)
    api.request("DELETE", f"{PODS}/{old}", body={"gracePeriodSeconds": grace})
    took = until(lambda: leader(api) not in ("", old), most)
    assert grace or took > 5, "a lease that its holder still may use was taken"
    set_label(api, node, None)
    until(lambda: label(api, node) == "general", 5)
    until(lambda: len(ready_pods(api)) == 2, 60)


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
    api: KubeClient, verb: str, group: str, resource: str, namespace: str, name: str, allowed: bool
) -> None:
    """No more than it needs, asked of the API server itself."""
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": "system:serviceaccount:node-labeler:node-labeler", "resourceAttributes": attributes},
    }
    answer = api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=review)
    assert answer["status"]["allowed"] is allowed


def test_its_pods_are_restricted(api: KubeClient) -> None:
    """The namespace enforces what the description says, and the pods were admitted."""
    namespace = api.request("GET", "/api/v1/namespaces/node-labeler")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in ready_pods(api).values():
        assert all(status["restartCount"] == 0 for status in pod["status"]["containerStatuses"])
