# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What folders and the agent's containers use, as this machine sees it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab import processes

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """One container's processes together."""

    cpu_seconds: float
    resident: int
    anonymous: int
    started: float
    network: tuple[int, int]  # bytes received and sent by its pod


def folder(path: Path) -> tuple[int, int]:
    """Bytes and entries below. A file counts by its length: a sparse one fills a volume and costs no disk."""
    size = entries = 0
    waiting = [str(path)]
    while waiting:
        # files come and go meanwhile
        with suppress(OSError), os.scandir(waiting.pop()) as found:
            for entry in found:
                with suppress(OSError):
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
    return size, entries


def containers(run: Path) -> dict[tuple[str, str], Usage]:
    """By pod's uid and container's name: the agent's bubblewrap has both in its arguments and the container below."""
    mark = re.compile(re.escape(str(run)) + r"/pods/([^/\0]+)/messages/([^/\0]+)\0")
    children = processes.children()
    words = {pid: found for pids in children.values() for pid in pids if (found := mark.search(command(pid)))}
    booted = boot_time()
    made: dict[tuple[str, str], Usage] = {}
    for pid, found in words.items():
        if processes.parent(pid) in words:
            continue
        below = [one for one in descendants(pid, children) if one not in words]
        used = measure(below, booted)
        if used is not None:
            made[(found[1], found[2])] = used
    return made


def command(pid: int) -> str:
    try:
        return processes.command_line(pid)
    except OSError:  # another user's, or gone this moment
        return ""


def descendants(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    for child in children.get(pid, []):
        yield child
        yield from descendants(child, children)


def measure(pids: list[int], booted: float) -> Usage | None:
    """None when none of them is there any more."""
    ticks = resident = shared = 0
    starts: list[int] = []
    network = (0, 0)
    for pid in pids:
        with suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            memory = Path(f"/proc/{pid}/statm").read_text().split()
            # with the children that have ended: a sum over the living alone would fall
            ticks += sum(int(field) for field in fields[11:15])
            starts.append(int(fields[19]))
            resident += int(memory[1])
            shared += int(memory[2])
            network = network if any(network) else traffic(Path(f"/proc/{pid}/net/dev").read_text())
    if not starts:
        return None
    began = booted + min(starts) / TICKS
    return Usage(ticks / TICKS, resident * PAGE, (resident - shared) * PAGE, began, network)


def traffic(table: str, interface: str = "eth0") -> tuple[int, int]:
    for line in table.splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == interface:
            fields = numbers.split()
            return int(fields[0]), int(fields[8])
    return 0, 0


def boot_time() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
