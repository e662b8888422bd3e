# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The kubelets' metrics: who may ask, and what a node says of its pods, volumes and containers."""

from __future__ import annotations

import http.client
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import kubelet, pki, processes, usage
from lab.kube import Object

GIB = 2**30
NODE: Object = {
    "metadata": {"name": "one"},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": "one"}],
        "capacity": {"cpu": "4", "memory": "8Gi"},
        "nodeInfo": {"kubeletVersion": "v1.34.8+rke2r2"},
    },
}


def pod(name: str, node: str = "one", phase: str = "Running", **spec: Any) -> Object:
    containers = [{"name": "main", "image": "image:1", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]
    status = {"phase": phase, "containerStatuses": [{"name": "main", "state": {"running": {}}}]}
    meta = {"name": name, "namespace": "space", "uid": f"uid-{name}"}
    return {"metadata": meta, "spec": {"nodeName": node, "containers": containers, **spec}, "status": status}


def stores(folder: Path, *pods: Object) -> dict[str, dict[str, Object]]:
    claim = {
        "metadata": {"namespace": "space", "name": "data"},
        "spec": {"volumeName": "pv"},
        "status": {"capacity": {"storage": "10Gi"}},
    }
    volume = {"metadata": {"name": "pv"}, "spec": {"hostPath": {"path": str(folder)}, "capacity": {"storage": "11Gi"}}}
    return {
        "nodes": {"one": NODE},
        "pods": {f"space/{item['metadata']['name']}": item for item in pods},
        "claims": {"space/data": claim},
        "volumes": {"pv": volume},
    }


MOUNTS: dict[str, Any] = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}


def test_a_sparse_file_fills_a_volume(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    with (tmp_path / "inner" / "big").open("wb") as file:
        file.truncate(8 * GIB)
    (tmp_path / "link").symlink_to("/nowhere")
    lines = kubelet.metrics(NODE, stores(tmp_path, pod("a", **MOUNTS))).splitlines()
    labels = '{namespace="space",persistentvolumeclaim="data"}'
    link = len("/nowhere")
    assert f"kubelet_volume_stats_capacity_bytes{labels} {10 * GIB}" in lines
    assert f"kubelet_volume_stats_used_bytes{labels} {8 * GIB + link}" in lines
    assert f"kubelet_volume_stats_available_bytes{labels} {2 * GIB - link}" in lines
    assert f"kubelet_volume_stats_inodes_used{labels} 3" in lines
    assert "kubelet_running_pods 1" in lines and 'kubelet_running_containers{container_state="running"} 1' in lines


@pytest.mark.parametrize("other", [pod("a", node="two", **MOUNTS), pod("a", phase="Pending", **MOUNTS), pod("a")])
def test_only_what_a_running_pod_of_the_node_mounts(tmp_path: Path, other: Object) -> None:
    assert "kubelet_volume_stats" not in kubelet.metrics(NODE, stores(tmp_path, other))


def test_only_containers_that_are_processes_have_numbers(tmp_path: Path) -> None:
    seen = {("uid-a", "main"): usage.Usage(1.5, 4096, 1024, 1700000000.0, (10, 20))}
    text = kubelet.cadvisor(NODE, stores(tmp_path, pod("a"), pod("b")), seen)
    labels = 'container="main",image="image:1",namespace="space",pod="a"'
    assert f'container_cpu_usage_seconds_total{{cpu="total",{labels}}} 1.5' in text.splitlines()
    assert f"container_memory_working_set_bytes{{{labels}}} 4096" in text.splitlines()
    assert f"container_spec_cpu_quota{{{labels}}} 50000" in text.splitlines()
    assert 'pod="b"' not in text and "machine_cpu_cores 4" in text.splitlines()


def test_containers_are_found_by_the_arguments_of_their_sandbox(tmp_path: Path) -> None:
    message = tmp_path / "pods" / "some-uid" / "messages" / "main"
    inner = "import time; [x * x for x in range(10**6)]; print(1, flush=True); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    process = subprocess.Popen([sys.executable, "-c", outer, str(message), "end"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "1\n"
        found = usage.containers(tmp_path)
        assert set(found) == {("some-uid", "main")}
        assert found[("some-uid", "main")].resident > 10**6
        assert abs(found[("some-uid", "main")].started - time.time()) < 30
        assert usage.containers(tmp_path / "other") == {}
    finally:
        for pid in usage.descendants(process.pid, processes.children()):
            subprocess.run(["kill", str(pid)], check=True)
        process.wait()


class Api:
    """Knows the token `good`; `allowed` may see metrics."""

    def __init__(self, allowed: bool = True) -> None:
        self.allowed = allowed
        self.asked: list[tuple[str, Object]] = []

    def request(self, method: str, path: str, body: Object) -> Object:
        self.asked.append((body["kind"], body["spec"]))
        if body["kind"] == "TokenReview":
            good = body["spec"]["token"] == "good"
            user = {"username": "prometheus", "uid": "1", "groups": ["system:serviceaccounts"]}
            return {"status": {"authenticated": good, **({"user": user} if good else {})}}
        return {"status": {"allowed": self.allowed}}


@pytest.mark.parametrize(
    ("header", "allowed", "status"),
    [("", True, 401), ("Basic good", True, 401), ("Bearer bad", True, 401), ("Bearer good", False, 403)],
)
def test_who_may_not_ask(header: str, allowed: bool, status: int) -> None:
    assert kubelet.Guard(Api(allowed)).status(header, "one") == status  # type: ignore[arg-type]


def test_reviews_are_kept_for_a_while() -> None:
    api, now = Api(), [0.0]
    guard = kubelet.Guard(api, lambda: now[0])  # type: ignore[arg-type]
    assert guard.status("Bearer good", "one") == 200
    right = api.asked[1][1]
    assert right["user"] == "prometheus" and right["groups"] == ["system:serviceaccounts"]
    assert right["resourceAttributes"]["subresource"] == "metrics" and right["resourceAttributes"]["name"] == "one"
    assert guard.status("Bearer good", "one") == 200 and len(api.asked) == 2
    assert guard.status("Bearer good", "two") == 200 and len(api.asked) == 3
    now[0] = 121
    assert guard.status("Bearer good", "one") == 200 and len(api.asked) == 5


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, ssl.SSLContext]]:
    pki.Authority(tmp_path / "ca", "test").issue("kubelet", "kubelet", hosts=["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca" / "kubelet.crt", tmp_path / "ca" / "kubelet.key")
    kubelets = object.__new__(kubelet.Kubelets)
    kubelets.guard, kubelets.run = kubelet.Guard(Api()), tmp_path  # type: ignore[arg-type]
    kubelets.mirrors = {word: Kept(items) for word, items in stores(tmp_path).items()}  # type: ignore[misc]
    server = kubelet.Server(("0.0.0.0", 0), context, kubelets)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], ssl.create_default_context(cafile=str(tmp_path / "ca" / "ca.crt"))
    server.shutdown()
    server.server_close()


class Kept:
    def __init__(self, items: dict[str, Object]) -> None:
        self.items = items


def ask(port: int, context: ssl.SSLContext, path: str, token: str, address: str = "127.0.0.1") -> tuple[int, str]:
    connection = http.client.HTTPSConnection(address, port, timeout=10, context=context)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_address_that_was_asked_says_which_node(served: tuple[int, ssl.SSLContext]) -> None:
    port, context = served
    status, text = ask(port, context, "/metrics", "good")
    assert status == 200 and 'kubelet_node_name{node="one"} 1' in text
    assert ask(port, context, "/metrics/cadvisor", "good")[0] == 200
    assert ask(port, context, "/metrics", "bad")[0] == 401
    assert ask(port, context, "/pods", "good")[0] == 404
    context.check_hostname = False
    assert ask(port, context, "/metrics", "good", "127.0.0.2")[0] == 503
