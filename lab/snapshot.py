# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A copy of etcd's data with schemas, nodes and the first objects in it, so that a start need not make them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lab import schemas
from lab.settings import SOURCES, cache

KEEP = 3


def digest(versions: Iterable[str]) -> str:
    """Of everything that decides what the data is."""
    state = hashlib.sha256("\n".join(versions).encode())
    groups = [group for server in schemas.GROUPS.values() for group in server]
    files = [
        *(SOURCES / name for name in ("seed.py", "settings.py", "kinds.yaml")),
        *(SOURCES / "manifests" / "objects").glob("*.yaml"),
        *(file for group in groups for file in schemas.files_of(group)),
    ]
    for file in sorted(files):
        state.update(file.name.encode() + b"\0" + file.read_bytes())
    return state.hexdigest()[:16]


def place(name: str) -> Path:
    return cache() / "snapshots" / name


def restore(name: str, target: Path) -> bool:
    """Put the data of a kept snapshot in place; False when there is none."""
    if not place(name).is_dir():
        return False
    shutil.rmtree(target, ignore_errors=True)
    _copy(place(name), target)
    place(name).touch()
    return True


def save(source: Path, name: str) -> None:
    folder = cache() / "snapshots"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    _copy(source, work / "etcd")
    if not place(name).exists():
        (work / "etcd").rename(place(name))
    shutil.rmtree(work, ignore_errors=True)
    kept = sorted((entry for entry in folder.iterdir() if entry.is_dir()), key=lambda entry: entry.stat().st_mtime)
    for old in kept[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    # etcd's log is preallocated: mostly holes
    subprocess.run(["cp", "-r", "--sparse=always", "--reflink=auto", str(source), str(target)], check=True)
