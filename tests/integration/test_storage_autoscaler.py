# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The storage autoscaler as its role deployed it on a running lab (LAB_DIR, else that of LAB_NAME).

Real are the API server, Prometheus, which scrapes the kubelets' statistics, and the autoscaler's own pods. The volume
is a folder that a sparse file fills, under a name of the policies. Takes three minutes.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_client import KubeClient

ROOT = Path(__file__).resolve().parents[2]
NAME = os.environ.get("LAB_NAME", "lab")
LAB = Path(os.environ.get("LAB_DIR") or ROOT / (".lab" if NAME == "lab" else f".lab-{NAME}"))
KUBECONFIG = LAB / "kubeconfig" / "cluster.yaml"
SYSTEM = "/api/v1/namespaces/storage-autoscaler"
PODS = f"{SYSTEM}/pods"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/storage-autoscaler/leases/storage-autoscaler"
MONITORING = "/api/v1/namespaces/monitoring"
PROMETHEUS = f"{MONITORING}/pods/prometheus-0"
# Of the policy for harbor-pg, which phase 4 brings: neither its namespace nor a database is there yet.
SPACE = "/api/v1/namespaces/database"
CLAIM = f"harbor-pg-test-{os.getpid()}"
PATH = f"{SPACE}/persistentvolumeclaims/{CLAIM}"
MERGE_PATCH = "application/merge-patch+json"
GROWTHS = "storage-autoscaler.harvester-rke2.io/growths"
SERIES = f'{{namespace="database",pvc="{CLAIM}"}}'
GIB = 2**30
# Two scrapes, half a minute apart, then the autoscaler's next round.
ROUND = 65.0
SEEN = 180.0

pytestmark = pytest.mark.skipif(not KUBECONFIG.exists(), reason=f"no lab in {LAB}: make lab")


def until(condition: Callable[[], Any], seconds: float) -> float:
    """Wait for a condition and return the seconds that it took; fail when it does not come."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.5)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def api() -> KubeClient:
    """The cluster's API, with two ready replicas of the autoscaler and a Prometheus."""
    client = KubeClient.from_options({"kubeconfig": str(KUBECONFIG)})
    if client.get_or_none(LEASE) is None or client.get_or_none(PROMETHEUS) is None:
        pytest.skip("phase 3 is not deployed there: ansible-playbook site.yml -i inventories/lab --tags phase3")
    until(lambda: len(ready_pods(client)) == 2 and leader(client) in ready_pods(client), 60)
    return client


def ready_pods(api: KubeClient) -> list[str]:
    """Names of the pods that are ready and stay."""
    return [
        pod["metadata"]["name"]
        for pod in api.request("GET", PODS)["items"]
        if "deletionTimestamp" not in pod["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    ]


def leader(api: KubeClient) -> str:
    """Name of the pod that holds the lease."""
    return str(api.request("GET", LEASE)["spec"].get("holderIdentity") or "").partition("_")[0]


def metric(api: KubeClient, name: str) -> float | None:
    """A metric of the leader, read through the API; None if it has none of that name."""
    command = [str(LAB / "bin" / "kubectl"), "--kubeconfig", str(KUBECONFIG), "get", "--raw"]
    target = f"{PODS}/{leader(api)}:8080/proxy/metrics"
    # A pod that is just ending or starting has no answer.
    answer = subprocess.run([*command, target], capture_output=True, text=True, check=False)
    lines = [line.rpartition(" ") for line in answer.stdout.splitlines() if not line.startswith("#")]
    return {key: float(value) for key, _, value in lines}.get(f"storage_autoscaler_{name}")


class Volume:
    """A PVC with a pod that mounts it."""

    def __init__(self, api: KubeClient) -> None:
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
        self.api.request("PATCH", PATH, body=body, content_type=MERGE_PATCH)

    def events(self) -> list[str]:
        """Reasons of the autoscaler's Events about it."""
        query = {"fieldSelector": f"involvedObject.name={CLAIM}"}
        items = self.api.request("GET", f"{SPACE}/events", query=query)["items"]
        return [item["reason"] for item in items if item["source"].get("component") == "storage-autoscaler"]


@pytest.fixture(scope="module")
def volume(api: KubeClient) -> Iterator[Volume]:
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
    api.request("POST", "/api/v1/namespaces", body={"metadata": {"name": "database"}})
    try:
        until(lambda: api.get_or_none(f"{SPACE}/serviceaccounts/default"), 30)
        api.request("POST", f"{SPACE}/persistentvolumeclaims", body=claim)
        api.request("POST", f"{SPACE}/pods", body=pod)
        made = Volume(api)
        until(lambda: api.request("GET", f"{SPACE}/pods/{CLAIM}")["status"].get("phase") == "Running", 60)
        yield made
    finally:
        api.request("DELETE", SPACE)


def test_at_85_percent_it_grows_once(api: KubeClient, volume: Volume) -> None:
    """By Prometheus' own data, within its policy; full again, it stays as it is in the cool-down."""
    until(lambda: metric(api, f"pvc_usage_ratio{SERIES}") is not None, SEEN)
    assert volume.requested() == "10Gi", "an empty volume does not grow"
    volume.fill(8.5)
    took = until(lambda: volume.requested() != "10Gi", SEEN)
    print(f"grew after {took:.0f} s")
    assert volume.requested() == "15Gi"
    until(lambda: volume.capacity() == "15Gi", 30)
    until(lambda: volume.events() == ["StorageExpanded"], 10)
    assert [(growth["fromBytes"], growth["toBytes"]) for growth in volume.growths()] == [(10 * GIB, 15 * GIB)]
    managers = [
        (entry["manager"], entry["operation"])
        for entry in volume.live()["metadata"]["managedFields"]
        if "f:storage" in entry["fieldsV1"].get("f:spec", {}).get("f:resources", {}).get("f:requests", {})
    ]
    assert managers == [("storage-autoscaler", "Apply")]
    volume.fill(14)
    until(lambda: (metric(api, f"pvc_usage_ratio{SERIES}") or 0) > 0.9, SEEN)
    rounds = metric(api, "last_run_timestamp_seconds")
    until(lambda: metric(api, "last_run_timestamp_seconds") != rounds, 2 * ROUND)
    assert volume.requested() == "15Gi"
    assert (metric(api, 'pvcs{state="cooldown"}') or 0) >= 1
    result = f'expansions_total{{namespace="database",pvc="{CLAIM}",result="success"}}'
    assert metric(api, result) == 1


def test_without_prometheus_nothing_happens(api: KubeClient, volume: Volume) -> None:
    """The metric says so, although the volume is full and its cool-down over; when it is back, the volume grows."""
    if volume.requested() != "15Gi":
        pytest.skip("the volume has not grown before")
    labels = api.request("GET", PROMETHEUS)["metadata"]["labels"]
    gone = {label: None for label in labels if label == "app.kubernetes.io/name"}
    failures = metric(api, "prometheus_query_failures_total") or 0
    try:
        # Its Service no longer knows it, as if it were down; nothing else of the role's objects is touched.
        api.request("PATCH", PROMETHEUS, body={"metadata": {"labels": gone}}, content_type=MERGE_PATCH)
        until(lambda: metric(api, "prometheus_up") == 0, 2 * ROUND)
        volume.long_ago()
        until(lambda: (metric(api, "prometheus_query_failures_total") or 0) >= failures + 2, 3 * ROUND)
        assert volume.requested() == "15Gi"
        assert metric(api, f"pvc_usage_ratio{SERIES}") is None
        assert len(ready_pods(api)) == 2, "an outage of Prometheus is no reason to restart"
    finally:
        back = {label: labels[label] for label in gone}
        api.request("PATCH", PROMETHEUS, body={"metadata": {"labels": back}}, content_type=MERGE_PATCH)
        until(lambda: api.request("GET", PROMETHEUS)["metadata"].get("ownerReferences"), 120)
    until(lambda: volume.requested() == "20Gi", SEEN)
    assert metric(api, "prometheus_up") == 1


def test_the_other_takes_over(api: KubeClient, volume: Volume) -> None:
    """Killed, not stopped: the other waits for the lease's end, and then knows the volumes; none grows twice."""
    until(lambda: len(ready_pods(api)) == 2 and leader(api) in ready_pods(api), 60)
    old, size = leader(api), volume.requested()
    api.request("DELETE", f"{PODS}/{old}", body={"gracePeriodSeconds": 0})
    took = until(lambda: leader(api) not in ("", old), 25)
    print(f"taken over after {took:.0f} s")
    assert took > 5, "a lease that its holder still may use was taken"
    until(lambda: metric(api, "leader") == 1 and metric(api, "last_run_timestamp_seconds") is not None, 30)
    assert volume.requested() == size
    until(lambda: len(ready_pods(api)) == 2, 60)


@pytest.fixture(scope="module")
def account(api: KubeClient, tmp_path_factory: pytest.TempPathFactory) -> KubeClient:
    """The API as the autoscaler's own account reaches it."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = api.request("POST", f"{SYSTEM}/serviceaccounts/storage-autoscaler/token", body=review)
    config = yaml.safe_load(KUBECONFIG.read_text())
    for user in config["users"]:
        user["user"] = {"token": answer["status"]["token"]}
    path = tmp_path_factory.mktemp("account") / "kubeconfig.yaml"
    path.touch(0o600)
    path.write_text(yaml.safe_dump(config))
    return KubeClient.from_options({"kubeconfig": str(path)})


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
def test_admission_holds_it_to_the_size(
    account: KubeClient, volume: Volume, body: dict[str, Any], message: str
) -> None:
    """RBAC lets it patch a PVC; which field, says the admission policy."""
    with pytest.raises(PlatformError, match=message):
        account.request("PATCH", PATH, body=body, content_type=MERGE_PATCH, retry=False)


def test_admission_holds_it_to_its_namespaces(api: KubeClient, account: KubeClient) -> None:
    """A PVC of a namespace that no policy names."""
    claim = {
        "metadata": {"name": CLAIM},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    path = "/api/v1/namespaces/default/persistentvolumeclaims"
    api.request("POST", path, body=claim)
    try:
        body = {"metadata": {"annotations": {GROWTHS: "[]"}}}
        with pytest.raises(PlatformError, match="no policy of the storage autoscaler is about this namespace"):
            account.request("PATCH", f"{path}/{CLAIM}", body=body, content_type=MERGE_PATCH, retry=False)
    finally:
        api.request("DELETE", f"{path}/{CLAIM}")


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
def test_its_rights(api: KubeClient, verb: str, group: str, resource: str, namespace: str, allowed: bool) -> None:
    """No more than it needs, asked of the API server itself."""
    attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "system:serviceaccount:storage-autoscaler:storage-autoscaler",
            "resourceAttributes": attributes,
        },
    }
    answer = api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=review)
    assert answer["status"]["allowed"] is allowed
