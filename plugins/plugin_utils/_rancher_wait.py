# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Actions of modules that wait: the module again and again, a line of progress between (private to this collection)."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.harvester_rke2.platform.plugins.module_utils._ansible_rancher import RANCHER_OPTIONS
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._bundle_wait import Slices


class WaitingAction(ActionBase):
    """Repeat ``module`` while it fails with ``waiting``, until time is up."""

    module: ClassVar[str]
    arguments: ClassVar[dict[str, Any]]

    def stop(self, arguments: dict[str, Any], result: dict[str, Any]) -> str:
        """Why there is no sense in waiting longer; nothing as long as there is."""
        return ""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(argument_spec={**RANCHER_OPTIONS, **self.arguments})
        slices = Slices(
            self._task.get_name() or self.module,
            arguments["timeout"],
            lambda name, args: self._execute_module(module_name=name, module_args=args, task_vars=task_vars),
        )
        changed, hopeless = False, ""
        while True:
            result = slices.run(self.module, {**arguments, "timeout": slices.slice()})
            changed |= bool(result.get("changed"))
            waiting = bool(result.get("failed") and result.get("waiting"))
            hopeless = self.stop(arguments, result) if waiting else ""
            if not waiting or hopeless or slices.left <= 0:
                break
            Display().display(f"{slices.title}: {slices.passed} of {slices.seconds} s: {result['progress']}"[:400])
        if waiting:
            # The module knows only its own slice.
            said = str(result["msg"]).replace(f"after {slices.last} s", f"after {slices.passed} s", 1)
            result["msg"] = hopeless or said
        return {**result, "changed": changed, "module_executions": slices.executions}
