# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Fault 16: helm is killed while it installs, and while it upgrades; Helm itself refuses such a release for ever."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fault._site import Running, Site, site

RELEASE, NAMESPACE = "cert-manager", "cert-manager"
PHASES = ("--tags", "phase0,phase1")
UPGRADE = ("-e", '{"cert_manager_values": {"global": {"logLevel": 3}}}')

# Several whole runs a test, on whatever machine this is.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    where = site()
    where.empty()
    yield where


def revisions(lab: Site) -> dict[int, str]:
    """Of the release: revision to status, as Helm's own records say."""
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets"
    found = lab.cluster.request("GET", path, query={"labelSelector": f"owner=helm,name={RELEASE}"})["items"]
    labels: list[dict[str, Any]] = [item["metadata"]["labels"] for item in found]
    return {int(label["version"]): label["status"] for label in labels}


def killed_while(lab: Site, status: str, run: Running) -> str:
    """Kill the run, helm with it, as soon as the release has this status."""
    while run.process.poll() is None:
        if status in revisions(lab).values():
            task = run.kill()
            run.finish()
            return task
        time.sleep(0.02)
    raise AssertionError(f"the release was never {status}: {run.finish().tail}")


def refused_by_helm(lab: Site) -> str:
    """What Helm says to the next upgrade."""
    chart = next(iter(sorted((lab.directory / "charts").glob(f"{RELEASE}*"))))
    words = ["--kubeconfig", lab.kubeconfig("cluster"), "-n", NAMESPACE, "upgrade", "--install", RELEASE, str(chart)]
    done = subprocess.run(
        [str(lab.directory / "bin/helm"), *words, "--dry-run=server"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize(("status", "values"), [("pending-install", ()), ("pending-upgrade", UPGRADE)])
def test_helm_killed_the_next_run_recovers_the_release(lab: Site, status: str, values: tuple[str, ...]) -> None:
    task = killed_while(lab, status, lab.start(*PHASES, *values))
    assert "Install or upgrade the charts" in task
    left = revisions(lab)
    assert left[max(left)] == status, "helm has gone on"
    assert "another operation (install/upgrade/rollback) is in progress" in refused_by_helm(lab)
    checked = lab.run(*PHASES, *values, "--check", "--diff")
    assert checked.returncode == 0 and f"status: {status}" in checked.output, checked.tail
    assert revisions(lab) == left, "check mode has recovered it"
    run = lab.run(*PHASES, *values, "-v")
    assert run.returncode == 0 and f"recovered: {status}" in run.output, run.tail
    found = revisions(lab)
    assert found[max(found)] == "deployed" and list(found.values()).count("deployed") == 1, found
    lab.again(*PHASES, *values)
