# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Action of the module ``rancher_cluster_ready``: waits in slices and tells how far each pool is."""

from __future__ import annotations

from typing import Any

from ansible_collections.harvester_rke2.platform.plugins.modules.rancher_cluster_ready import ARGUMENTS, given_up
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._rancher_wait import WaitingAction


class ActionModule(WaitingAction):
    """Repeat the module until the cluster is ready, Rancher cannot go on, or time is up."""

    module = "rancher_cluster_ready"
    arguments = ARGUMENTS

    def stop(self, arguments: dict[str, Any], result: dict[str, Any]) -> str:
        """What Rancher says once may be its first attempt; what it says still after a whole slice is not."""
        before, self._stuck = getattr(self, "_stuck", False), bool(result["stuck"])
        return str(given_up(arguments["name"], result["stuck"])) if before and result["stuck"] else ""
