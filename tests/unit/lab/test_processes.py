# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Processes are found by pid and start time, ended together, and never confused with another's."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from lab import processes
from lab.processes import Program
from lab.settings import Lab, LabError

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)",
]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab("test", tmp_path)


def test_a_program_is_started_once(lab: Lab) -> None:
    first = processes.start(lab, Program("sleeper", SLEEP, version="1"))
    try:
        assert processes.start(lab, Program("sleeper", SLEEP)) == first
        assert processes.running_pid(lab, "sleeper") == first
        assert processes.resident_bytes(first) > 0
    finally:
        processes.stop(lab, ["sleeper"])
    assert processes.running_pid(lab, "sleeper") is None
    assert not processes.record(lab, "sleeper").exists()


def test_a_reused_pid_is_not_ours(lab: Lab) -> None:
    record = processes.record(lab, "other")
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"pid": os.getpid(), "started": 1}))
    assert processes.running_pid(lab, "other") is None


def test_what_does_not_go_is_killed(lab: Lab) -> None:
    pid = processes.start(lab, Program("stubborn", STUBBORN))
    log = lab.path("log", "stubborn.log")
    deadline = time.monotonic() + 10
    while not log.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)
    processes.stop(lab, ["stubborn"], seconds=0.3)
    assert processes.start_time(pid) is None


def test_a_daemon_nobody_wrote_down_is_found(lab: Lab) -> None:
    pid = processes.start(lab, Program("lost", SLEEP))
    processes.record(lab, "lost").unlink()
    try:
        # Its environment can be read a moment after exec has closed the pipe that Popen waits for.
        deadline = time.monotonic() + 5
        while pid not in processes.marked(lab) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pid in processes.marked(lab)
        assert processes.strays(lab) == [pid]
    finally:
        processes.end([pid])
    assert pid not in processes.marked(lab)


def test_a_failed_command_says_its_own_words() -> None:
    with pytest.raises(LabError, match=r"Doing a thing: no such luck\. Mend it\."):
        processes.run(["sh", "-c", "echo no such luck >&2; exit 3"], "Doing a thing", "Mend it.")
