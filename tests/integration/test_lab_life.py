# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The life of a lab: started twice, killed while it starts, its parts killed, stopped. On a lab of its own, "life"."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from lab import parts, processes
from lab.kube import Client
from lab.netns import Namespace, available
from lab.settings import REPOSITORY, Lab
from lab.up import SEEDED

LAB = Lab("life")
SEED = int(os.environ.get("LAB_SEED", random.SystemRandom().randrange(10**6)))

pytestmark = pytest.mark.skipif(
    not available() or bool(parts.missing_system()) or any(parts.find(part) is None for part in parts.table().values()),
    reason="needs namespaces, the system's programs and the lab's parts",
)


def lab(*words: str, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LAB_NAME": LAB.name, "LAB_NODES": "seeded"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", *words],
        env=environment,
        cwd=REPOSITORY,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        said = "killed"
    return subprocess.CompletedProcess(words, process.returncode, said)


@pytest.fixture(scope="module", autouse=True)
def stopped() -> Iterator[None]:
    lab("down", "--purge")
    yield
    lab("down", "--purge")


def test_a_start_killed_at_any_moment_is_finished_by_the_next() -> None:
    print(f"LAB_SEED={SEED}")
    moments = random.Random(SEED)
    for _ in range(6):
        lab("up", seconds=moments.uniform(0.2, 12))
    done = lab("up")
    assert done.returncode == 0, done.stdout
    assert lab("status").returncode == 0


def test_a_second_start_changes_nothing() -> None:
    before = {file.name: file.read_text() for file in LAB.path("run").glob("*.json")}
    began = time.monotonic()
    assert lab("up").returncode == 0
    assert {file.name: file.read_text() for file in LAB.path("run").glob("*.json")} == before
    assert time.monotonic() - began < 30


def test_a_start_killed_among_the_nodes_makes_the_rest_and_a_node_deleted_later_stays_deleted() -> None:
    client = Client(LAB.path("kubeconfig", "cluster.yaml"))
    names = {item["metadata"]["name"] for item in client.request("GET", "/api/v1/nodes")["items"]}
    gone = sorted(names)[:3]
    for name in gone:
        client.delete(f"/api/v1/nodes/{name}")
    assert lab("up").returncode == 0
    assert {item["metadata"]["name"] for item in client.request("GET", "/api/v1/nodes")["items"]} == names - set(gone)
    LAB.path(SEEDED).unlink()
    assert lab("up").returncode == 0
    assert {item["metadata"]["name"] for item in client.request("GET", "/api/v1/nodes")["items"]} == names


def test_killed_parts_are_seen_and_started_again_with_their_data() -> None:
    client = Client(LAB.path("kubeconfig", "cluster.yaml"))
    client.request("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"name": "kept"}})
    for name in ("etcd", "kube-apiserver-cluster", "kwok", "emulator", "forwarder"):
        os.kill(json.loads(processes.record(LAB, name).read_text())["pid"], signal.SIGKILL)
    time.sleep(0.3)
    status = lab("status")
    assert status.returncode == 1 and "down: forwarder, etcd, kube-apiserver-cluster" in status.stdout
    assert lab("up").returncode == 0
    assert Client(LAB.path("kubeconfig", "cluster.yaml")).get("/api/v1/namespaces/default/configmaps/kept") is not None


def test_nothing_is_left() -> None:
    ours = set(Namespace(LAB).pids()) | set(processes.marked(LAB))
    assert ours
    assert lab("down", "--purge").returncode == 0
    assert not {pid for pid in ours if processes.start_time(pid) is not None}
    assert not processes.marked(LAB) and not Namespace(LAB).exists
    assert not LAB.directory.exists()
    assert LAB.namespace not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert str(LAB.directory) not in subprocess.run(["mount"], capture_output=True, text=True, check=True).stdout
