# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Keep what a run shows of itself to the machine while it runs: temporary files, arguments, environments.

Which of it is secret is known only afterwards, as Vault makes its own keys.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import threading
import time
from collections.abc import Iterable
from typing import Any

from tests.fault._site import MARK

_PAUSE = 0.005


class Files:
    """Every file that appears below some folders, however short its life. A hard link keeps its content also when it
    is removed at once; a file that lives shorter than a look around (some milliseconds) can be missed."""

    def __init__(self, folders: Iterable[pathlib.Path], keep: pathlib.Path) -> None:
        self.folders, self.keep = list(folders), keep
        self.kept: dict[tuple[int, ...], tuple[str, pathlib.Path]] = {}
        self.looks = 0
        self._device = keep.stat().st_dev

    def look(self) -> None:
        self.looks += 1
        for folder in self.folders:
            for entry in _files(folder):
                # Gone again between two calls: the file of the next look is another one.
                with contextlib.suppress(OSError):
                    self._keep(entry)

    def _keep(self, entry: os.DirEntry[str]) -> None:
        status = entry.stat(follow_symlinks=False)
        near = status.st_dev == self._device
        # What is linked keeps its inode; of another file system there are only copies, one each time it has changed.
        key = (status.st_dev, status.st_ino) if near else (status.st_dev, status.st_ino, status.st_mtime_ns)
        if key in self.kept:
            return
        target = self.keep / str(len(self.kept))
        if near:
            os.link(entry.path, target)
        else:
            target.write_bytes(pathlib.Path(entry.path).read_bytes())
        self.kept[key] = entry.path, target

    def contents(self) -> dict[str, bytes]:
        """Path to what was in it at its end."""
        found: dict[str, bytes] = {}
        for path, target in self.kept.values():
            found[f"file {path}"] = found.get(f"file {path}", b"") + target.read_bytes()
        return found


def _files(folder: pathlib.Path | str) -> Iterable[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry


class Processes:
    """Arguments and environment of every process of a run."""

    def __init__(self) -> None:
        self.arguments: set[bytes] = set()
        self.environments: set[bytes] = set()

    def look(self) -> None:
        with os.scandir("/proc") as entries:
            for entry in entries:
                if entry.name.isdigit():
                    with contextlib.suppress(OSError):
                        environment = pathlib.Path(entry.path, "environ").read_bytes()
                        if f"{MARK}=".encode() in environment:
                            self.environments.add(environment)
                            self.arguments.add(pathlib.Path(entry.path, "cmdline").read_bytes())


class Watch:
    """Looks again and again, until the block ends."""

    def __init__(self, folders: Iterable[pathlib.Path], keep: pathlib.Path) -> None:
        keep.mkdir()
        self.files = Files(folders, keep)
        self.processes = Processes()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._again, args=(look,), daemon=True)
            for look in (self.files.look, self.processes.look)
        ]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _again(self, look: Any) -> None:
        while not self._over.is_set():
            look()
            time.sleep(_PAUSE)

    def contents(self) -> dict[str, bytes]:
        """What was seen, by where it was seen."""
        arguments = {f"arguments {number}": line for number, line in enumerate(sorted(self.processes.arguments))}
        environments = {f"environment {n}": line for n, line in enumerate(sorted(self.processes.environments))}
        return {**self.files.contents(), **arguments, **environments}
