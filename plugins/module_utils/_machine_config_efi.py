# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""UEFI for the machine configs of a cluster that was made without it (private to this collection)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ._bundle_plan import MANAGER
from ._errors import PlatformError
from ._kube_amend import amend
from ._kube_client import KubeClient
from ._rancher_cluster import CLUSTERS, FLEET, REMAINS, configs_in_use, quantities

CONFIGS = f"/apis/rke-machine-config.cattle.io/v1/namespaces/{FLEET}/harvesterconfigs"


@dataclass(frozen=True)
class Config:
    """A machine config in use."""

    name: str
    pools: tuple[str, ...]
    nodes: int
    efi: bool


def read(client: KubeClient, cluster: str, pools: Iterable[str]) -> list[Config]:
    """The machine configs of a cluster, or of some of its pools."""
    doing = f"Reading the machine configs of the cluster {cluster}"
    live = client.get_or_none(f"{CLUSTERS}/{cluster}")
    if live is None:
        raise PlatformError(doing, f"Rancher has no Cluster {FLEET}/{cluster}", "Correct the name.")
    sizes, wanted = quantities(live), set(pools)
    if unknown := sorted(wanted - set(sizes)):
        raise PlatformError(doing, f"it has no pool {', '.join(unknown)}", f"It has: {', '.join(sizes)}.")
    found = []
    for name, users in configs_in_use(live).items():
        if wanted and not wanted & set(users):
            continue
        config = client.get_or_none(f"{CONFIGS}/{name}")
        if config is None:
            raise PlatformError(doing, f"HarvesterConfig {FLEET}/{name} does not exist", "Look at the pool in Rancher.")
        found.append(Config(name, tuple(users), sum(sizes[pool] for pool in users), bool(config.get("enableEfi"))))
    return found


def consent(configs: Iterable[Config], allowed: Iterable[str]) -> PlatformError | None:
    """The refusal for those whose nodes would be replaced without consent."""
    free = set(allowed)
    held = [pool for config in configs if not config.efi and config.nodes for pool in config.pools if pool not in free]
    if not held:
        return None
    return PlatformError(
        "Switching the machine configs to UEFI",
        f"every node of the pools {', '.join(held)} would be replaced, with what is on their disks",
        "List these pools in allow_roll to have that.",
        pools=held,
    )


def switch_on(client: KubeClient, config: Config, *, check: bool) -> bool:
    """Set the one field; False if somebody else has done it."""
    path = f"{CONFIGS}/{config.name}"
    return amend(
        client,
        path,
        lambda: client.request("GET", path),
        lambda live: None if live.get("enableEfi") else {"enableEfi": True},
        doing=f"Switching HarvesterConfig {FLEET}/{config.name} to UEFI",
        query={"fieldManager": MANAGER, "fieldValidation": "Strict", "dryRun": "All" if check else None},
    )


def boots_bios(machine: Mapping[str, Any]) -> bool:
    spec = ((machine.get("spec") or {}).get("template") or {}).get("spec") or {}
    loader = (((spec.get("domain") or {}).get("firmware")) or {}).get("bootloader") or {}
    return loader.get("efi") is None


def bios_machines(harvester: KubeClient, namespace: str, cluster: str, pools: Iterable[str]) -> list[str]:
    """The cluster's virtual machines that still boot by BIOS: they do until they are replaced."""
    listed = harvester.get_or_none(REMAINS["VirtualMachine"].format(namespace)) or {}
    prefixes = tuple(f"{cluster}-{pool}-" for pool in pools)
    return sorted(
        item["metadata"]["name"]
        for item in listed.get("items") or []
        if item["metadata"]["name"].startswith(prefixes) and boots_bios(item)
    )
