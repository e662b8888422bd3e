# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A cluster's pools: machine templates, machine deployments, machines made and taken, rolls."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from typing import Any

from lab.kube import Object
from lab.rancher import guests, machineconfig, plan, tokens
from lab.rancher.guests import CLUSTER, POOL, ROLES
from lab.rancher.loop import create, path, set_status
from lab.rancher.settings import FLEET
from lab.rancher.world import CONFIGS, DEPLOYMENTS, FINALIZER, MACHINES, TEMPLATES, World, label, pools

log = logging.getLogger(__name__)
TRUSTED_FOR = 10.0  # seconds that a machine just made may be missing in our copy
MARKED = "cluster.x-k8s.io/delete-machine"


def safe(name: str, limit: int = 63) -> str:
    """Kubernetes' limit kept, and still one name."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:5]
    return f"{name[: limit - 6].rstrip('-')}-{digest}"


class Pools:
    def __init__(self) -> None:
        self.made: dict[str, tuple[float, str, str]] = {}  # machine: when, cluster/pool, template
        self.ended: dict[str, float] = {}

    def act(self, world: World, cluster: Object) -> None:
        name = cluster["metadata"]["name"]
        wanted = [pool for pool in pools(cluster) if pool.get("quantity") != 0]
        names = {pool["name"] for pool in pools(cluster)}
        for pool in wanted:
            self._pool(world, cluster, pool)
        for machine in world.machines(name):
            pool_name = label(machine, POOL)
            empty = pool_name in names and pool_name not in {pool["name"] for pool in wanted}
            if pool_name not in names or empty:
                self._delete(world, machine["metadata"]["name"])
        for key, deployment in world.stores["deployments"].items():
            belongs = deployment["spec"]["clusterName"] == name
            if belongs and label(deployment, POOL) not in {pool["name"] for pool in wanted}:
                world.rancher.delete(path(DEPLOYMENTS, *key.split("/", 1)))

    def _pool(self, world: World, cluster: Object, pool: Mapping[str, Any]) -> None:
        name, pool_name = cluster["metadata"]["name"], str(pool["name"])
        config = world.stores["configs"][f"{FLEET}/{pool['machineConfigRef']['name']}"]
        _own(world, cluster, config)
        deployment = safe(f"{name}-{pool_name}")
        template = safe(f"{deployment}-{machineconfig.digest(deployment, config)}")
        _template(world, cluster, pool, config, template)
        members = self._members(world, cluster, pool_name)
        quantity = pool.get("quantity")
        kept = world.stores["deployments"].get(f"{FLEET}/{deployment}")
        if quantity is None:
            # Rancher leaves the number alone then: one at first, later whatever is there
            quantity = int((kept or {"spec": {"replicas": 1}})["spec"].get("replicas") or 1)
        _deployment(world, cluster, pool, deployment, template, quantity, kept)
        _progress(world, kept, members, template, quantity)
        if pool.get("paused"):
            return
        rolling = pool.get("rollingUpdate") or {}
        steps = plan.pool_steps(members, template, quantity, rolling.get("maxSurge"), rolling.get("maxUnavailable"))
        for _ in range(steps.create):
            self._make(world, cluster, pool, config, deployment, template)
        for machine in steps.delete:
            self._delete(world, machine)

    def _members(self, world: World, cluster: Object, pool: str) -> list[plan.Member]:
        name = cluster["metadata"]["name"]
        members = []
        for machine in world.machines(name, pool):
            meta, node = machine["metadata"], world.node(machine)
            members.append(
                plan.Member(
                    name=meta["name"],
                    template=machine["spec"]["infrastructureRef"]["name"],
                    created=meta["creationTimestamp"],
                    ready=guests.ready(node) and "nodeRef" in (machine.get("status") or {}),
                    deleting="deletionTimestamp" in meta or meta["name"] in self.ended,
                    marked=MARKED in (meta.get("annotations") or {}),
                )
            )
        known = {member.name for member in members}
        for machine_name, (when, group, template) in list(self.made.items()):
            if machine_name in known or when + TRUSTED_FOR < time.monotonic():
                del self.made[machine_name]
            elif group == f"{name}/{pool}":
                members.append(plan.Member(machine_name, template))
        self.ended = {one: when for one, when in self.ended.items() if when + TRUSTED_FOR > time.monotonic()}
        return members

    def _delete(self, world: World, machine: str) -> None:
        found = world.stores["machines"].get(f"{FLEET}/{machine}")
        if machine in self.ended or (found and "deletionTimestamp" in found["metadata"]):
            return
        self.ended[machine] = time.monotonic()
        log.info("machine %s is to go", machine)
        world.rancher.delete(path(MACHINES, FLEET, machine))

    def _make(
        self, world: World, cluster: Object, pool: Mapping[str, Any], config: Object, deployment: str, template: str
    ) -> None:
        name = cluster["metadata"]["name"]
        letters = hashlib.sha256(template.encode()).hexdigest()[:5]
        machine = safe(f"{deployment}-{letters}-{tokens.word(5)}")
        body = _machine(machine, cluster, pool, deployment, template)
        space, size = str(config.get("vmNamespace") or "default"), _size(config)
        body["metadata"]["annotations"] |= {"lab.cattle.io/vm-namespace": space, "lab.cattle.io/size": size}
        if create(world.rancher, MACHINES, body):
            self.made[machine] = (time.monotonic(), f"{name}/{pool['name']}", template)


def _size(config: Object) -> str:
    """CPU, memory and disk in GiB, for the node that the machine becomes."""
    try:
        read = machineconfig.read(config)
    except machineconfig.BadConfig:
        return "1,1,1"
    return f"{read.cpu},{read.memory},{read.disks[0].size}"


def labels_of(cluster: Object, pool: Mapping[str, Any], deployment: str) -> dict[str, str]:
    name = cluster["metadata"]["name"]
    own = {
        "cluster.x-k8s.io/cluster-name": name,
        "cluster.x-k8s.io/deployment-name": deployment,
        CLUSTER: name,
        POOL: str(pool["name"]),
        "cattle.io/os": "linux",
    }
    own |= {key: str(value) for key, value in (pool.get("labels") or {}).items()}
    own |= {word: "true" for role, word in ROLES.items() if pool.get(role)}
    if pool.get("controlPlaneRole"):
        own["cluster.x-k8s.io/control-plane"] = "true"
    return own


def _spec(cluster: Object, pool: Mapping[str, Any], template: str) -> Object:
    name = cluster["metadata"]["name"]
    bootstrap = {"apiVersion": "rke.cattle.io/v1", "kind": "RKEBootstrapTemplate", "namespace": FLEET}
    infrastructure = {"apiVersion": "rke-machine.cattle.io/v1", "kind": "HarvesterMachineTemplate", "namespace": FLEET}
    timeout = pool.get("drainBeforeDeleteTimeout")
    return {
        "clusterName": name,
        "bootstrap": {"configRef": {**bootstrap, "name": safe(f"{name}-bootstrap-template")}},
        "infrastructureRef": {**infrastructure, "name": template},
        **({"nodeDrainTimeout": timeout} if timeout else {}),
    }


def _annotations(pool: Mapping[str, Any], template: str) -> dict[str, str]:
    drain = {} if pool.get("drainBeforeDelete") else {"machine.cluster.x-k8s.io/exclude-node-draining": "true"}
    return {"cluster.x-k8s.io/cloned-from-name": template, **drain}


def _machine(name: str, cluster: Object, pool: Mapping[str, Any], deployment: str, template: str) -> Object:
    return {
        "apiVersion": "cluster.x-k8s.io/v1beta1",
        "kind": "Machine",
        "metadata": {
            "name": name,
            "namespace": FLEET,
            "labels": labels_of(cluster, pool, deployment),
            "annotations": _annotations(pool, template),
            "finalizers": [FINALIZER],
        },
        "spec": _spec(cluster, pool, template),
    }


def _deployment(
    world: World,
    cluster: Object,
    pool: Mapping[str, Any],
    name: str,
    template: str,
    quantity: int,
    kept: Object | None,
) -> None:
    labels = labels_of(cluster, pool, name)
    rolling = {key: value for key, value in (pool.get("rollingUpdate") or {}).items() if value is not None}
    extra = {str(key): str(value) for key, value in (pool.get("machineDeploymentLabels") or {}).items()}
    body: Object = {
        "apiVersion": "cluster.x-k8s.io/v1beta1",
        "kind": "MachineDeployment",
        "metadata": {
            "name": name,
            "namespace": FLEET,
            "labels": {**labels, **extra},
            "annotations": dict(pool.get("machineDeploymentAnnotations") or {}),
            "ownerReferences": [owner(cluster)],
        },
        "spec": {
            "clusterName": cluster["metadata"]["name"],
            "replicas": quantity,
            "selector": {"matchLabels": {"cluster.x-k8s.io/deployment-name": name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"deletePolicy": "Oldest", **rolling}},
            "template": {
                "metadata": {"labels": labels, "annotations": _annotations(pool, template)},
                "spec": _spec(cluster, pool, template),
            },
        },
    }
    if kept is None:
        create(world.rancher, DEPLOYMENTS, body)
        return
    same = kept["spec"] == body["spec"]
    meta = kept["metadata"]
    same = same and (meta.get("annotations") or {}) == body["metadata"]["annotations"]
    if not same or (meta.get("labels") or {}) != body["metadata"]["labels"]:
        body["metadata"]["resourceVersion"] = meta["resourceVersion"]
        world.rancher.request("PUT", path(DEPLOYMENTS, FLEET, name), body)


def _progress(world: World, kept: Object | None, members: list[plan.Member], template: str, quantity: int) -> None:
    if kept is None:
        return
    alive = [member for member in members if not member.deleting]
    ready = sum(member.ready for member in alive)
    status: dict[str, Any] = {
        "replicas": len(alive),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "updatedReplicas": sum(member.template == template for member in alive),
        "unavailableReplicas": max(0, quantity - ready),
        "phase": "Running"
        if ready == quantity == len(alive)
        else "ScalingUp"
        if len(alive) <= quantity
        else "ScalingDown",
        "observedGeneration": kept["metadata"]["generation"],
    }
    set_status(world.rancher, DEPLOYMENTS, kept, status)


def _template(world: World, cluster: Object, pool: Mapping[str, Any], config: Object, name: str) -> None:
    if f"{FLEET}/{name}" in world.stores["templates"]:
        return
    annotations = {
        "cluster.x-k8s.io/cloned-from-groupkind": "HarvesterConfig.rke-machine-config.cattle.io",
        "cluster.x-k8s.io/cloned-from-name": config["metadata"]["name"],
    }
    spec = {key: value for key, value in config.items() if key not in machineconfig.BESIDE}
    body = {
        "apiVersion": "rke-machine.cattle.io/v1",
        "kind": "HarvesterMachineTemplate",
        "metadata": {
            "name": name,
            "namespace": FLEET,
            "annotations": annotations,
            "labels": {CLUSTER: cluster["metadata"]["name"], POOL: str(pool["name"])},
            "ownerReferences": [owner(cluster)],
        },
        "spec": {"clusterName": cluster["metadata"]["name"], "template": {"spec": spec}},
    }
    create(world.rancher, TEMPLATES, body)


def owner(cluster: Object) -> Object:
    return {
        "apiVersion": "provisioning.cattle.io/v1",
        "kind": "Cluster",
        "name": cluster["metadata"]["name"],
        "uid": cluster["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned_by_other(cluster: Object, config: Object) -> str:
    for one in config["metadata"].get("ownerReferences") or []:
        if one.get("controller") and one.get("uid") != cluster["metadata"]["uid"]:
            return f"{one['kind']} {one['name']}"
    return ""


def _own(world: World, cluster: Object, config: Object) -> None:
    """A machine config in use belongs to its cluster, and goes with it."""
    owners = config["metadata"].get("ownerReferences") or []
    if not any(one.get("uid") == cluster["metadata"]["uid"] for one in owners):
        body = {"metadata": {"ownerReferences": [*owners, owner(cluster)]}}
        world.rancher.merge(path(CONFIGS, FLEET, config["metadata"]["name"]), body)
