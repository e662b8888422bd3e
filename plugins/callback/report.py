# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a run did and what it cost, without a word of what it handled."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report
type: aggregate
short_description: Write a run's tasks, module executions and durations to files
version_added: 0.1.0
description:
  - Writes C(report.json) and C(junit.xml) at the end of a run, and prints one line of totals.
  - Both hold names, counts, states and durations only. Nothing of a result's content is written, so that no secret
    can be.
  - A module execution is a module that ran on a target, the unit of cost of a run. Actions that the controller does
    alone (C(set_fact), C(include_tasks), C(assert), ...) are none; an action plugin that knows better returns
    C(module_executions).
requirements:
  - Enabled in C(callbacks_enabled).
author:
  - the harvester_rke2.platform authors (@harvester-rke2)
options:
  directory:
    description: Where the files are written. It is created when it is missing.
    type: path
    default: .run
    env:
      - name: HARVESTER_RKE2_REPORT_DIRECTORY
    ini:
      - section: callback_harvester_rke2_report
        key: directory
"""

import datetime
import os
import pathlib
import re
import time
import typing

from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _run_report

PHASE = re.compile(r"phase\d+")
# What runs on the controller alone, inside ansible-core.
CONTROLLER_ONLY = frozenset(
    (
        "add_host",
        "assert",
        "debug",
        "fail",
        "group_by",
        "import_playbook",
        "import_role",
        "import_tasks",
        "include_role",
        "include_tasks",
        "include_vars",
        "meta",
        "pause",
        "set_fact",
        "set_stats",
        "validate_argument_spec",
        "wait_for_connection",
    )
)


class CallbackModule(CallbackBase):
    """Collects one entry a task and host, and writes them when the run ends."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "harvester_rke2.platform.report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display: typing.Any = None, options: typing.Any = None) -> None:
        super().__init__(display=display, options=options)
        self._begun = time.monotonic()
        self._begun_at = datetime.datetime.now(datetime.UTC)
        self._playbook = ""
        self._play = ""
        self._check_mode = False
        self._started: dict[tuple[str, str], float] = {}
        # Executions that the final result no longer shows: those of failed attempts and of a loop's items.
        self._executions: dict[tuple[str, str], int] = {}
        self._entries: list[_run_report.Entry] = []

    def v2_playbook_on_start(self, playbook: typing.Any) -> None:
        self._playbook = os.path.basename(playbook._file_name)

    def v2_playbook_on_play_start(self, play: typing.Any) -> None:
        self._play = play.get_name().strip()
        self._check_mode = bool(play.check_mode)

    def v2_runner_on_start(self, host: typing.Any, task: typing.Any) -> None:
        self._started[host.get_name(), task._uuid] = time.monotonic()

    def v2_runner_retry(self, result: typing.Any) -> None:
        self._count(result)

    def v2_runner_item_on_ok(self, result: typing.Any) -> None:
        self._count(result)

    def v2_runner_item_on_failed(self, result: typing.Any) -> None:
        self._count(result)

    def v2_runner_on_ok(self, result: typing.Any) -> None:
        self._add(result, "changed" if result.is_changed() else "ok")

    def v2_runner_on_failed(self, result: typing.Any, ignore_errors: bool = False) -> None:
        self._add(result, "ignored" if ignore_errors else "failed")

    def v2_runner_on_skipped(self, result: typing.Any) -> None:
        self._add(result, "skipped")

    def v2_runner_on_unreachable(self, result: typing.Any) -> None:
        self._add(result, "unreachable")

    def v2_playbook_on_stats(self, stats: typing.Any) -> None:
        report = _run_report.report(
            self._entries,
            playbook=self._playbook,
            started=self._begun_at.isoformat(timespec="seconds"),
            seconds=time.monotonic() - self._begun,
            check_mode=self._check_mode,
            ansible_core=ansible_version,
        )
        directory = pathlib.Path(self.get_option("directory"))
        try:
            _run_report.write(directory, report)
        except OSError as error:
            self._display.warning(
                f"Writing the report of this run to {directory}: {error.strerror}. Name another folder in "
                "HARVESTER_RKE2_REPORT_DIRECTORY."
            )
        self._display.display(_run_report.line(report))

    def _count(self, result: typing.Any) -> None:
        key = (result.host.get_name(), result.task._uuid)
        self._executions[key] = self._executions.get(key, 0) + module_executions(result.task.action, result.result)

    def _add(self, result: typing.Any, state: str) -> None:
        host, task = result.host.get_name(), result.task
        key = (host, task._uuid)
        now = time.monotonic()
        started = self._started.pop(key, now)
        if state not in ("skipped", "unreachable") and not task.loop:
            self._count(result)
        self._entries.append(
            _run_report.Entry(
                play=self._play,
                role=task._role.get_name() if task._role else "",
                task=task.name or task.action,
                action=task.action,
                phase=next((tag for tag in task.tags if PHASE.fullmatch(str(tag))), ""),
                host=host,
                state=state,
                module_executions=self._executions.pop(key, 0),
                offset=round(started - self._begun, 3),
                seconds=round(now - started, 3),
            )
        )


def module_executions(action: str, result: typing.Mapping[str, typing.Any]) -> int:
    """How many times one result, of a task or a loop's item, comes from a module that ran on the target."""
    said = result.get("module_executions")
    if isinstance(said, int):
        return said
    namespace, _dot, name = action.rpartition(".")
    return 0 if namespace in ("", "ansible.builtin", "ansible.legacy") and name in CONTROLLER_ONLY else 1
