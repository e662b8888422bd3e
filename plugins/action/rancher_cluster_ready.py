# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Action of the module ``rancher_cluster_ready``: waits in slices and tells how far each pool is."""

from __future__ import annotations

from ansible_collections.harvester_rke2.platform.plugins.modules.rancher_cluster_ready import ARGUMENTS
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._rancher_wait import WaitingAction


class ActionModule(WaitingAction):
    """Repeat the module until the cluster is ready or time is up."""

    module = "rancher_cluster_ready"
    arguments = ARGUMENTS
