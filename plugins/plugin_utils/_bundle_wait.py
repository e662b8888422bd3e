# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Long waits of modules in slices, with a line of progress after each (private to this collection)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible.utils.display import Display
from ansible_collections.harvester_rke2.platform.plugins.module_utils._ready import timed_out

SLICE = 30
Execute = Callable[[str, dict[str, Any]], dict[str, Any]]


class Slices:
    """Runs modules until a deadline, and counts how often."""

    def __init__(self, title: str, seconds: int, execute: Execute) -> None:
        self.title = title
        self.seconds = seconds
        self.executions = 0
        self.last = 0
        self._start = time.monotonic()
        self._execute = execute

    @property
    def left(self) -> int:
        return max(0, int(self.seconds - (time.monotonic() - self._start)))

    @property
    def passed(self) -> int:
        return round(time.monotonic() - self._start)

    def slice(self) -> int:
        self.last = min(SLICE, self.left)
        return self.last

    def run(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.executions += 1
        result = self._execute(f"harvester_rke2.platform.{module}", arguments)
        # The parameters may hold Secrets, and are as big as the bundle.
        result.pop("invocation", None)
        return result

    def tell(self, result: dict[str, Any]) -> None:
        """One line that says what is missing."""
        passed = round(time.monotonic() - self._start)
        missing = result.get("not_ready") or []
        if missing:
            first = missing[0]
            name = f"{first['namespace']}/{first['name']}" if first["namespace"] else first["name"]
            what = f"{len(missing)} not ready, such as {first['kind']} {name} ({first['reason']})"
        else:
            what = str(result.get("msg", "")).splitlines()[0]
        Display().display(f"{self.title}: {passed} of {self.seconds} s: {what}"[:400])

    def until_ready(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The module `ready` again and again, until all is ready, something is hopeless, or time is up."""
        while True:
            result = self.run("ready", {**arguments, "timeout": self.slice()})
            over = not result.get("failed") or not result.get("not_ready") or result.get("hopeless")
            if over or self.left <= 0:
                if result.get("failed") and result.get("not_ready"):
                    # The module knows only its own slice.
                    passed = time.monotonic() - self._start
                    result["msg"] = str(timed_out(result["not_ready"], result["waited_for"], passed))
                return result
            self.tell(result)
