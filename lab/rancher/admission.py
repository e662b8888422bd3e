# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What Rancher's webhook refuses. What its controllers find wrong is accepted here and stands in conditions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lab.kube import Object

NAME = re.compile(r"[a-z0-9][-a-z0-9]*")
LEGACY = re.compile(r"c-[a-z0-9]{5}")
CREATOR = "field.cattle.io/creatorId"
SYSTEM_AGENT = "CATTLE_AGENT_VAR_DIR"
DIRECTORIES = {"systemAgent": "SystemAgent", "provisioning": "Provisioning", "k8sDistro": "K8s Distro"}


class Refusal(Exception):
    def __init__(self, message: str, code: int = 422, reason: str = "Invalid") -> None:
        super().__init__(message)
        self.status = {"status": "Failure", "message": message, "code": code, "reason": reason}


def judge(request: Mapping[str, Any]) -> None:
    """Raise the refusal of an AdmissionRequest."""
    operation = request["operation"]
    if operation not in {"CREATE", "UPDATE"}:
        return
    new: Object = request["object"]
    old: Object = request.get("oldObject") or {}
    if (new.get("metadata") or {}).get("deletionTimestamp"):
        return
    _creator(operation, old, new)
    if request["kind"]["kind"] == "Cluster":
        _name(operation, new)
        _pools(operation, new)
        _directories(operation, old, new)


def _creator(operation: str, old: Object, new: Object) -> None:
    def of(item: Object) -> str:
        return str(((item.get("metadata") or {}).get("annotations") or {}).get(CREATOR) or "")

    if operation == "UPDATE" and of(new) and of(new) != of(old):
        raise Refusal(f"annotation {CREATOR} cannot be modified or added after creation", 422)


def _name(operation: str, cluster: Object) -> None:
    name, space = cluster["metadata"].get("name", ""), cluster["metadata"].get("namespace")
    if operation != "CREATE" or (name == "local" and space == "fleet-local"):
        return
    bad = len(name) > 63 or not NAME.fullmatch(name) or len(name) < 2 or name == "local" or LEGACY.fullmatch(name)
    if bad:
        raise Refusal(
            'cluster name must be 63 characters or fewer, must not begin with a hyphen, cannot be "local" nor of the '
            'form "c-xxxxx", and can only contain lowercase alphanumeric characters or hyphens'
        )


def config(cluster: Object) -> dict[str, Any]:
    return dict((cluster.get("spec") or {}).get("rkeConfig") or {})


def _pools(operation: str, cluster: Object) -> None:
    if operation == "CREATE" and any(len(pool["name"]) > 63 for pool in config(cluster).get("machinePools") or []):
        raise Refusal("pool name must be 63 characters or fewer")


def _directories(operation: str, old: Object, new: Object) -> None:
    names = [entry["name"] for entry in (new.get("spec") or {}).get("agentEnvVars") or []]
    before = [entry["name"] for entry in (old.get("spec") or {}).get("agentEnvVars") or []]
    if names.count(SYSTEM_AGENT) > before.count(SYSTEM_AGENT):
        message = f"{SYSTEM_AGENT} cannot be set in agentEnvVars: use dataDirectories.systemAgent"
        raise Refusal(message, 400, "BadRequest")
    wanted = config(new).get("dataDirectories") or {}
    if operation == "UPDATE":
        kept = config(old).get("dataDirectories") or {}
        for field, title in DIRECTORIES.items():
            if (wanted.get(field) or "") != (kept.get(field) or ""):
                raise Refusal(f"{title} data directory cannot be changed after cluster creation", 400, "BadRequest")
        return
    paths = [str(path) for path in wanted.values() if path]
    for path in paths:
        if not path.startswith("/") or "$" in path or "`" in path:
            raise Refusal(f"data directory {path!r} must be an absolute path without expressions", 400, "BadRequest")
        if any(other == path or other.startswith(f"{path.rstrip('/')}/") for other in _others(paths, path)):
            raise Refusal(f"data directory {path!r} equals or holds another one", 400, "BadRequest")


def _others(paths: list[str], path: str) -> list[str]:
    rest = list(paths)
    rest.remove(path)
    return rest
