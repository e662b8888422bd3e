# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A change of kubernetesVersion: control plane first, node by node, drained when that is asked for."""

from __future__ import annotations

import logging

from lab.kube import Object
from lab.rancher import guests, plan
from lab.rancher.world import World, pool_of, rke

log = logging.getLogger(__name__)


class Upgrades:
    def __init__(self) -> None:
        self.busy: dict[str, str] = {}  # machine: what is done to it

    def act(self, world: World, cluster: Object) -> None:
        version = str(cluster["spec"].get("kubernetesVersion"))
        strategy = rke(cluster).get("upgradeStrategy") or {}
        members: dict[bool, list[plan.Member]] = {True: [], False: []}
        for machine in world.machines(cluster["metadata"]["name"]):
            member, plane = self._member(world, cluster, machine)
            if member:
                members[plane].append(member)
        behind = [member for member in members[True] if member.version != version]
        if behind or any(member.name in self.busy for member in members[True]):
            self._tier(world, members[True], version, strategy, "controlPlane")
        elif members[False]:
            self._tier(world, members[False], version, strategy, "worker")

    def _member(self, world: World, cluster: Object, machine: Object) -> tuple[plan.Member | None, bool]:
        node, pool = world.node(machine), pool_of(cluster, machine) or {}
        plane = bool(pool.get("controlPlaneRole") or pool.get("etcdRole"))
        if node is None:
            return None, plane
        meta = machine["metadata"]
        return (
            plan.Member(
                name=meta["name"],
                template="",
                created=meta["creationTimestamp"],
                ready=guests.ready(node),
                deleting="deletionTimestamp" in meta,
                version=node["status"]["nodeInfo"]["kubeletVersion"],
                upgrading=meta["name"] in self.busy,
            ),
            plane,
        )

    def _tier(
        self, world: World, members: list[plan.Member], version: str, strategy: dict[str, object], tier: str
    ) -> None:
        allowed = strategy.get(f"{tier}Concurrency")
        for name in plan.upgrades(members, version, None if allowed is None else str(allowed)):
            log.info("upgrading %s to %s", name, version)
            self.busy[name] = "waiting for plan to be applied"
        options = strategy.get(f"{tier}DrainOptions")
        for member in members:
            if member.name in self.busy:
                self._node(world, member, version, options if isinstance(options, dict) else {})

    def _node(self, world: World, member: plan.Member, version: str, options: dict[str, object]) -> None:
        name, key = member.name, f"upgrade/{member.name}"
        if member.version == version:
            guests.cordon(world.guest, name, on=False)
            del self.busy[name]
            world.due.forget(key)
            world.due.soon(0.1)
            return
        node = world.stores["guests"].get(name)
        if node and not node["spec"].get("unschedulable"):
            guests.cordon(world.guest, name)
        if options.get("enabled"):
            timeout = float(str(options.get("timeout") or 0))
            late = timeout > 0 and world.due.over(f"{key}/drain", timeout)
            force = bool(options.get("disableEviction"))
            if not late and not guests.drained(world.guest, name, force):
                self.busy[name] = "draining node"
                world.due.soon(world.times.eviction)
                return
        self.busy[name] = "waiting for plan to be applied"
        if world.due.over(f"{key}/work", world.times.upgrade):
            guests.set_version(world.guest, name, version)
