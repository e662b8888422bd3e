# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Action of the module ``run_lease``: tells it which process is the run."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """A task runs in a process of its own, whose parent is ansible-playbook."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = {**self._task.args, "pid": os.getppid()}
        result: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        result.pop("invocation", None)
        return {**result, "module_executions": 1}
