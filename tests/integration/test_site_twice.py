# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What the second run of the site (`tests/tools/site-twice`, which `make integration` begins with) says of itself."""

from __future__ import annotations

import collections
import json

import pytest

from lab.settings import REPOSITORY, Lab

REPORT = REPOSITORY / ".run" / f"{Lab.from_environment().name}-second" / "report.json"
ROLES = "harvester_rke2.platform."
WAIT = "Wait until the services are ready"  # one for all services of a phase

pytestmark = pytest.mark.skipif(not REPORT.exists(), reason=f"tests/tools/site-twice has not written {REPORT}")


def test_an_unchanged_service_costs_at_most_three_module_executions() -> None:
    executions: collections.Counter[str] = collections.Counter()
    service = ""
    for task in json.loads(REPORT.read_text())["tasks"]:
        if task["task"] == WAIT:
            continue
        role = task["role"].removeprefix(ROLES)
        # A service's role hands over to the role `service`, which runs most of its tasks.
        service = service if role == "service" else role
        executions[service] += task["module_executions"]
    # Phase 0 makes the cluster and is no service.
    services = {path.parents[1].name for path in REPOSITORY.glob("roles/*/meta/service.yml")}
    of_services = {name: executions[name] for name in services}
    assert of_services["vault"] >= 1 and max(of_services.values()) <= 3, of_services
