# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""One machine from its object to its node, and back."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from lab.kube import Object, Refused
from lab.rancher import driver, guests, machineconfig
from lab.rancher.driver import Unusable
from lab.rancher.loop import condition, conditions, create, finalize, set_status
from lab.rancher.world import FINALIZER, MACHINES, World, credential_of, pool_of, rke

log = logging.getLogger(__name__)
CHECK_IN = "waiting for agent to check in and apply initial plan"
PLAN = "waiting for plan to be applied"
INFRASTRUCTURE = "waiting for infrastructure ready"
NO_DRAIN = "machine.cluster.x-k8s.io/exclude-node-draining"


def step(world: World, machine: Object) -> None:
    cluster = world.cluster(machine["spec"]["clusterName"])
    if "deletionTimestamp" in machine["metadata"]:
        _end(world, machine, cluster)
    elif cluster is not None and "deletionTimestamp" not in cluster["metadata"]:
        _begin(world, machine, cluster)


def place(machine: Object) -> str:
    """Namespace and name of its virtual machine."""
    space = (machine["metadata"].get("annotations") or {}).get("lab.cattle.io/vm-namespace", "default")
    return f"{space}/{machine['metadata']['name']}"


def _begin(world: World, machine: Object, cluster: Object) -> None:
    name, uid, pool = machine["metadata"]["name"], machine["metadata"]["uid"], pool_of(cluster, machine)
    if pool is None:
        return
    if world.node(machine):
        _running(world, machine)
        return
    if place(machine) not in world.stores["vms"]:
        if world.due.over(f"machine/{uid}/retry", 0):
            _provision(world, machine, cluster, pool)
        return
    instance = world.stores["vmis"].get(place(machine))
    interfaces = ((instance or {}).get("status") or {}).get("interfaces") or [{}]
    address = str(interfaces[0].get("ipAddress") or "")
    if not address:
        world.note(machine, INFRASTRUCTURE)
        _status(
            world,
            machine,
            "Provisioning",
            condition("InfrastructureReady", False, "WaitingForInfrastructure", INFRASTRUCTURE),
        )
        return
    entry = condition("InfrastructureReady", True)
    _status(world, machine, "Provisioned", entry, infrastructureReady=True, addresses=_addresses(name, address))
    if world.faults.matches("vm_never_reports", str(pool["name"])):
        world.note(machine, CHECK_IN)
        return
    waits = _waits_for_others(world, machine, cluster, pool)
    if waits:
        world.note(machine, waits)
        return
    config = guests.agent_config(rke(cluster), machine["metadata"].get("labels") or {})
    bad = guests.refused_label(guests.node_labels(config))
    if bad:
        world.note(
            machine, f"kubelet: unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{bad}]"
        )
        return
    world.note(machine, PLAN)
    if world.due.over(f"machine/{uid}/join", world.times.join):
        version = str(cluster["spec"].get("kubernetesVersion"))
        labelled = not world.faults.matches("no_pool_label", str(pool["name"]))
        node = guests.build(machine, pool, config, address, version, labelled=labelled)
        create(world.guest, guests.NODES, node)
        world.due.forget(f"machine/{uid}")
        world.due.soon(0.2)


def _waits_for_others(world: World, machine: Object, cluster: Object, pool: Mapping[str, Any]) -> str:
    """The first control plane starts alone; others join it; workers come when it is up."""
    all_machines = world.machines(cluster["metadata"]["name"])
    planes = [one for one in all_machines if (pool_of(cluster, one) or {}).get("controlPlaneRole")]
    if any(guests.ready(world.node(one)) for one in planes):
        return ""
    first = planes[0]["metadata"]["name"] if planes else ""
    if machine["metadata"]["name"] == first and pool.get("controlPlaneRole"):
        return ""
    return f"non-ready bootstrap machine(s) {first} and join url to be available on bootstrap node"


def _provision(world: World, machine: Object, cluster: Object, pool: Mapping[str, Any]) -> None:
    name, uid = machine["metadata"]["name"], machine["metadata"]["uid"]
    template = world.stores["templates"].get(
        f"{machine['metadata']['namespace']}/{machine['spec']['infrastructureRef']['name']}"
    )
    try:
        if template is None:
            raise Unusable(f"machine template {machine['spec']['infrastructureRef']['name']} not found")
        config = machineconfig.read(template["spec"]["template"]["spec"])
        world.credentials.check(world.stores["secrets"], credential_of(cluster, pool), config.namespace)
        identity = cluster["metadata"]["name"]
        install = f"#!/bin/sh\n# the lab's Rancher: {identity} {uid}\n"
        images = world.stores["images"]
        driver.make(world.harvester, name, identity, str(pool["name"]), config, images, install)
    except (Unusable, machineconfig.BadConfig, Refused) as error:
        message = f"failed creating server [fleet-default/{name}] of kind (HarvesterMachine): {error}"
        log.warning(message)
        world.note(machine, message)
        entry = condition("InfrastructureReady", False, "CreateError", message)
        _status(world, machine, "Provisioning", entry)
        world.due.began[f"machine/{uid}/retry"] = time.monotonic() + 2
        world.due.soon(2)
        return
    world.note(machine, INFRASTRUCTURE)
    _status(
        world, machine, "Provisioning", condition("InfrastructureReady", False, "Creating", f"creating server {name}")
    )


def _addresses(name: str, address: str) -> list[Object]:
    return [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]


def _status(world: World, machine: Object, phase: str, entry: Object, **more: Any) -> None:
    status = {"phase": phase, **more, "conditions": conditions(machine, [entry])}
    set_status(world.rancher, MACHINES, machine, status)


def _running(world: World, machine: Object) -> None:
    node = world.node(machine)
    if node is None or not guests.ready(node):
        return
    world.notes.pop(machine["metadata"]["name"], None)
    reference = {"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"], "uid": node["metadata"]["uid"]}
    if (machine["spec"].get("providerID")) != node["spec"]["providerID"]:
        target = f"/apis/cluster.x-k8s.io/v1beta1/namespaces/fleet-default/machines/{machine['metadata']['name']}"
        world.rancher.merge(target, {"spec": {"providerID": node["spec"]["providerID"]}})
    entries = [condition(kind, True) for kind in ("Ready", "BootstrapReady", "InfrastructureReady", "NodeHealthy")]
    status = {
        "phase": "Running",
        "nodeRef": reference,
        "bootstrapReady": True,
        "infrastructureReady": True,
        "nodeInfo": {key: node["status"]["nodeInfo"][key] for key in _INFO},
        "conditions": conditions(machine, entries),
    }
    set_status(world.rancher, MACHINES, machine, status)


_INFO = (
    "architecture",
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
)


def _end(world: World, machine: Object, cluster: Object | None) -> None:
    name, uid = machine["metadata"]["name"], machine["metadata"]["uid"]
    whole = cluster is None or "deletionTimestamp" in cluster["metadata"]
    node = world.node(machine)
    if node is not None:
        if not whole and not _drained(world, machine):
            return
        world.guest.delete(f"{guests.NODES}/{name}")
    virtual = world.stores["vms"].get(place(machine))
    if virtual is not None:
        if "deletionTimestamp" not in virtual["metadata"]:
            _remove(world, machine, cluster, virtual)
        if (
            not world.due.over(f"machine/{uid}/orphan", world.times.orphan)
            or "deletionTimestamp" in virtual["metadata"]
        ):
            world.note(machine, "waiting for infrastructure deletion")
            return
        log.warning("%s: its virtual machine stays: no credential deletes it", name)
    if FINALIZER in (machine["metadata"].get("finalizers") or []):
        finalize(world.rancher, MACHINES, machine, [])
    world.due.forget(f"machine/{uid}")
    world.notes.pop(name, None)


def _drained(world: World, machine: Object) -> bool:
    name, uid, meta = machine["metadata"]["name"], machine["metadata"]["uid"], machine["metadata"]
    if NO_DRAIN in (meta.get("annotations") or {}):
        return True
    if not ((world.node(machine) or {}).get("spec") or {}).get("unschedulable"):
        guests.cordon(world.guest, name)
    limit = seconds(str(machine["spec"].get("nodeDrainTimeout") or "0s"))
    late = limit > 0 and world.due.over(f"machine/{uid}/drain", limit)
    if late or guests.drained(world.guest, name):
        return True
    entry = condition("DrainingSucceeded", False, "Draining", "Draining the node before deletion")
    _status(world, machine, "Deleting", entry)
    world.note(machine, "draining node")
    world.due.soon(world.times.eviction)
    return False


def _remove(world: World, machine: Object, cluster: Object | None, virtual: Object) -> None:
    reference = credential_of(cluster or {}, pool_of(cluster, machine))
    space = virtual["metadata"]["namespace"]
    try:
        world.credentials.check(world.stores["secrets"], reference, space)
        driver.remove(world.harvester, virtual)
    except (Unusable, Refused) as error:
        message = f"failed deleting server [fleet-default/{machine['metadata']['name']}]: {error}"
        world.note(machine, message)
        _status(world, machine, "Deleting", condition("InfrastructureReady", False, "DeleteError", message))
        world.due.soon(2)


def seconds(text: str) -> float:
    """Of a duration as Go writes it: 1h2m3s."""
    total, number = 0.0, ""
    for letter in text:
        if letter.isdigit() or letter == ".":
            number += letter
        else:
            total += float(number or 0) * {"h": 3600, "m": 60, "s": 1}.get(letter, 0)
            number = ""
    return total
