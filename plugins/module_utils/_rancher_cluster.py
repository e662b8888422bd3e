# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""A cluster as Rancher provisions it: pools, machines, what an earlier one left (private to this collection)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ._errors import PlatformError
from ._kube_client import MERGE, ApiError, KubeClient
from ._ready_custom import machine, rancher_cluster

FLEET = "fleet-default"
CLUSTERS = f"/apis/provisioning.cattle.io/v1/namespaces/{FLEET}/clusters"
MACHINES = f"/apis/cluster.x-k8s.io/v1beta1/namespaces/{FLEET}/machines"
POOL_LABEL = "rke.cattle.io/rke-machine-pool-name"
CLUSTER_LABEL = "cluster.x-k8s.io/cluster-name"
_PAUSE = 2.0
# What a machine is made of on Harvester, in the order in which it is taken away.
REMAINS = {
    "VirtualMachine": "/apis/kubevirt.io/v1/namespaces/{}/virtualmachines",
    "VirtualMachineInstance": "/apis/kubevirt.io/v1/namespaces/{}/virtualmachineinstances",
    "DataVolume": "/apis/cdi.kubevirt.io/v1beta1/namespaces/{}/datavolumes",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
}


def pools_of(cluster: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return list((((cluster or {}).get("spec") or {}).get("rkeConfig") or {}).get("machinePools") or [])


def quantities(cluster: Mapping[str, Any] | None) -> dict[str, int]:
    """Pool to the number of machines it is asked for; Rancher counts a pool without a number as one."""
    return {pool["name"]: 1 if pool.get("quantity") is None else int(pool["quantity"]) for pool in pools_of(cluster)}


def configs_in_use(cluster: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """Machine config to the pools whose nodes a change of it replaces."""
    found: dict[str, list[str]] = {}
    for pool in pools_of(cluster):
        name = (pool.get("machineConfigRef") or {}).get("name")
        if name:
            found.setdefault(name, []).append(pool["name"])
    return found


@dataclass(frozen=True)
class Pool:
    """How far the machines of a pool are."""

    name: str
    wanted: int
    running: int
    troubles: tuple[str, ...] = ()
    # What Rancher has given up, or says it cannot do: waiting longer does not help.
    stuck: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        # One too many is about to go: the pool has been made smaller, or is being rolled.
        return self.running == self.wanted and not self.troubles

    def shown(self) -> str:
        text = f"{self.name} {self.running} of {self.wanted}"
        return f"{text} ({self.troubles[0]})" if self.troubles else text


def progress(cluster: Mapping[str, Any], machines: Iterable[Mapping[str, Any]]) -> list[Pool]:
    """The pools with their machines; a machine that is on its way out is a trouble, too: the pool is being rolled."""
    by_pool: dict[str, list[Mapping[str, Any]]] = {}
    for found in machines:
        labels = found["metadata"].get("labels") or {}
        by_pool.setdefault(str(labels.get(POOL_LABEL, "")), []).append(found)
    result = []
    for name, wanted in quantities(cluster).items():
        running, troubles, stuck = 0, [], []
        for found in by_pool.get(name, []):
            verdict = machine(found)
            if found["metadata"].get("deletionTimestamp"):
                troubles.append(f"{found['metadata']['name']} is being removed")
            elif verdict.ready:
                running += 1
            else:
                troubles.append(f"{found['metadata']['name']} {verdict.reason}")
                if verdict.hopeless or _not_made(found):
                    stuck.append(f"{found['metadata']['name']} of pool {name} {verdict.reason}")
        result.append(Pool(name, wanted, running, tuple(troubles), tuple(stuck)))
    return result


def _not_made(found: Mapping[str, Any]) -> bool:
    """Whether the node driver says why it cannot make the machine."""
    conditions = (found.get("status") or {}).get("conditions") or []
    return any(entry.get("status") == "False" and entry.get("reason") == "CreateError" for entry in conditions)


def _wrong(cluster: Mapping[str, Any]) -> list[str]:
    """What Rancher finds wrong in the Cluster itself; as long as it only waits, the reason is another one."""
    for entry in (cluster.get("status") or {}).get("conditions") or []:
        wrong = entry.get("type") == "Updated" and entry.get("status") == "False" and entry.get("reason") == "Error"
        if wrong or (entry.get("type") == "Stalled" and entry.get("status") == "True"):
            return [f"the Cluster: {entry.get('message') or entry.get('reason')}"]
    return []


@dataclass(frozen=True)
class State:
    """How far a cluster is."""

    ready: bool
    why: str
    pools: list[Pool] = field(default_factory=list)
    management_id: str = ""
    stuck: list[str] = field(default_factory=list)

    def shown(self) -> str:
        pools = ", ".join(pool.shown() for pool in self.pools)
        return "; ".join(part for part in (pools, self.why) if part)


def state(client: KubeClient, name: str) -> State:
    """Judge by Rancher's conditions and by every pool's machines: either alone is true for a moment too early."""
    cluster = client.get_or_none(f"{CLUSTERS}/{name}")
    if cluster is None:
        return State(False, f"there is no Cluster {FLEET}/{name}")
    machines = client.list_all(MACHINES, query={"labelSelector": f"{CLUSTER_LABEL}={name}"})["items"]
    pools = progress(cluster, machines)
    verdict = rancher_cluster(cluster)
    management = str((cluster.get("status") or {}).get("clusterName") or "")
    why = verdict.reason
    if verdict.ready and not management:
        why = "Rancher has given it no id yet"
    ready = verdict.ready and bool(management) and all(pool.ready for pool in pools)
    stuck = [] if ready else _wrong(cluster) + [one for pool in pools for one in pool.stuck]
    return State(ready, why, pools, management, stuck)


def unready_nodes(client: KubeClient) -> list[str]:
    """The nodes that are not ready, each with its reason; no node at all is one trouble."""
    items = client.list_all("/api/v1/nodes")["items"]
    troubles = [] if items else ["there is no node"]
    for node in items:
        conditions = {entry.get("type"): entry for entry in (node.get("status") or {}).get("conditions") or []}
        ready = conditions.get("Ready") or {}
        if ready.get("status") != "True":
            troubles.append(f"{node['metadata']['name']}: {ready.get('message') or ready.get('reason') or 'not ready'}")
    return troubles


def belongs(name: str, cluster: str, others: Iterable[str]) -> bool:
    """Whether a machine's name begins with this cluster's, and not with that of another one that it is a part of."""
    longer = [other for other in others if other.startswith(f"{cluster}-")]
    return name.startswith(f"{cluster}-") and not any(name.startswith(f"{other}-") for other in longer)


def remove(
    harvester: KubeClient, namespace: str, left: Sequence[Mapping[str, str]], grace: float, seconds: float
) -> list[str]:
    """Delete what is left, machines before volumes; returns what is still there in the end.

    Harvester's controllers get the time ``grace`` to let go of it themselves; then what holds it is taken off, because
    who put it there (a cloud credential, a cluster) has gone.
    """
    deadline = time.monotonic() + seconds
    for kind, path in REMAINS.items():
        folder = path.format(namespace)
        waiting = {entry["name"] for entry in left if entry["kind"] == kind}
        for name in sorted(waiting):
            harvester.delete(f"{folder}/{name}")
        patience = time.monotonic() + grace
        while waiting and time.monotonic() < deadline:
            there = {item["metadata"]["name"]: item["metadata"] for item in _listed(harvester, folder)}
            waiting &= there.keys()
            for name in waiting if time.monotonic() > patience else ():
                if there[name].get("finalizers"):
                    body = {"metadata": {"finalizers": None, "resourceVersion": there[name]["resourceVersion"]}}
                    _patch(harvester, f"{folder}/{name}", body)
            if waiting:
                time.sleep(0.5)
        if waiting:
            return [f"{kind} {name}" for name in sorted(waiting)]
    return []


def _listed(client: KubeClient, folder: str) -> list[dict[str, Any]]:
    """All of a kind; none where the kind itself is missing."""
    return list((client.get_or_none(folder) or {}).get("items") or [])


def _patch(client: KubeClient, path: str, body: Mapping[str, Any]) -> None:
    try:
        client.request("PATCH", path, body=body, content_type=MERGE)
    except ApiError as exc:
        # Gone, or changed by whoever is about to let go: looked at again.
        if exc.status != 404 and not exc.conflict:
            raise


def orphans(harvester: KubeClient, namespace: str, cluster: str, others: Iterable[str]) -> list[dict[str, str]]:
    """Machines and volumes of a destroyed cluster that are still on Harvester."""
    known = list(others)
    found = []
    for kind, path in REMAINS.items():
        for item in _listed(harvester, path.format(namespace)):
            meta = item["metadata"]
            if belongs(meta["name"], cluster, known):
                held = ", ".join(meta.get("finalizers") or [])
                entry = {"kind": kind, "namespace": namespace, "name": meta["name"], "held_by": held}
                found.append({**entry, "deleting": meta.get("deletionTimestamp") or ""})
    return found


def follow(
    look: Callable[[], dict[str, Any]],
    over: Callable[[dict[str, Any]], bool],
    seconds: float,
    *,
    doing: str,
    why: str,
    mend: str,
) -> dict[str, Any]:
    """Look again and again until it is over; fails with ``waiting`` and what was seen last when time is up."""
    deadline = time.monotonic() + seconds
    while not over(result := look()):
        if time.monotonic() + _PAUSE > deadline:
            said = f"{why} after {seconds} s: {result['progress']}"
            raise PlatformError(doing, said, mend, waiting=True, **result)
        time.sleep(_PAUSE)
    return result
