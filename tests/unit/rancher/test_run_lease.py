# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Whether the process of a run lives. What a Lease does is in tests/integration/test_run_lease.py, on a real server."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _run_lease as leases


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_a_process_is_known_by_machine_number_and_start() -> None:
    process = sleeper()
    said = leases.process_of(process.pid)
    assert len(said.split(" ")) == 4
    assert leases.lives(process.pid, said) and leases.fate(said) is True
    process.kill()
    deadline = time.monotonic() + 10
    while leases.fate(said) and time.monotonic() < deadline:
        time.sleep(0.01)
    # Nobody has taken note of its end yet: it still has its number.
    assert process.returncode is None and os.path.exists(f"/proc/{process.pid}")
    assert leases.fate(said) is False and not leases.lives(process.pid, said)
    process.wait()
    assert leases.fate(said) is False and not leases.lives(process.pid, said)


def test_another_process_of_the_same_number_is_another_one() -> None:
    *place, _started = leases.process_of(os.getpid()).split(" ")
    assert leases.fate(" ".join([*place, "1"])) is False


@pytest.mark.parametrize("change", [0, 1], ids=["machine", "process namespace"])
def test_of_another_machine_nothing_is_known(change: int) -> None:
    parts = leases.process_of(os.getpid()).split(" ")
    parts[change] = "another"
    assert leases.fate(" ".join(parts)) is None


@pytest.mark.parametrize("said", ["", "x", "a b c d", "a b 1"])
def test_of_what_is_not_said_nothing_is_known(said: str) -> None:
    assert leases.fate(said) is None


def test_the_background_process_outlives_its_starter_and_holds_none_of_its_pipes() -> None:
    """The starter's output ends at once, although the background process goes on."""
    program = (
        "import sys, time, pathlib\n"
        "from ansible_collections.harvester_rke2.platform.plugins.module_utils import _run_lease as leases\n"
        "leases.in_background(lambda: (time.sleep(3), pathlib.Path(sys.argv[1]).write_text('done')))\n"
        "print('started')\n"
    )
    file = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"lease-{os.getpid()}")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", program, file]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout == "started\n" and not os.path.exists(file), done.stderr
    deadline = time.monotonic() + 15
    while not os.path.exists(file) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert os.path.exists(file)
    os.unlink(file)
