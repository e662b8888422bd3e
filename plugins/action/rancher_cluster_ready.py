# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Action of the module ``rancher_cluster_ready``: waits in slices and tells how far each pool is."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.harvester_rke2.platform.plugins.module_utils._ansible_rancher import RANCHER_OPTIONS
from ansible_collections.harvester_rke2.platform.plugins.modules.rancher_cluster_ready import ARGUMENTS
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._bundle_wait import Slices


class ActionModule(ActionBase):
    """Repeat the module until the cluster is ready or time is up."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(argument_spec={**RANCHER_OPTIONS, **ARGUMENTS})
        slices = Slices(
            self._task.get_name() or "rancher_cluster_ready",
            arguments["timeout"],
            lambda name, args: self._execute_module(module_name=name, module_args=args, task_vars=task_vars),
        )
        while True:
            result = slices.run("rancher_cluster_ready", {**arguments, "timeout": slices.slice()})
            if not (result.get("failed") and result.get("waiting")) or slices.left <= 0:
                break
            Display().display(f"{slices.title}: {slices.passed} of {slices.seconds} s: {result['progress']}"[:400])
        if result.get("failed") and result.get("waiting"):
            # The module knows only its own slice.
            result["msg"] = str(result["msg"]).replace(f"after {slices.last} s", f"after {slices.passed} s", 1)
        return {**result, "module_executions": slices.executions}
