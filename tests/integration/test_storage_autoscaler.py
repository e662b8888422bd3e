# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The storage autoscaler as its role deployed it on a running lab.

Real are the API server, Prometheus, which scrapes the kubelets' statistics, and the autoscaler's own pods. The volume
is a folder that a sparse file fills, under a name of the policies. Takes three minutes.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.tests.integration.controller_pods import Controller
from ansible_collections.harvester_rke2.platform.tests.integration.platform_lab import (
    DIRECTORY,
    MONITORING,
    until,
    with_service,
)

from lab.kube import Client, Refused

PROMETHEUS = f"{MONITORING}/pods/prometheus-0"
# Of the policy for harbor-pg, which phase 4 brings: neither its namespace nor a database is there yet.
SPACE = "/api/v1/namespaces/database"
CLAIM = f"harbor-pg-test-{os.getpid()}"
PATH = f"{SPACE}/persistentvolumeclaims/{CLAIM}"
GROWTHS = "storage-autoscaler.harvester-rke2.io/growths"
SERIES = f'{{namespace="database",pvc="{CLAIM}"}}'
RATIO, RUN, FAILURES = f"pvc_usage_ratio{SERIES}", "last_run_timestamp_seconds", "prometheus_query_failures_total"
GIB = 2**30
# Two scrapes, half a minute apart, then the autoscaler's next round.
ROUND = 65.0
SEEN = 180.0


@pytest.fixture(scope="module")
def autoscaler() -> Controller:
    """With a Prometheus."""
    with_service("prometheus")
    return Controller("storage-autoscaler")


@pytest.fixture(scope="module")
def api(autoscaler: Controller) -> Client:
    return autoscaler.api


class Volume:
    """A PVC with a pod that mounts it."""

    def __init__(self, api: Client) -> None:
        self.api = api

    def live(self) -> dict[str, Any]:
        """The PVC."""
        found: dict[str, Any] = self.api.request("GET", PATH)
        return found

    def requested(self) -> str:
        """The size asked for."""
        return str(self.live()["spec"]["resources"]["requests"]["storage"])

    def capacity(self) -> str:
        """The size that it has."""
        return str(self.live()["status"]["capacity"]["storage"])

    def fill(self, gib: float) -> None:
        """Let the volume hold so much: a sparse file, which costs nothing here."""
        volume = self.api.request("GET", f"/api/v1/persistentvolumes/{self.live()['spec']['volumeName']}")
        filler = Path(volume["spec"]["hostPath"]["path"]) / "filler"
        filler.touch()
        os.truncate(filler, int(gib * GIB))

    def growths(self) -> list[dict[str, Any]]:
        """What it remembers."""
        found: list[dict[str, Any]] = json.loads(self.live()["metadata"].get("annotations", {}).get(GROWTHS, "[]"))
        return found

    def long_ago(self) -> None:
        """Let the cool-down be over: all growths were two hours earlier."""
        growths = self.growths()
        for growth in growths:
            at = datetime.datetime.fromisoformat(growth["at"]) - datetime.timedelta(hours=2)
            growth["at"] = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {"metadata": {"annotations": {GROWTHS: json.dumps(growths)}}}
        self.api.merge(PATH, body)

    def events(self) -> list[str]:
        """Reasons of the autoscaler's Events about it."""
        query = {"fieldSelector": f"involvedObject.name={CLAIM}"}
        items = self.api.request("GET", f"{SPACE}/events", query=query)["items"]
        return [item["reason"] for item in items if item["source"].get("component") == "storage-autoscaler"]


@pytest.fixture(scope="module")
def volume(api: Client) -> Iterator[Volume]:
    """10 GiB, mounted, empty; gone afterwards."""
    classes = api.request("GET", "/apis/storage.k8s.io/v1/storageclasses")["items"]
    name = next(item["metadata"]["name"] for item in classes if item.get("allowVolumeExpansion"))
    claim = {
        "metadata": {"name": CLAIM},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": name,
            "resources": {"requests": {"storage": "10Gi"}},
        },
    }
    container = {
        "name": "sleep",
        "image": "docker.io/library/python:3.13-slim",
        "command": ["python3", "-c", "import signal; signal.sigwait([signal.SIGTERM])"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "metadata": {"name": CLAIM},
        "spec": {
            "containers": [container],
            "nodeSelector": {"workload-type": "general"},
            "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": CLAIM}}],
        },
    }
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": "database"}})
    try:
        until(lambda: api.get(f"{SPACE}/serviceaccounts/default"), 30, "the namespace")
        api.request("POST", f"{SPACE}/persistentvolumeclaims", claim)
        api.request("POST", f"{SPACE}/pods", pod)
        made = Volume(api)
        until(lambda: api.request("GET", f"{SPACE}/pods/{CLAIM}")["status"].get("phase") == "Running", 60, "the pod")
        yield made
    finally:
        api.delete(SPACE)


def test_at_85_percent_it_grows_once(autoscaler: Controller, volume: Volume) -> None:
    """By Prometheus' own data, within its policy; full again, it stays as it is in the cool-down."""
    until(lambda: RATIO in autoscaler.metrics(), SEEN, "the volume's usage")
    assert volume.requested() == "10Gi", "an empty volume does not grow"
    volume.fill(8.5)
    began = time.monotonic()
    until(lambda: volume.requested() != "10Gi", SEEN, "its growth")
    print(f"grew after {time.monotonic() - began:.0f} s")
    assert volume.requested() == "15Gi"
    until(lambda: volume.capacity() == "15Gi", 60, "its new capacity")
    until(volume.events, 30, "an Event")
    assert volume.events() == ["StorageExpanded"]
    assert [(growth["fromBytes"], growth["toBytes"]) for growth in volume.growths()] == [(10 * GIB, 15 * GIB)]
    managers = [
        (entry["manager"], entry["operation"])
        for entry in volume.live()["metadata"]["managedFields"]
        if "f:storage" in entry["fieldsV1"].get("f:spec", {}).get("f:resources", {}).get("f:requests", {})
    ]
    assert managers == [("storage-autoscaler", "Apply")]
    volume.fill(14)
    until(lambda: autoscaler.metrics().get(RATIO, 0) > 0.9, SEEN, "its new usage")
    rounds = autoscaler.metrics()[RUN]
    until(lambda: autoscaler.metrics()[RUN] != rounds, 2 * ROUND, "the next round")
    assert volume.requested() == "15Gi"
    held = autoscaler.metrics()
    assert held['pvcs{state="cooldown"}'] >= 1
    assert held[f'expansions_total{{namespace="database",pvc="{CLAIM}",result="success"}}'] == 1


def test_without_prometheus_nothing_happens(autoscaler: Controller, volume: Volume) -> None:
    """The metric says so, although the volume is full and its cool-down over; when it is back, the volume grows."""
    if volume.requested() != "15Gi":
        pytest.skip("the volume has not grown before")
    api = autoscaler.api
    labels = api.request("GET", PROMETHEUS)["metadata"]["labels"]
    gone = {label: None for label in labels if label == "app.kubernetes.io/name"}
    failures = autoscaler.metrics()[FAILURES]
    try:
        # Its Service no longer knows it, as if it were down; nothing else of the role's objects is touched.
        api.merge(PROMETHEUS, {"metadata": {"labels": gone}})
        until(lambda: autoscaler.metrics().get("prometheus_up") == 0, 2 * ROUND, "that Prometheus is away")
        volume.long_ago()
        until(lambda: autoscaler.metrics()[FAILURES] >= failures + 2, 3 * ROUND, "two more rounds")
        assert volume.requested() == "15Gi"
        assert RATIO not in autoscaler.metrics()
        assert len(autoscaler.ready()) == 2 and not autoscaler.restarts(), (
            "an outage of Prometheus is no reason to restart"
        )
    finally:
        api.merge(PROMETHEUS, {"metadata": {"labels": {label: labels[label] for label in gone}}})
        owned = f"{PROMETHEUS} is the StatefulSet's again"
        until(lambda: api.request("GET", PROMETHEUS)["metadata"].get("ownerReferences"), 120, owned)
    until(lambda: volume.requested() == "20Gi", SEEN, "its growth")
    assert autoscaler.metrics()["prometheus_up"] == 1


def test_the_other_takes_over(autoscaler: Controller, volume: Volume) -> None:
    """Killed, not stopped: the other waits for the lease's end, and then knows the volumes; none grows twice."""
    autoscaler.settle()
    size, began = volume.requested(), time.monotonic()
    old = autoscaler.kill(grace=0)
    until(lambda: autoscaler.leader() not in ("", old), 40, "another leader", pause=0.1)
    took = time.monotonic() - began
    print(f"taken over after {took:.0f} s")
    assert took > 5, "a lease that its holder still may use was taken"
    until(lambda: autoscaler.metrics()["leader"] == 1 and RUN in autoscaler.metrics(), 60, "its first round")
    assert volume.requested() == size
    autoscaler.settle()


@pytest.fixture(scope="module")
def account(autoscaler: Controller, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """The API as the autoscaler's own account reaches it."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = autoscaler.api.request("POST", f"{autoscaler.system}/serviceaccounts/storage-autoscaler/token", review)
    config = yaml.safe_load((DIRECTORY / "kubeconfig" / "cluster.yaml").read_text())
    for user in config["users"]:
        user["user"] = {"token": answer["status"]["token"]}
    path = tmp_path_factory.mktemp("account") / "kubeconfig.yaml"
    path.touch(0o600)
    path.write_text(yaml.safe_dump(config))
    return Client(path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"metadata": {"labels": {"a": "b"}}}, "may change no labels"),
        ({"metadata": {"annotations": {"a": "b"}}}, "its own annotations only"),
        ({"metadata": {"finalizers": []}}, "may change no labels"),
        ({"spec": {"volumeAttributesClassName": "other"}}, "the requested size only"),
        ({"spec": {"resources": {"requests": {"storage": "1Gi"}}}}, "less than status.capacity|may not shrink"),
    ],
)
def test_admission_holds_it_to_the_size(account: Client, volume: Volume, body: dict[str, Any], message: str) -> None:
    """RBAC lets it patch a PVC; which field, says the admission policy."""
    with pytest.raises(Refused, match=message):
        account.merge(PATH, body)


def test_admission_holds_it_to_its_namespaces(api: Client, account: Client) -> None:
    """A PVC of a namespace that no policy names."""
    claim = {
        "metadata": {"name": CLAIM},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    path = "/api/v1/namespaces/default/persistentvolumeclaims"
    api.request("POST", path, claim)
    try:
        body = {"metadata": {"annotations": {GROWTHS: "[]"}}}
        with pytest.raises(Refused, match="no policy of the storage autoscaler is about this namespace"):
            account.merge(f"{path}/{CLAIM}", body)
    finally:
        api.delete(f"{path}/{CLAIM}")


@pytest.mark.parametrize(
    ("verb", "group", "resource", "namespace", "allowed"),
    [
        ("list", "", "persistentvolumeclaims", "monitoring", True),
        ("patch", "", "persistentvolumeclaims", "monitoring", True),
        ("list", "storage.k8s.io", "storageclasses", "", True),
        ("create", "", "events", "monitoring", True),
        ("patch", "postgresql.cnpg.io", "clusters", "database", True),
        ("create", "", "persistentvolumeclaims", "monitoring", False),
        ("delete", "", "persistentvolumeclaims", "monitoring", False),
        ("patch", "", "persistentvolumes", "", False),
        ("get", "", "secrets", "storage-autoscaler", False),
        ("list", "", "pods", "monitoring", False),
        ("update", "coordination.k8s.io", "leases", "kube-system", False),
    ],
)
def test_its_rights(
    autoscaler: Controller, verb: str, group: str, resource: str, namespace: str, allowed: bool
) -> None:
    """No more than it needs."""
    assert autoscaler.allowed(namespace, verb=verb, group=group, resource=resource) is allowed
