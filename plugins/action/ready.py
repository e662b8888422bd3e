# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Action of the module ``ready``: waits in slices and tells what is missing."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.harvester_rke2.platform.plugins.module_utils._ansible_kube import KUBERNETES_OPTIONS
from ansible_collections.harvester_rke2.platform.plugins.modules.ready import ARGUMENTS
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._bundle_wait import Slices


class ActionModule(ActionBase):
    """Repeat the module until everything is ready."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec={**KUBERNETES_OPTIONS, **ARGUMENTS})
        if not (arguments["objects"] or arguments["applysets"] or arguments["releases"]):
            return {"changed": False, "ready": True, "not_ready": [], "waited_for": 0, "module_executions": 0}
        slices = Slices(
            self._task.get_name() or "ready",
            arguments["timeout"],
            lambda name, args: self._execute_module(module_name=name, module_args=args, task_vars=task_vars),
        )
        result: dict[str, Any] = slices.until_ready(arguments)
        return {**result, "module_executions": slices.executions}
