# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Write every result as it arrives, and all variables of the run, for tests that look for secrets in them."""

from __future__ import annotations

import typing

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: everything
type: aggregate
short_description: Write all results, registered variables and facts of a run to one file
description:
  - For the fault suite only, which looks for secrets in the file.
options:
  file:
    description: The file.
    type: path
    required: true
    env:
      - name: EVERYTHING_FILE
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Appends, so that a run that is killed leaves what it had."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "everything"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display: typing.Any = None, options: typing.Any = None) -> None:
        super().__init__(display=display, options=options)
        self._play: typing.Any = None

    def _write(self, what: str, content: typing.Any) -> None:
        with open(self.get_option("file"), "a", encoding="utf-8") as file:
            file.write(f"{what}: {content!r}\n")

    def v2_playbook_on_play_start(self, play: typing.Any) -> None:
        self._variables()
        self._play = play

    def v2_runner_on_ok(self, result: typing.Any) -> None:
        self._write("ok", result.result)

    def v2_runner_on_failed(self, result: typing.Any, ignore_errors: bool = False) -> None:
        self._write("failed", result.result)

    def v2_runner_item_on_ok(self, result: typing.Any) -> None:
        self._write("item", result.result)

    def v2_runner_retry(self, result: typing.Any) -> None:
        self._write("retry", result.result)

    def v2_playbook_on_stats(self, stats: typing.Any) -> None:
        self._variables()

    def _variables(self) -> None:
        """Registered variables and facts, as the next task sees them."""
        if self._play is None:
            return
        manager = self._play.get_variable_manager()
        for host in manager._inventory.get_hosts():
            self._write(f"variables of {host.name}", manager.get_vars(play=self._play, host=host))
