# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The program as a whole: two replicas, of which one acts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import controller
import storage_autoscaler
from ansible_collections.harvester_rke2.platform.tests.unit.storage_autoscaler.fakes import (
    FakePrometheus,
    FakeStorageApi,
)
from ansible_collections.harvester_rke2.platform.tests.unit.storage_autoscaler.settings import settings
from ansible_collections.harvester_rke2.platform.tests.unit.waiting import until

# The address of the pod's account is fixed; the wrapper only puts the test's in its place.
WRAPPER = """
import pathlib, runpy, sys
sys.path[:0] = sys.argv[1:3]
import controller
controller.Api.__init__.__defaults__ = (pathlib.Path(sys.argv[3]), 5.0)
runpy.run_path(sys.argv[2] + "/storage_autoscaler.py", run_name="__main__")
"""


def start(fake: FakeStorageApi, policies: Path, name: str) -> subprocess.Popen[str]:
    """A replica."""
    folders = [str(Path(module.__file__ or "").parent) for module in (controller, storage_autoscaler)]
    return subprocess.Popen(
        [sys.executable, "-c", WRAPPER, *folders, str(fake.account)],
        env={
            "PATH": os.environ["PATH"],
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(fake.port),
            "POLICIES": str(policies),
            "POD_NAME": name,
            "POD_NAMESPACE": "storage-autoscaler",
            "PORT": "0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_other_takes_over(fake: FakeStorageApi, prometheus: FakePrometheus, tmp_path: Path) -> None:
    """The first stops cleanly and gives the lease back; the second grows what has become full, and nothing twice."""
    policies = tmp_path / "policies.json"
    policies.write_text(json.dumps(settings(prometheus.url, interval_seconds=1)))
    fake.put_claim("data-0")
    prometheus.put("data-0", 0.85)
    one = start(fake, policies, "one")
    two = None
    try:
        until(lambda: fake.size("data-0") == "15Gi", 10)
        two = start(fake, policies, "two")
        until(lambda: two.stdout is not None and "started" in two.stdout.readline(), 10)
        until(lambda: fake.events, 10)
        one.send_signal(signal.SIGTERM)
        output, _ = one.communicate(timeout=15)
        assert one.returncode == 0
        messages = [json.loads(line)["msg"] for line in output.splitlines()]
        assert messages == ["started", "became the leader", "grew the volume", "released the lease", "stopped"]
        fake.resize()
        prometheus.put("data-0", 0.85, 15)
        fake.put_claim("data-1")
        prometheus.put("data-1", 0.85)
        until(lambda: fake.size("data-1") == "15Gi", 10)
        assert fake.leases["storage-autoscaler"]["spec"]["holderIdentity"].startswith("two_")
        assert fake.size("data-0") == "15Gi"
    finally:
        for process in (one, two):
            if process is not None:
                process.kill()
                process.communicate()


def test_a_file_that_cannot_be(fake: FakeStorageApi, tmp_path: Path) -> None:
    """It is named, and the program ends with its own exit code."""
    policies = tmp_path / "policies.json"
    policies.write_text(json.dumps(settings("prometheus")))
    process = start(fake, policies, "one")
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "must begin with http" in json.loads(output)["error"]
