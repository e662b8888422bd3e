# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A Cluster's status, in the words that Rancher shows while one waits."""

from __future__ import annotations

from typing import Any

from lab.kube import Object
from lab.rancher import guests
from lab.rancher.guests import POOL
from lab.rancher.lifecycle import INFRASTRUCTURE, PLAN
from lab.rancher.loop import condition, conditions
from lab.rancher.upgrade import Upgrades
from lab.rancher.world import World, label, pool_of, pools

REGISTERED = "waiting for at least one control plane, etcd, and worker node to be registered"
WORDS = ("Created", "RKECluster", "BackingNamespaceCreated", "DefaultProjectCreated", "SystemProjectCreated")


def describe(world: World, cluster: Object, problem: str, upgrades: Upgrades) -> tuple[Object, bool]:
    """The status, and whether a control plane is up."""
    machines = world.machines(cluster["metadata"]["name"])
    planes = [one for one in machines if (pool_of(cluster, one) or {}).get("controlPlaneRole")]
    up = any(guests.ready(world.node(one)) for one in planes)
    deleting = "deletionTimestamp" in cluster["metadata"]
    waiting = "" if problem else _waiting(world, cluster, machines, upgrades)
    settled = not problem and not waiting and bool(machines) and not deleting
    before = cluster.get("status") or {}
    ready = (bool(before.get("ready")) and up and not deleting) or settled
    wanted: list[dict[str, Any]] = [condition(word, True) for word in WORDS]
    if problem:
        wanted.append(condition("Updated", False, "Error", problem))
        wanted.append(condition("Stalled", True, "Error", problem))
    else:
        wanted.append(condition("Stalled", False))
        wanted.append(condition("Updated", True) if settled else condition("Updated", "Unknown", "Waiting", waiting))
    provisioned = settled or bool(before.get("ready"))
    state = True if provisioned else "Unknown"
    wanted.append(condition("Provisioned", state, "" if provisioned else "Waiting", "" if provisioned else waiting))
    wanted.append(condition("Connected", up))
    wanted.append(condition("Ready", ready, "" if ready else "Waiting", "" if ready else problem or waiting))
    if deleting:
        wanted.append(condition("Removed", "Unknown", "Waiting", waiting or "waiting for machines to be removed"))
    status: Object = {"conditions": conditions(cluster, wanted, updated=True), "ready": ready, "agentDeployed": up}
    status["observedGeneration"] = cluster["metadata"]["generation"]
    if ready:
        status["clientSecretName"] = f"{cluster['metadata']['name']}-kubeconfig"
    return status, up


def _waiting(world: World, cluster: Object, machines: list[Object], upgrades: Upgrades) -> str:
    """What is being waited for; empty when all machines are as they should be."""
    parts = []
    for machine in machines:
        name = machine["metadata"]["name"]
        if name in upgrades.busy:
            parts.append((_tier(cluster, machine), name, upgrades.busy[name]))
        elif "deletionTimestamp" in machine["metadata"]:
            parts.append((_tier(cluster, machine), name, world.notes.get(name, "waiting for machine to be deleted")))
        elif not guests.ready(world.node(machine)) or "nodeRef" not in (machine.get("status") or {}):
            parts.append((_tier(cluster, machine), name, world.notes.get(name, INFRASTRUCTURE)))
    if not parts:
        return _short(world, cluster, machines)
    some = any(guests.ready(world.node(one)) for one in machines)
    if not some and all(text == INFRASTRUCTURE for _, _, text in parts):
        return REGISTERED
    first = "bootstrap" if not some and parts else parts[0][0]
    # Rancher names one tier at a time: what must come first
    order = {"control plane": 0, "worker": 1}
    tier = min((part[0] for part in parts), key=lambda word: order.get(word, 2))
    mine = [part for part in parts if part[0] == tier]
    names = sorted(part[1] for part in mine)
    shown = ",".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
    texts = sorted({part[2] for part in mine}, key=lambda text: (text == PLAN, text))
    return f"configuring {first if not some else tier} node(s) {shown}: {texts[0]}"


def _short(world: World, cluster: Object, machines: list[Object]) -> str:
    """Pools whose number is not right yet, and nodes of another version."""
    for pool in pools(cluster):
        has = sum(label(one, POOL) == pool["name"] for one in machines)
        wanted = pool.get("quantity")
        if wanted is not None and has != wanted:
            return f"waiting for machine deployment {cluster['metadata']['name']}-{pool['name']}: {has} of {wanted}"
    version = cluster["spec"].get("kubernetesVersion")
    for machine in machines:
        node = world.node(machine)
        if node and node["status"]["nodeInfo"]["kubeletVersion"] != version:
            name = machine["metadata"]["name"]
            return f"configuring {_tier(cluster, machine)} node(s) {name}: {PLAN}"
        if pool_of(cluster, machine) is None:
            return f"waiting for machine {machine['metadata']['name']} to be deleted"
    return "" if machines else REGISTERED


def _tier(cluster: Object, machine: Object) -> str:
    pool = pool_of(cluster, machine) or {}
    return "control plane" if pool.get("controlPlaneRole") or pool.get("etcdRole") else "worker"
