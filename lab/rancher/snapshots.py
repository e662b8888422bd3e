# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Snapshots of etcd on demand: for another generation of `etcdSnapshotCreate`, one of each member of etcd."""

from __future__ import annotations

from lab.kube import Object
from lab.rancher import guests
from lab.rancher.loop import create, now, path
from lab.rancher.settings import FLEET
from lab.rancher.world import World, pool_of, rke

SNAPSHOTS = "/apis/rke.cattle.io/v1/etcdsnapshots"


class Snapshots:
    def __init__(self) -> None:
        self.taken: set[tuple[str, int]] = set()

    def act(self, world: World, cluster: Object) -> None:
        generation = int((rke(cluster).get("etcdSnapshotCreate") or {}).get("generation") or 0)
        uid = cluster["metadata"]["uid"]
        if not generation or (uid, generation) in self.taken:
            return
        if not world.due.over(f"snapshot/{uid}/{generation}", world.times.snapshot):
            return
        for machine in world.machines(cluster["metadata"]["name"]):
            if (pool_of(cluster, machine) or {}).get("etcdRole") and guests.ready(world.node(machine)):
                create(world.rancher, SNAPSHOTS, _snapshot(world, cluster, machine, generation))
        self.taken.add((uid, generation))
        world.due.forget(f"snapshot/{uid}")

    def forget(self, world: World, cluster: Object) -> None:
        for item in world.rancher.request("GET", SNAPSHOTS)["items"]:
            if item["spec"]["clusterName"] == cluster["metadata"]["name"]:
                world.rancher.delete(path(SNAPSHOTS, FLEET, item["metadata"]["name"]))


def _snapshot(world: World, cluster: Object, machine: Object, generation: int) -> Object:
    name, node = cluster["metadata"]["name"], machine["metadata"]["name"]
    file = {
        "name": f"on-demand-{node}-{generation}",
        "nodeName": node,
        "location": f"file:///var/lib/rancher/rke2/server/db/snapshots/on-demand-{node}-{generation}",
        "createdAt": now(),
        "size": 2**20,
        "status": "successful",
    }
    if world.faults.on("snapshot_fails"):
        file |= {"status": "failed", "size": 0, "message": "no space left on device"}
    meta = {
        "name": f"{name}-on-demand-{node}-{generation}-local",
        "namespace": FLEET,
        "labels": {"rke.cattle.io/cluster-name": name},
    }
    body = {"apiVersion": "rke.cattle.io/v1", "kind": "ETCDSnapshot", "metadata": meta}
    return {**body, "spec": {"clusterName": name}, "snapshotFile": file}
