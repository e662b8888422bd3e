# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""From the containers' states to the pod's phase and conditions, by the kubelet's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.agent.api import now
from lab.kube import Object


@dataclass(frozen=True)
class View:
    """What the rules need to know of one container."""

    name: str
    state: Object
    last: Object
    ready: bool
    kind: str = "main"  # main, init or sidecar


def exit_code(state: Object) -> int | None:
    terminated = state.get("terminated")
    return None if terminated is None else int(terminated["exitCode"])


def initialized(views: Sequence[View]) -> bool:
    for view in views:
        if view.kind == "init" and exit_code(view.state) != 0:
            return False
        if view.kind == "sidecar" and "running" not in view.state:
            return False
    return True


def phase(policy: str, views: Sequence[View], over: bool) -> str:
    """`over`: no container will run again (the pod is being deleted or all have ended)."""
    mains = [view for view in views if view.kind == "main"]
    for view in views:
        if view.kind == "init" and exit_code(view.state) not in (None, 0) and (policy == "Never" or over):
            return "Failed"
    codes = [exit_code(view.state) for view in mains]
    if over:
        ran = all(code == 0 for code in codes)
        return "Succeeded" if ran else "Failed"
    began = [bool(view.state.get("running") or view.state.get("terminated") or view.last) for view in mains]
    if not all(began) or (not any(began) and not initialized(views)):
        return "Pending"
    if all(code is not None for code in codes) and policy != "Always":
        if all(code == 0 for code in codes):
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    return "Running"


@dataclass
class Conditions:
    """The kubelet's conditions; each keeps the time of its last change."""

    kept: dict[str, Object] = field(default_factory=dict)

    def set(self, kind: str, value: bool, reason: str = "", message: str = "") -> None:
        status = "True" if value else "False"
        before = self.kept.get(kind)
        changed = before["lastTransitionTime"] if before and before["status"] == status else now()
        entry: Object = {"type": kind, "status": status, "lastTransitionTime": changed, "reason": None, "message": None}
        if not value or reason:
            entry.update(reason=reason or None, message=message or None)
        self.kept[kind] = entry

    def update(self, pod: Object, views: Sequence[View], current: str, sandbox: bool) -> list[Object]:
        self.set("PodReadyToStartContainers", sandbox)
        done = current == "Succeeded"
        waiting = [view.name for view in views if view.kind != "main" and not initialized([view])]
        if done or not waiting:
            self.set("Initialized", True, "PodCompleted" if done else "")
        else:
            words = f"containers with incomplete status: [{' '.join(waiting)}]"
            self.set("Initialized", False, "ContainersNotInitialized", words)
        unready = [view.name for view in views if view.kind != "init" and not view.ready]
        words = f"containers with unready status: [{' '.join(unready)}]"
        if done or current == "Failed":
            reason, words = ("PodCompleted", "") if done else ("PodFailed", "")
            self.set("ContainersReady", False, reason)
            self.set("Ready", False, reason)
        elif unready:
            self.set("ContainersReady", False, "ContainersNotReady", words)
            self.set("Ready", False, "ContainersNotReady", words)
        else:
            self.set("ContainersReady", True)
            others = {entry["type"]: entry["status"] for entry in pod.get("status", {}).get("conditions", [])}
            gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates", [])]
            closed = [gate for gate in gates if others.get(gate) != "True"]
            words = (
                f'corresponding condition of pod readiness gate "{closed[0]}" does not exist or is not True.'
                if closed
                else ""
            )
            self.set("Ready", not closed, "ReadinessGatesNotReady" if closed else "", words)
        return list(self.kept.values())
