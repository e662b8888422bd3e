# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What Harvester's nodes and disks can take, and how much of it is left; the fault `quota_short` takes some away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.kube import Client, Object
from lab.mirror import Store
from lab.rancher.faults import Faults
from lab.rancher.loop import Due, path_of, set_status
from lab.storage import amount

NODES = "/api/v1/nodes"
DISKS = "/apis/longhorn.io/v1beta2/nodes"
GIB = 2**30
CPU, MEMORY, DISK = 62, 248, 3896  # of each of the three nodes, as lab/manifests/objects/harvester.yaml has them
RESERVED = 200 * GIB
# the reference cluster at its pools' minimum, and one of its smallest nodes
NEEDED = (3 * 8 + 4 * 4 + 4 * 4, 3 * 32 + 4 * 8 + 4 * 16, 3 * 80 + 4 * 60 + 4 * 80)
SMALLEST = (4, 8, 60)


def offered(faults: Faults, nodes: int) -> tuple[float, float, float]:
    """CPU, memory and disk (GiB) of each node."""
    short = int(faults.on("quota_short") or 0)
    if not short or not nodes:
        return CPU, MEMORY, DISK
    cpu, memory, disk = (need - short * one for need, one in zip(NEEDED, SMALLEST, strict=True))
    return cpu / nodes, memory / nodes, disk / nodes


def act(client: Client, stores: Mapping[str, Store], due: Due, faults: Faults) -> None:
    nodes = list(stores["nodes"].values())
    cpu, memory, disk = offered(faults, len(nodes))
    allocatable = {"cpu": f"{int(cpu * 1000)}m", "memory": f"{int(memory * 1024)}Mi"}
    for node in nodes:
        has = node["status"].get("allocatable") or {}
        if {key: _base(str(has.get(key, "0"))) for key in allocatable} != {
            key: _base(value) for key, value in allocatable.items()
        }:
            client.merge(f"{path_of(NODES, node)}/status", {"status": {"allocatable": allocatable}})
    # every claim has a replica on each of three nodes
    scheduled = int(sum(amount(_size(claim)) for claim in stores["claims"].values()))
    if not due.over("capacity", 0.5):
        return
    due.forget("capacity")
    for entry in stores["disks"].values():
        wanted = {"storageScheduled": scheduled, "storageMaximum": int(disk * GIB) + RESERVED}
        wanted["storageAvailable"] = wanted["storageMaximum"]
        kept = (entry.get("status") or {}).get("diskStatus") or {}
        status = {name: {**values, **wanted} for name, values in kept.items()}
        set_status(client, DISKS, entry, {"diskStatus": status})


def _base(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else amount(quantity)


def _size(claim: Object) -> str:
    return str(claim["spec"]["resources"]["requests"]["storage"])


def wants(machine: Object) -> tuple[float, float]:
    """CPU and memory (GiB) of a virtual machine or its instance."""
    spec = machine["spec"].get("template", {}).get("spec") or machine["spec"]
    domain: dict[str, Any] = spec["domain"]
    limits = (domain.get("resources") or {}).get("limits") or {}
    return _base(str(limits.get("cpu", domain.get("cpu", {}).get("cores", 1)))), amount(
        str(limits.get("memory", "0"))
    ) / GIB


def fits(machine: Object, running: list[Object], faults: Faults, nodes: int) -> str:
    """Why there is no room for one more; empty when there is."""
    cpu, memory, _ = offered(faults, nodes)
    taken = [wants(one) for one in running]
    more = wants(machine)
    for word, number, room in (("cpu", 0, cpu * nodes), ("memory", 1, memory * nodes)):
        if sum(one[number] for one in taken) + more[number] > room:
            return f"0/{nodes} nodes are available: {nodes} Insufficient {word}."
    return ""
