# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Phase and conditions by the kubelet's rules."""

from __future__ import annotations

import pytest

from lab.agent.status import Conditions, View, phase
from lab.kube import Object

RUNNING: Object = {"running": {"startedAt": "t"}}
WAITING: Object = {"waiting": {"reason": "ContainerCreating"}}
DONE: Object = {"terminated": {"exitCode": 0}}
FAILED: Object = {"terminated": {"exitCode": 1}}


def main(state: Object, ready: bool = False, last: Object | None = None) -> View:
    return View("main", state, last or {}, ready)


def init(state: Object) -> View:
    return View("init", state, {}, False, "init")


@pytest.mark.parametrize(
    ("policy", "views", "over", "expected"),
    [
        ("Always", [main(WAITING)], False, "Pending"),
        ("Always", [main(RUNNING)], False, "Running"),
        ("Always", [main(RUNNING), View("b", WAITING, {}, False)], False, "Pending"),
        ("Always", [main(WAITING, last=FAILED)], False, "Running"),
        ("Always", [main(DONE)], False, "Running"),
        ("OnFailure", [main(DONE)], False, "Succeeded"),
        ("OnFailure", [main(FAILED)], False, "Running"),
        ("Never", [main(FAILED)], False, "Failed"),
        ("Never", [main(FAILED), View("b", RUNNING, {}, True)], False, "Running"),
        ("Never", [main(WAITING), init(FAILED)], False, "Failed"),
        ("OnFailure", [main(WAITING), init(FAILED)], False, "Pending"),
        ("Always", [main(DONE)], True, "Succeeded"),
        ("Always", [main(FAILED), View("b", DONE, {}, False)], True, "Failed"),
        ("Always", [main(WAITING), View("s", RUNNING, {}, True, "sidecar")], False, "Pending"),
    ],
)
def test_phase(policy: str, views: list[View], over: bool, expected: str) -> None:
    assert phase(policy, views, over) == expected


def conditions(views: list[View], current: str, pod: Object | None = None) -> dict[str, Object]:
    found = Conditions().update(pod or {"spec": {}}, views, current, True)
    return {entry["type"]: entry for entry in found}


def test_a_pod_is_ready_when_all_containers_are() -> None:
    assert conditions([main(RUNNING, ready=True)], "Running")["Ready"]["status"] == "True"
    seen = conditions([main(RUNNING, ready=True), View("slow", RUNNING, {}, False)], "Running")
    assert seen["Ready"]["status"] == "False" and seen["Ready"]["message"] == "containers with unready status: [slow]"


def test_init_containers_come_first() -> None:
    seen = conditions([init(RUNNING), main(WAITING)], "Pending")
    assert seen["Initialized"]["message"] == "containers with incomplete status: [init]"
    assert conditions([init(DONE), main(WAITING)], "Pending")["Initialized"]["status"] == "True"


def test_a_readiness_gate_holds_the_pod_back() -> None:
    pod: Object = {"spec": {"readinessGates": [{"conditionType": "gate"}]}, "status": {"conditions": []}}
    seen = conditions([main(RUNNING, ready=True)], "Running", pod)
    assert seen["ContainersReady"]["status"] == "True" and seen["Ready"]["reason"] == "ReadinessGatesNotReady"
    pod["status"]["conditions"] = [{"type": "gate", "status": "True"}]
    assert conditions([main(RUNNING, ready=True)], "Running", pod)["Ready"]["status"] == "True"


def test_a_completed_pod_says_why_it_is_not_ready() -> None:
    seen = conditions([main(DONE)], "Succeeded")
    assert seen["Ready"]["reason"] == "PodCompleted" and seen["Initialized"]["status"] == "True"


def test_the_time_of_a_condition_changes_only_with_it() -> None:
    kept = Conditions({"Ready": {"type": "Ready", "status": "True", "lastTransitionTime": "before"}})
    views = [main(RUNNING, ready=True)]
    assert {e["type"]: e for e in kept.update({"spec": {}}, views, "Running", True)}["Ready"][
        "lastTransitionTime"
    ] == "before"
    views = [main(RUNNING)]
    assert {e["type"]: e for e in kept.update({"spec": {}}, views, "Running", True)}["Ready"][
        "lastTransitionTime"
    ] != "before"
