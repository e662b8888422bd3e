# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Action of the module ``rancher_cluster_upgraded``: waits in slices, and keeps in mind since when a node is out."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.harvester_rke2.platform.plugins.modules.rancher_cluster_upgraded import ARGUMENTS
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._rancher_wait import WaitingAction


class ActionModule(WaitingAction):
    """Repeat the module until all nodes have the version, one does not come back, or time is up."""

    module = "rancher_cluster_upgraded"
    arguments = ARGUMENTS

    def stop(self, arguments: dict[str, Any], result: dict[str, Any]) -> str:
        """The node that has been out for too long."""
        now, before = time.monotonic(), getattr(self, "_since", {})
        self._since = {node: before.get(node, now) for node in result.get("out") or {}}
        for node, since in self._since.items():
            if now - since >= arguments["node_timeout"]:
                doing = f"Upgrading the cluster {arguments['name']} to {arguments['version']}"
                why = f"the node {node} has not come back after {now - since:.0f} s: it {result['out'][node]}"
                return (
                    f"{doing}: {why} ({result['progress']}). Rancher takes no further node meanwhile. Look at its "
                    "console on Harvester and at journalctl -u rke2-server or rke2-agent, mend it, then run again."
                )
        return ""
