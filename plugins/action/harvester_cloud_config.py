# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Action of the module ``harvester_cloud_config``: waits for Rancher's admission webhook, and says so."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.harvester_rke2.platform.plugins.module_utils._ansible_rancher import RANCHER_OPTIONS
from ansible_collections.harvester_rke2.platform.plugins.modules.harvester_cloud_config import ARGUMENTS
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._bundle_wait import Slices


class ActionModule(ActionBase):
    """Repeat the module while the webhook is late: it is the first write into a fresh Rancher."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(argument_spec={**RANCHER_OPTIONS, **ARGUMENTS})
        slices = Slices(
            self._task.get_name() or "harvester_cloud_config",
            arguments["webhook_timeout"],
            lambda name, args: self._execute_module(module_name=name, module_args=args, task_vars=task_vars),
        )
        while True:
            result = slices.run("harvester_cloud_config", arguments)
            if not (result.get("failed") and result.get("again")) or slices.left <= 0:
                return {**result, "module_executions": slices.executions}
            slices.tell(result)
