# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""kube-proxy where Rancher makes the nodes: it needs one to belong to, and ends with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from lab import controlplane, parts, processes
from lab.kube import Object
from lab.mirror import Store
from lab.rancher.loop import Due
from lab.settings import Lab

log = logging.getLogger(__name__)
NAME = "kube-proxy"


class Keeper:
    """This process is inside the lab's namespace already, so what it starts is too."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node = ""

    def act(self, stores: Mapping[str, Store], due: Due) -> None:
        nodes = [node for node in stores["guests"].values() if "deletionTimestamp" not in node["metadata"]]
        running = processes.running_pid(self.lab, NAME)
        if running and (not self.node or any(node["metadata"]["name"] == self.node for node in nodes)):
            return
        if not nodes:
            return
        self.node = str(min(nodes, key=_age)["metadata"]["name"])
        log.info("kube-proxy belongs to %s", self.node)
        processes.stop(self.lab, [NAME])
        version = parts.table()["kubernetes"].version
        processes.start(self.lab, controlplane.proxy(self.lab, self.node, version))
        due.soon(2)


def _age(node: Object) -> tuple[bool, str, str]:
    """Control planes stay longest."""
    labels, meta = node["metadata"].get("labels") or {}, node["metadata"]
    return ("node-role.kubernetes.io/control-plane" not in labels, meta["creationTimestamp"], meta["name"])
