# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The size of one pool of a cluster, set as the autoscaler sets it (private to this collection)."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping
from typing import Any

from . import _rancher_cluster as clusters
from ._errors import PlatformError
from ._kube_amend import amend
from ._kube_client import KubeClient

# What a run changes once, because it was asked to, and does not hold on to: a later run of the site leaves it.
MANAGER = "harvester-rke2-platform-day2"
_BOUND = "cluster.provisioning.cattle.io/autoscaler-{}-size"


def living(client: KubeClient, name: str, doing: str) -> dict[str, Any]:
    """The Cluster, which must be there and stay."""
    cluster = client.get_or_none(f"{clusters.CLUSTERS}/{name}")
    if cluster is None:
        raise PlatformError(doing, f"Rancher has no Cluster {name}", "Make it by phase 0 (--tags phase0).")
    if cluster["metadata"].get("deletionTimestamp"):
        raise PlatformError(doing, "the cluster is being deleted", "Let playbooks/destroy.yml finish.")
    return cluster


def bounds(pool: Mapping[str, Any]) -> tuple[int, int] | None:
    """Between what the autoscaler keeps the pool; None for one that it leaves alone."""
    annotations = pool.get("machineDeploymentAnnotations") or {}
    least, most = (annotations.get(_BOUND.format(word)) for word in ("min", "max"))
    least = pool.get("autoscalingMinSize") if least is None else least
    most = pool.get("autoscalingMaxSize") if most is None else most
    return None if least is None or most is None else (int(least), int(most))


def judge(cluster: Mapping[str, Any], name: str, quantity: int) -> int:
    """How many the pool has now; refuses what would not last or would break the control plane."""
    doing = f"Setting the pool {name} of the cluster {cluster['metadata']['name']} to {quantity}"
    sizes = clusters.quantities(cluster)
    if name not in sizes:
        close = difflib.get_close_matches(name, list(sizes), n=1)
        mend = f"Did you mean {close[0]}?" if close else f"There are {', '.join(sorted(sizes))}."
        raise PlatformError(doing, "the cluster has no pool of that name", mend)
    pool = next(entry for entry in clusters.pools_of(cluster) if entry["name"] == name)
    between = bounds(pool)
    if between and not between[0] <= quantity <= between[1]:
        raise PlatformError(
            doing,
            f"the autoscaler keeps it between {between[0]} and {between[1]}",
            f"Choose one of these, or change platform_pools.{name} and run phase 0 first.",
        )
    if quantity < 0:
        raise PlatformError(doing, "a pool cannot have fewer than none", "Choose 0 or more.")
    if pool.get("etcdRole") or pool.get("controlPlaneRole"):
        members = {entry["name"] for entry in clusters.pools_of(cluster) if entry.get("etcdRole")} | {name}
        before = sum(sizes[one] for one in members)
        _judge_quorum(doing, before, before - sizes[name] + quantity)
    return sizes[name]


def _judge_quorum(doing: str, before: int, after: int) -> None:
    if after % 2 == 0:
        why = f"etcd would have {after} members, of which a majority is not easier kept than of {max(1, after - 1)}"
        raise PlatformError(doing, why, "Choose an odd number.")
    quorum = before // 2 + 1
    if after < quorum:
        why = f"of {before} members of etcd {after} would be left, fewer than the {quorum} it needs to go on"
        raise PlatformError(doing, why, f"Keep at least {quorum + (quorum + 1) % 2}.")


def set_quantity(client: KubeClient, cluster_name: str, name: str, quantity: int, *, check: bool) -> int:
    """Change the one number in what was read just now; returns what it was."""
    doing = f"Setting the pool {name} of the cluster {cluster_name} to {quantity}"
    before = quantity

    def change(cluster: Mapping[str, Any]) -> dict[str, Any] | None:
        nonlocal before
        before = judge(cluster, name, quantity)
        if before == quantity or check:
            return None
        # A list is replaced whole: the autoscaler's numbers of other pools are those that were read.
        pools = copy.deepcopy(clusters.pools_of(cluster))
        next(entry for entry in pools if entry["name"] == name)["quantity"] = quantity
        return {"rkeConfig": {"machinePools": pools}}

    amend_spec(client, cluster_name, doing, change)
    return before


def amend_spec(
    client: KubeClient, name: str, doing: str, change: Callable[[Mapping[str, Any]], dict[str, Any] | None]
) -> None:
    """Change a few fields of a Cluster's spec, if ``change`` still wants to when it sees what is there."""

    def wanted(cluster: Mapping[str, Any]) -> dict[str, Any] | None:
        spec = change(cluster)
        return None if spec is None else {"spec": spec}

    path = f"{clusters.CLUSTERS}/{name}"
    amend(client, path, lambda: living(client, name, doing), wanted, doing=doing, query={"fieldManager": MANAGER})
