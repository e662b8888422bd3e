# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Start, find and end the lab's own processes.

A process is known by pid and start time, so that a reused pid is never taken for ours.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lab.settings import Lab, LabError

MARK = "LAB_PROCESS"  # in the environment of all that a lab starts: the state directory it belongs to


@dataclass(frozen=True)
class Program:
    """A daemon of the lab."""

    name: str
    argv: Sequence[str]
    kind: str = "real"
    version: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: Sequence[int] = ()


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which the process began; None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def record(lab: Lab, name: str) -> Path:
    return lab.path("run", f"{name}.json")


def running_pid(lab: Lab, name: str) -> int | None:
    try:
        kept = json.loads(record(lab, name).read_text())
    except (FileNotFoundError, ValueError):
        return None
    pid = int(kept["pid"])
    return pid if start_time(pid) == kept["started"] else None


def start(lab: Lab, program: Program, enter: Sequence[str] = ()) -> int:
    """Start a program unless it runs; `enter` puts it into the lab's namespace."""
    pid = running_pid(lab, program.name)
    if pid is not None:
        return pid
    lab.path("run").mkdir(parents=True, exist_ok=True)
    lab.path("log").mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **program.environment, MARK: str(lab.directory)}
    with lab.path("log", f"{program.name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*enter, *program.argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
            cwd=lab.repository,
            pass_fds=program.pass_fds,
        )
    kept = {"pid": process.pid, "started": start_time(process.pid), "kind": program.kind, "version": program.version}
    target = record(lab, program.name)
    target.with_suffix(".new").write_text(json.dumps(kept))
    target.with_suffix(".new").rename(target)
    return process.pid


def stop(lab: Lab, names: Iterable[str], seconds: float = 10.0) -> None:
    """End programs together: SIGTERM, then SIGKILL for those that do not go."""
    pids = {name: pid for name in names if (pid := running_pid(lab, name)) is not None}
    end(pids.values(), seconds)
    for name in pids:
        record(lab, name).unlink(missing_ok=True)


def end(pids: Iterable[int], seconds: float = 10.0) -> None:
    waiting = {pid: began for pid in pids if (began := start_time(pid)) is not None}
    for pid in waiting:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while waiting and time.monotonic() < deadline:
        _reap()
        waiting = {pid: began for pid, began in waiting.items() if start_time(pid) == began}
        time.sleep(0.02)
    for pid, began in waiting.items():
        if start_time(pid) == began:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(start_time(pid) == began for pid, began in waiting.items()) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.02)


def marked(lab: Lab) -> list[int]:
    """Every process that carries this lab's mark, also children whose record is lost."""
    wanted = f"{MARK}={lab.directory}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def strays(lab: Lab) -> list[int]:
    """Daemons that a start killed at the wrong moment did not write down."""
    all_marked = set(marked(lab))
    kept = {running_pid(lab, file.stem) for file in lab.path("run").glob("*.json")}
    return [pid for pid in all_marked - kept if parent(pid) not in all_marked]


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            found[parent(int(entry.name))].append(int(entry.name))
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _reap() -> None:
    """Children of this very run would stay as zombies."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def run(argv: Sequence[str], doing: str, mend: str = "", text: str | None = None) -> str:
    """Run a short command to its end; its own words go into the error."""
    done = subprocess.run(list(argv), input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr or done.stdout).strip() or f"{argv[0]} ended with {done.returncode}"
        raise LabError(f"{doing}: {why}. {mend}".rstrip())
    return done.stdout
