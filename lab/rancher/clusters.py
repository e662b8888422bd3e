# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A provisioning Cluster: what is wrong with it, its pools, its upgrade, its state and its end."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lab.kube import Object, Refused
from lab.rancher import lifecycle, tokens
from lab.rancher.downstream import Downstream
from lab.rancher.guests import POOL
from lab.rancher.loop import create, finalize, path, set_status
from lab.rancher.pools import Pools, owned_by_other
from lab.rancher.settings import FLEET, RELEASES
from lab.rancher.snapshots import Snapshots
from lab.rancher.state import connected
from lab.rancher.status import describe
from lab.rancher.upgrade import Upgrades
from lab.rancher.wipe import Wipe
from lab.rancher.world import (
    CLUSTER_FINALIZER,
    CLUSTERS,
    DEPLOYMENTS,
    MACHINES,
    MANAGEMENT,
    TEMPLATES,
    World,
    credential_of,
    label,
    pool_of,
    pools,
    rke,
)

log = logging.getLogger(__name__)
REFERENCE = re.compile(r"secret://([^:]+):(.+)")
AUTHORIZED = ("v2prov-secret-authorized-for-cluster", "rke.cattle.io/object-authorized-for-clusters")


class Clusters:
    def __init__(self, wipe: Wipe | None = None) -> None:
        self.wipe = wipe
        self.pools = Pools()
        self.upgrades = Upgrades()
        self.snapshots = Snapshots()
        self.downstream = Downstream()
        self.workers = ThreadPoolExecutor(6)

    def act(self, world: World) -> None:
        for cluster in list(world.stores["clusters"].values()):
            if not rke(cluster):
                continue
            try:
                self._cluster(world, cluster)
            except Refused as error:
                log.warning("%s: %s", cluster["metadata"]["name"], error)
                world.due.soon(0.5)

        def one(machine: Object) -> None:
            try:
                lifecycle.step(world, machine)
            except Refused as error:
                log.warning("%s: %s", machine["metadata"]["name"], error)
                world.due.soon(0.5)

        list(self.workers.map(one, world.stores["machines"].values()))

    def _cluster(self, world: World, cluster: Object) -> None:
        meta = cluster["metadata"]
        if "deletionTimestamp" in meta:
            self._end(world, cluster)
            return
        identity = (cluster.get("status") or {}).get("clusterName")
        if not identity:
            self._register(world, cluster)
            return
        problem = "; ".join(problems(world, cluster))
        if not problem:
            self.pools.act(world, cluster)
            self.upgrades.act(world, cluster)
            self.snapshots.act(world, cluster)
        status, up = describe(world, cluster, problem, self.upgrades)
        set_status(world.rancher, CLUSTERS, cluster, status)
        self._connect(world, identity, cluster, up)
        if up:
            self.downstream.act(world, cluster)

    def _register(self, world: World, cluster: Object) -> None:
        """Known to Rancher from now on, under an id of its own."""
        meta = cluster["metadata"]
        if self.wipe:
            self.wipe.remember()
        finalize(world.rancher, CLUSTERS, cluster, sorted({*(meta.get("finalizers") or []), CLUSTER_FINALIZER}))
        identity = f"c-m-{tokens.word(8)}"
        spec = {"displayName": meta["name"], "fleetWorkspaceName": FLEET}
        body = {"apiVersion": "management.cattle.io/v3", "kind": "Cluster", "metadata": {"name": identity}}
        create(world.rancher, MANAGEMENT, {**body, "spec": spec, "status": {"driver": "rke2", "provider": "rke2"}})
        set_status(world.rancher, CLUSTERS, cluster, {"clusterName": identity, "fleetWorkspaceName": FLEET})

    def _connect(self, world: World, identity: str, cluster: Object, up: bool) -> None:
        found = world.stores["management"].get(identity)
        if found is None:
            return
        count = len([one for one in world.machines(cluster["metadata"]["name"]) if world.node(one)])
        status = found.get("status") or {}
        if connected(found) != up or status.get("nodeCount") != count:
            words = [{"type": kind, "status": str(up)} for kind in ("Connected", "Ready")]
            version = {"gitVersion": cluster["spec"].get("kubernetesVersion")}
            body = {"status": {"conditions": words, "nodeCount": count, "version": version}}
            world.rancher.merge(path(MANAGEMENT, None, identity), body)

    def _end(self, world: World, cluster: Object) -> None:
        """Workers first, then the others; then what belongs to the cluster; at last the cluster itself."""
        name, meta = cluster["metadata"]["name"], cluster["metadata"]
        machines = world.machines(name)
        workers = [one for one in machines if not (pool_of(cluster, one) or {}).get("controlPlaneRole")]
        for machine in workers or machines:
            if "deletionTimestamp" not in machine["metadata"]:
                world.rancher.delete(path(MACHINES, FLEET, machine["metadata"]["name"]))
        status, _ = describe(world, cluster, "", self.upgrades)
        set_status(world.rancher, CLUSTERS, cluster, status)
        if machines:
            return
        others = [one for one in world.stores["clusters"].values() if rke(one) and one["metadata"]["name"] != name]
        if self.wipe and not others and not self.wipe.act() and not world.due.over(f"wipe/{name}", 30):
            world.due.soon(1)
            return
        world.due.forget(f"wipe/{name}")
        for base, word in ((DEPLOYMENTS, "deployments"), (TEMPLATES, "templates")):
            for item in world.stores[word].values():
                mine = item["spec"]["clusterName"] == name
                if mine:
                    world.rancher.delete(path(base, FLEET, item["metadata"]["name"]))
        identity = (cluster.get("status") or {}).get("clusterName")
        if identity:
            world.rancher.delete(path(MANAGEMENT, None, identity))
        kept = [one for one in meta.get("finalizers") or [] if one != CLUSTER_FINALIZER]
        finalize(world.rancher, CLUSTERS, cluster, kept)
        self.downstream.forget(world, cluster)
        self.snapshots.forget(world, cluster)


def problems(world: World, cluster: Object) -> Iterator[str]:
    """What Rancher's controllers find wrong, in conditions, long after the webhook let it pass."""
    version = str((cluster.get("spec") or {}).get("kubernetesVersion") or "")
    if version not in RELEASES:
        yield f"no release found for kubernetes version {version!r}"
    seen: set[str] = set()
    for pool in pools(cluster):
        name, reference = pool["name"], pool.get("machineConfigRef") or {}
        if pool.get("quantity") == 0:
            continue
        if not name or not reference.get("name") or not reference.get("kind"):
            yield f"invalid machinePool [{name}] missing name or valid config"
            continue
        if not any(pool.get(role) for role in ("etcdRole", "controlPlaneRole", "workerRole")):
            yield f"at least one role of etcd, control-plane or worker must be assigned to machinePool [{name}]"
        if name in seen:
            yield f"duplicate machinePool name [{name}] used"
        seen.add(name)
        config = world.stores["configs"].get(f"{FLEET}/{reference['name']}")
        if config is None:
            yield f'harvesterconfigs.rke-machine-config.cattle.io "{reference["name"]}" not found'
        elif other := owned_by_other(cluster, config):
            yield f"can not use {FLEET}/{reference['name']} because it is already owned by {other}"
        secret = credential_of(cluster, pool)
        found = secret.replace(":", "/", 1) if ":" in secret else f"{FLEET}/{secret}"
        # a cluster that runs already goes on without, until it needs a machine
        missing = found not in world.stores["secrets"]
        if missing and not any(label(one, POOL) == name for one in world.machines(cluster["metadata"]["name"])):
            yield f'secrets "{found.rsplit("/", 1)[1]}" not found'
    yield from _secrets(world, cluster)


def _secrets(world: World, cluster: Object) -> Iterator[str]:
    """Secrets that the machines' configuration names must exist and be meant for this cluster."""
    for word in _strings([rke(cluster).get("machineSelectorConfig"), rke(cluster).get("machineGlobalConfig")]):
        match = REFERENCE.fullmatch(word)
        if match:
            yield from _secret(world, cluster, f"{match[1]}/{match[2]}", authorized=True)
    for entry in ((rke(cluster).get("registries") or {}).get("configs") or {}).values():
        for field in ("authConfigSecretName", "tlsSecretName"):
            if entry and entry.get(field):
                yield from _secret(world, cluster, f"{FLEET}/{entry[field]}", authorized=False)


def _secret(world: World, cluster: Object, key: str, *, authorized: bool) -> Iterator[str]:
    found = world.stores["secrets"].get(key)
    if found is None:
        yield f'secrets "{key.rsplit("/", 1)[1]}" not found'
        return
    annotations = found["metadata"].get("annotations") or {}
    names = {name.strip() for word in AUTHORIZED for name in str(annotations.get(word) or "").split(",")}
    if authorized and cluster["metadata"]["name"] not in names:
        yield f"secret {key} is not authorized for cluster {cluster['metadata']['name']}"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
