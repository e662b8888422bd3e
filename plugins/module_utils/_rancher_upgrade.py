# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Another version of RKE2: whether it may be, and how far it is, node by node (private to this collection)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import _rancher_cluster as clusters
from ._errors import PlatformError, Unreachable
from ._kube_client import ApiError, KubeClient
from ._rancher import LOCAL, Rancher
from ._rancher_pool import amend_spec

_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)\+rke2r(\d+)")
_SNAPSHOTS = f"/apis/rke.cattle.io/v1/namespaces/{clusters.FLEET}/etcdsnapshots"
_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
_PAUSE = 1.0


def parsed(version: str) -> tuple[int, ...]:
    match = _VERSION.fullmatch(version)
    if match is None:
        raise PlatformError(
            f"Reading the version {version!r}", "it is no release of RKE2", "Write it like v1.34.8+rke2r2."
        )
    return tuple(int(part) for part in match.groups())


def judge_step(doing: str, now: str, wanted: str, offered: Iterable[str]) -> None:
    """Refuse what RKE2 cannot do, or Rancher does not have."""
    have, want = parsed(now), parsed(wanted)
    if want < have:
        raise PlatformError(
            doing,
            f"the cluster has {now}, and RKE2 cannot be taken back to an earlier version",
            f"Set rke2_cluster_version to {now} or later; to go back, restore a snapshot of etcd.",
        )
    if want[0] != have[0] or want[1] > have[1] + 1:
        raise PlatformError(
            doing,
            f"the cluster has {now}, and a minor version must not be left out",
            f"Go to a release of v{have[0]}.{have[1] + 1} first.",
        )
    known = [version for version in offered if _VERSION.fullmatch(version)]
    if known and wanted not in known:
        near = sorted((one for one in known if have < parsed(one) and parsed(one)[1] <= have[1] + 1), key=parsed)
        listed = f"It offers {', '.join(near[-8:])}." if near else f"It offers nothing later than {now} that fits."
        raise PlatformError(doing, "Rancher does not offer this version", f"{listed} Choose one, or upgrade Rancher.")


def judge_strategy(doing: str, cluster: Mapping[str, Any]) -> None:
    """One node at a time is Rancher's doing: it must have been told so."""
    strategy = (cluster["spec"].get("rkeConfig") or {}).get("upgradeStrategy") or {}
    for tier in ("controlPlane", "worker"):
        told = str(strategy.get(f"{tier}Concurrency") or "1")
        if told != "1":
            raise PlatformError(
                doing,
                f"Rancher would take {told} {tier} nodes at once ({tier}Concurrency), not one",
                "Run phase 0 (--tags phase0), which sets it back to 1.",
            )


@dataclass(frozen=True)
class Nodes:
    """The nodes of a cluster at one moment."""

    versions: dict[str, str] = field(default_factory=dict)
    out: dict[str, str] = field(default_factory=dict)
    planes_down: list[str] = field(default_factory=list)
    planes: int = 0

    def behind(self, version: str) -> list[str]:
        return sorted(name for name, has in self.versions.items() if has != version)


def look(client: KubeClient) -> Nodes:
    """Who is there in which version, who is out and why."""
    versions, out, down, planes = {}, {}, [], 0
    for node in client.list_all("/api/v1/nodes")["items"]:
        name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
        status = node.get("status") or {}
        versions[name] = str((status.get("nodeInfo") or {}).get("kubeletVersion") or "")
        found = {entry.get("type"): entry for entry in status.get("conditions") or []}.get("Ready") or {}
        is_ready = found.get("status") == "True"
        planes += _CONTROL_PLANE in labels
        if not is_ready:
            why = found.get("message") or found.get("reason") or "nothing is known of it"
            out[name] = f"is not Ready: {why}"
            down += [name] if _CONTROL_PLANE in labels else []
        elif (node.get("spec") or {}).get("unschedulable"):
            out[name] = "is cordoned: it is being drained or upgraded"
    return Nodes(versions, out, down, planes)


def judge_quorum(doing: str, nodes: Nodes) -> None:
    """Stop when more control planes are down than etcd can do without; a lone one is always down for a moment."""
    if nodes.planes > 1 and nodes.planes - len(nodes.planes_down) < nodes.planes // 2 + 1:
        why = "; ".join(f"{name} {nodes.out[name]}" for name in nodes.planes_down)
        raise PlatformError(
            doing,
            f"{len(nodes.planes_down)} of {nodes.planes} control-plane nodes are down ({why}): etcd has no majority",
            "Bring one of them back (its console on Harvester, journalctl -u rke2-server), then run again.",
        )


def sealed(client: KubeClient, namespace: str) -> list[str]:
    """Servers of Vault that are closed: a node that was drained has restarted them.

    Not asked whether they are initialised: until it is open, a server that was restarted says that it is not.
    """
    query = {"labelSelector": "vault-sealed=true"}
    items = client.list_all(f"/api/v1/namespaces/{namespace}/pods", query=query)["items"]
    running = [item for item in items if (item.get("status") or {}).get("phase") == "Running"]
    return sorted(item["metadata"]["name"] for item in running if not item["metadata"].get("deletionTimestamp"))


def judge_health(doing: str, rancher: Rancher, name: str, vault_namespace: str) -> None:
    """Only a cluster that is whole may lose a node for a while."""
    state = clusters.state(rancher.kubernetes(LOCAL), name)
    if not state.ready:
        raise PlatformError(doing, f"the cluster is not settled: {state.shown()}", "Wait or mend that, then run again.")
    guest = rancher.kubernetes(state.management_id)
    nodes = look(guest)
    if nodes.out:
        why = "; ".join(f"{node} {reason}" for node, reason in sorted(nodes.out.items()))
        raise PlatformError(doing, f"not every node can take work: {why}", "Mend or uncordon them, then run again.")
    closed = sealed(guest, vault_namespace) if vault_namespace else []
    if closed:
        raise PlatformError(
            doing,
            f"Vault is not whole: {', '.join(closed)} is sealed",
            "Unseal it (playbooks/unseal.yml), or finish phase 2, then run again.",
        )


def _snapshots(client: KubeClient, name: str) -> dict[str, dict[str, Any]]:
    items = (client.get_or_none(_SNAPSHOTS) or {}).get("items") or []
    return {item["metadata"]["name"]: item for item in items if (item.get("spec") or {}).get("clusterName") == name}


def snapshot(client: KubeClient, name: str, seconds: float) -> str:
    """Have etcd snapshotted now; returns the name of a snapshot that is on a disk."""
    doing = f"Taking a snapshot of etcd of the cluster {name}"
    before = set(_snapshots(client, name))

    def another(cluster: Mapping[str, Any]) -> dict[str, Any]:
        told = ((cluster["spec"].get("rkeConfig") or {}).get("etcdSnapshotCreate") or {}).get("generation")
        return {"rkeConfig": {"etcdSnapshotCreate": {"generation": int(told or 0) + 1}}}

    amend_spec(client, name, doing, another)
    deadline = time.monotonic() + seconds
    while True:
        made = {key: item for key, item in _snapshots(client, name).items() if key not in before}
        files = {key: item.get("snapshotFile") or {} for key, item in made.items()}
        good = sorted(key for key, file in files.items() if file.get("status") == "successful")
        if good:
            return good[0]
        if time.monotonic() > deadline:
            said = "; ".join(f"{key}: {file.get('message') or file.get('status')}" for key, file in files.items())
            raise PlatformError(
                doing,
                f"after {seconds:.0f} s there is none that succeeded ({said or 'none at all'})",
                "Look at the cluster's snapshots in Rancher, and at the free space of the control-plane nodes.",
            )
        time.sleep(_PAUSE)


def set_version(client: KubeClient, name: str, version: str) -> None:
    """The one field, and no machine config."""
    doing = f"Setting the version of the cluster {name} to {version}"
    amend_spec(client, name, doing, lambda cluster: {"kubernetesVersion": version})


def progress(rancher: Rancher, name: str, version: str, vault_namespace: str) -> dict[str, Any]:
    """How far an upgrade is; fails when the control plane has lost its majority."""
    doing = f"Upgrading the cluster {name} to {version}"
    state = clusters.state(rancher.kubernetes(LOCAL), name)
    try:
        guest = rancher.kubernetes(state.management_id)
        nodes = look(guest)
        closed = sealed(guest, vault_namespace) if vault_namespace else []
    except (ApiError, Unreachable) as exc:
        # Its API server is one of those that are being restarted.
        return {"done": False, "sealed": [], "out": {}, "behind": [], "progress": f"{state.shown()}; {exc.why}"}
    judge_quorum(doing, nodes)
    behind = nodes.behind(version)
    parts = [f"{len(nodes.versions) - len(behind)} of {len(nodes.versions)} nodes have {version}"]
    parts += [f"{node} {why}" for node, why in sorted(nodes.out.items())]
    done = state.ready and not behind and not nodes.out and not closed and bool(nodes.versions)
    parts += [] if done else [state.shown()]
    return {
        "done": done,
        "sealed": closed,
        "out": nodes.out,
        "behind": behind,
        "progress": "; ".join(filter(None, parts)),
    }
