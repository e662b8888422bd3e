# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Whether Harvester has room for the machines that a cluster still lacks (private to this collection).

What cannot be read (no Longhorn, a user who may not look) is left out of the judgement, not guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ._kube_client import ApiError, KubeClient

GIB = 2**30
LAUNCHER = "virt-launcher"
_UNITS = {
    **{"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15},
    **{"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50},
}
_QUANTITY = re.compile(r"([0-9.]+(?:[eE][0-9]+)?)([A-Za-z]*)")
_WORDS = {"cpu": "CPUs", "memory": "GiB of memory", "storage": "GiB of storage"}


def quantity(value: Any) -> float:
    """A Kubernetes quantity as a number; what is none counts as nothing."""
    match = _QUANTITY.fullmatch(str(value).strip())
    return float(match[1]) * _UNITS.get(match[2], 0.0) if match else 0.0


@dataclass(frozen=True)
class Amount:
    """CPUs, and bytes of memory and storage."""

    cpu: float = 0.0
    memory: float = 0.0
    storage: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.cpu + other.cpu, self.memory + other.memory, self.storage + other.storage)

    def shown(self, name: str) -> str:
        value = getattr(self, name)
        return f"{value if name == 'cpu' else value / GIB:.0f} {_WORDS[name]}"


def missing(pools: Mapping[str, Mapping[str, Any]], quantities: Mapping[str, int]) -> tuple[Amount, dict[str, int]]:
    """What the machines need that the pools' minimum asks for and that are not there yet, and how many they are."""
    total, counts = Amount(), {}
    for name, pool in pools.items():
        count = max(0, int(pool["minimum"]) - quantities.get(name, 0))
        counts[name] = count
        total += Amount(
            count * float(pool["cpu"]), count * pool["memory_gib"] * float(GIB), count * pool["disk_gib"] * float(GIB)
        )
    return total, counts


@dataclass(frozen=True)
class Room:
    """What Harvester has left for new machines; None where it is not known."""

    cpu: float | None = None
    memory: float | None = None
    storage: float | None = None
    quota: Mapping[str, float] | None = None

    def free(self) -> dict[str, float | None]:
        """For the result: CPUs and whole GiB."""
        return {
            "cpu": None if self.cpu is None else round(self.cpu, 1),
            "memory_gib": None if self.memory is None else round(self.memory / GIB),
            "storage_gib": None if self.storage is None else round(self.storage / GIB),
        }


def judge(need: Amount, counts: Mapping[str, int], room: Room, namespace: str, replicas: int) -> list[str]:
    """One sentence for each thing there is too little of."""
    machines = ", ".join(f"{count} of {name}" for name, count in counts.items() if count)
    if not machines:
        return []
    faults = []
    mend = "Free some, add a Harvester node, or lower the pools' minimum."
    for name, have, times in (("cpu", room.cpu, 1), ("memory", room.memory, 1), ("storage", room.storage, replicas)):
        wanted = getattr(need, name) * times
        if have is not None and wanted > have:
            copies = f" ({replicas} copies of each volume)" if times > 1 else ""
            faults.append(
                f"The machines still to be made ({machines}) need {Amount(**{name: wanted}).shown(name)}{copies}, but "
                f"Harvester has {Amount(**{name: have}).shown(name)} left. {mend}"
            )
    for name, have in (room.quota or {}).items():
        wanted = getattr(need, name)
        if wanted > have:
            faults.append(
                f"The machines still to be made ({machines}) need {need.shown(name)}, but the ResourceQuota of "
                f"namespace {namespace} on Harvester leaves {Amount(**{name: max(0.0, have)}).shown(name)}. Raise the "
                "quota, or lower the pools' minimum."
            )
    return faults


def read(client: KubeClient, namespace: str) -> Room:
    """What Harvester's API says of its nodes, its volumes and the namespace's quota."""
    paths = {
        "nodes": "/api/v1/nodes",
        "pods": "/api/v1/pods?fieldSelector=status.phase!=Succeeded,status.phase!=Failed",
        "machines": "/apis/kubevirt.io/v1/virtualmachineinstances",
        "longhorn": "/apis/longhorn.io/v1beta2/namespaces/longhorn-system/nodes",
        "quota": f"/api/v1/namespaces/{namespace}/resourcequotas",
        "setting": "/apis/harvesterhci.io/v1beta1/settings/overcommit-config",
    }
    with ThreadPoolExecutor(len(paths)) as pool:
        found = dict(zip(paths, pool.map(lambda path: _optional(client, path), paths.values()), strict=True))
    percent = overcommit(found["setting"])
    nodes, pods, machines = (_items(found[name]) for name in ("nodes", "pods", "machines"))
    free = _free(nodes, pods, machines, percent) if nodes and found["pods"] is not None else None
    return Room(
        cpu=free.cpu if free else None,
        memory=free.memory if free else None,
        storage=storage(_items(found["longhorn"]), percent["storage"]),
        quota=quota(_items(found["quota"])),
    )


def _optional(client: KubeClient, path: str) -> dict[str, Any] | None:
    try:
        return client.get_or_none(path)
    except ApiError as exc:
        if exc.status == 403:
            return None
        raise


def _items(answer: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return list((answer or {}).get("items") or [])


def overcommit(setting: Mapping[str, Any] | None) -> dict[str, int]:
    """Percent of what there is that may be given away; just that where Harvester does not say."""
    text = str((setting or {}).get("value") or (setting or {}).get("default") or "")
    try:
        values = json.loads(text) if text else {}
    except ValueError:
        values = {}
    return {name: int(values.get(name) or 100) for name in _WORDS}


def _free(
    nodes: Iterable[Mapping[str, Any]],
    pods: Iterable[Mapping[str, Any]],
    machines: Iterable[Mapping[str, Any]],
    percent: Mapping[str, int],
) -> Amount:
    """What is left by what runs, in terms of machines: of what a machine is given, it requests only a part."""
    have = Amount()
    there = set()
    for node in nodes:
        if not (node.get("spec") or {}).get("unschedulable"):
            there.add(node["metadata"]["name"])
            have += _amount((node.get("status") or {}).get("allocatable") or {})
    taken = Amount()
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        # A machine's pod is counted by its machine.
        if (pod.get("spec") or {}).get("nodeName") in there and labels.get("kubevirt.io") != LAUNCHER:
            for container in pod["spec"].get("containers") or []:
                taken += _amount((container.get("resources") or {}).get("requests") or {})
    for machine in machines:
        resources = ((machine.get("spec") or {}).get("domain") or {}).get("resources") or {}
        taken += _amount({**(resources.get("limits") or {}), **(resources.get("requests") or {})})
    return Amount(
        max(0.0, have.cpu - taken.cpu) * percent["cpu"] / 100,
        max(0.0, have.memory - taken.memory) * percent["memory"] / 100,
    )


def _amount(resources: Mapping[str, Any]) -> Amount:
    return Amount(quantity(resources.get("cpu", 0)), quantity(resources.get("memory", 0)))


def storage(nodes: Iterable[Mapping[str, Any]], percent: int) -> float | None:
    """Bytes that Longhorn would still schedule, or None if it says nothing."""
    disks = [
        (disk, ((node.get("spec") or {}).get("disks") or {}).get(name) or {})
        for node in nodes
        for name, disk in ((node.get("status") or {}).get("diskStatus") or {}).items()
    ]
    if not disks:
        return None
    return sum(
        max(
            0.0,
            (float(disk.get("storageMaximum") or 0) - float(said.get("storageReserved") or 0)) * percent / 100
            - float(disk.get("storageScheduled") or 0),
        )
        for disk, said in disks
        if said.get("allowScheduling", True)
    )


def quota(quotas: Iterable[Mapping[str, Any]]) -> dict[str, float] | None:
    """What the tightest quota leaves of each thing; None without one."""
    # Not requests.cpu and requests.memory: of those a machine takes only a part (see overcommit).
    names = {"limits.cpu": "cpu", "limits.memory": "memory", "requests.storage": "storage"}
    left: dict[str, float] = {}
    for entry in quotas:
        status = entry.get("status") or {}
        hard = status.get("hard") or (entry.get("spec") or {}).get("hard") or {}
        for key, name in names.items():
            if key in hard:
                rest = quantity(hard[key]) - quantity((status.get("used") or {}).get(key, 0))
                left[name] = min(rest, left.get(name, rest))
    return left or None
