# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""One line for each part: what it is, whether it runs, what it takes."""

from __future__ import annotations

import json
from collections.abc import Callable

from lab import controlplane, processes
from lab.netns import Namespace
from lab.settings import SOURCES, Lab


def expected(lab: Lab) -> list[str]:
    names = ["forwarder", *controlplane.all_names(), "emulator"]
    if not Namespace(lab).rooted:
        names.insert(0, "holder")
    if (SOURCES / "agent" / "__main__.py").exists():
        names.append("agent")
    return names


def show(lab: Lab, say: Callable[[str], None]) -> int:
    rows = [("part", "what", "version", "pid", "MiB", "log")]
    total, missing = 0, []
    for name in expected(lab):
        pid = processes.running_pid(lab, name)
        record = processes.record(lab, name)
        kept = json.loads(record.read_text()) if record.exists() else {}
        memory = processes.resident_bytes(pid) if pid else 0
        total += memory
        if pid is None:
            missing.append(name)
        log = lab.path("log", f"{name}.log")
        size = f"{memory / 2**20:.0f}" if pid else "-"
        rows.append((name, kept.get("kind", "-"), kept.get("version") or "-", str(pid or "down"), size, str(log)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    say(f"{len(rows) - 1 - len(missing)} of {len(rows) - 1} run, {total / 2**20:.0f} MiB")
    return 1 if missing else 0
