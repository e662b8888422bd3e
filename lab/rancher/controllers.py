# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The controllers of Rancher and Harvester, and Rancher's webhook."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from lab.kube import Client
from lab.mirror import Store
from lab.rancher import capacity, images, machines, settings, webhook, world
from lab.rancher.clusters import Clusters
from lab.rancher.driver import Credentials
from lab.rancher.faults import Faults
from lab.rancher.guests import NODES
from lab.rancher.keeper import Keeper
from lab.rancher.loop import Due, Loop
from lab.rancher.wipe import Wipe
from lab.rancher.world import World
from lab.settings import Lab

NETWORKS = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions"


def harvester(files: settings.Files, faults: Faults, times: settings.Times) -> Loop:
    client = Client(files.kubeconfig("harvester", "harvester"))
    guest = Client(files.kubeconfig("cluster", "rancher"))
    instances = machines.Machines(client, faults, times)

    def act(stores: Mapping[str, Store], due: Due) -> None:
        images.act(client, stores, due, faults, times)
        instances.act(stores, due)
        capacity.act(client, stores, due, faults)

    sources = {
        "images": (client, images.PATH),
        "vms": (client, machines.VMS),
        "vmis": (client, machines.VMIS),
        "claims": (client, machines.CLAIMS),
        "nads": (client, NETWORKS),
        "nodes": (client, capacity.NODES),
        "disks": (client, capacity.DISKS),
        "guests": (guest, NODES),
    }
    return Loop("harvester", sources, act)


def rancher(files: settings.Files, faults: Faults, times: settings.Times) -> Loop:
    clients = {name: Client(files.kubeconfig(name, "rancher")) for name in ("rancher", "harvester", "cluster")}
    authority = (files.pki / "ca.crt").read_bytes()
    whole = World(
        clients["rancher"], clients["harvester"], clients["cluster"], faults, times, Credentials(faults), authority
    )
    # never where the lab made the nodes itself: that cluster is not one of Rancher's
    own = settings.kept_mode(files) == "rancher"
    clusters = Clusters(Wipe(clients["cluster"], files.directory / "etc" / "guest-baseline.json") if own else None)

    def act(stores: Mapping[str, Store], due: Due) -> None:
        whole.stores, whole.due = stores, due
        clusters.act(whole)

    sources = {
        "clusters": (clients["rancher"], world.CLUSTERS),
        "management": (clients["rancher"], world.MANAGEMENT),
        "configs": (clients["rancher"], world.CONFIGS),
        "machines": (clients["rancher"], world.MACHINES),
        "deployments": (clients["rancher"], world.DEPLOYMENTS),
        "templates": (clients["rancher"], world.TEMPLATES),
        "secrets": (clients["rancher"], machines.SECRETS),
        "vms": (clients["harvester"], machines.VMS),
        "vmis": (clients["harvester"], machines.VMIS),
        "images": (clients["harvester"], images.PATH),
        "guests": (clients["cluster"], NODES),
    }
    return Loop("rancher", sources, act)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="the lab's directory")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    files = settings.Files(options.directory)
    faults, times = Faults(files.faults), settings.Times.read(files.times)
    webhook.start(files, faults)
    loops = [harvester(files, faults, times), rancher(files, faults, times)]
    if settings.kept_mode(files) == "rancher":
        guest = Client(files.kubeconfig("cluster", "rancher"))
        loops.append(Loop("keeper", {"guests": (guest, NODES)}, Keeper(Lab.from_environment()).act))
    for loop in loops:
        loop.start()
    stamp = faults.file_stamp()
    while True:
        # one look at a file's time: a fault must be felt, and its end too, without anything else happening
        time.sleep(1)
        if faults.file_stamp() != stamp:
            stamp = faults.file_stamp()
            for loop in loops:
                loop.changed.set()


if __name__ == "__main__":
    main()
