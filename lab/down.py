# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Stop a lab and take away all that it made."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from lab import processes, state
from lab.netns import Namespace
from lab.settings import Lab

KEPT = {"log", "audit", "ports.json", ".lock"}


def stop(lab: Lab, say: Callable[[str], None], purge: bool = False) -> None:
    """The next start is a fresh cluster, from the snapshot in the cache; logs stay unless `purge`."""
    if not lab.directory.exists():
        say(f"lab {lab.name} is not there")
        return
    began = time.monotonic()
    with state.locked(lab):
        # the agent first, so that it ends its pods in order; etcd last, so that nobody complains meanwhile
        processes.stop(lab, ["agent"], 15)
        records = [file.stem for file in lab.path("run").glob("*.json")] if lab.path("run").exists() else []
        processes.stop(lab, [name for name in records if name not in {"etcd", "holder"}], 15)
        processes.stop(lab, ["etcd"])
        namespace = Namespace(lab)
        processes.end([pid for pid in processes.marked(lab) if pid != processes.running_pid(lab, "holder")])
        namespace.remove()
        processes.stop(lab, ["holder"])
        for entry in lab.directory.iterdir():
            if purge or entry.name not in KEPT:
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != ".lock":
                    entry.unlink()
    if purge:
        shutil.rmtree(lab.directory)
    say(f"lab {lab.name} is down: {time.monotonic() - began:.1f} s")
