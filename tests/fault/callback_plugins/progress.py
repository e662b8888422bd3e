# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Write each task's name when it begins: with the strategy host_pinned the output tells it only at the task's end."""

from __future__ import annotations

import typing

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: progress
type: aggregate
short_description: Write the names of tasks as they begin
description:
  - For the fault suite only, which kills runs.
options:
  file:
    description: The file.
    type: path
    required: true
    env:
      - name: PROGRESS_FILE
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """One line a task."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "progress"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_start(self, host: typing.Any, task: typing.Any) -> None:
        with open(self.get_option("file"), "a", encoding="utf-8") as file:
            file.write(f"{task.get_name()}\n")
