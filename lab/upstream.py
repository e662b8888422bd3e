# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Upstream's schemas out of Go modules, kept in the cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from lab.settings import SOURCES, LabError, cache

TABLE = SOURCES / "schemas.yaml"


def table() -> dict[str, dict[str, str]]:
    entries: dict[str, dict[str, str]] = yaml.safe_load(TABLE.read_text())
    return entries


def place(group: str) -> Path | None:
    """Where the group's schemas are or would be kept; None when no module has them."""
    entry = table().get(group)
    return cache() / "schemas" / f"{group}-{entry['version']}" if entry else None


def fetch(groups: Iterable[str], say: Callable[[str], None]) -> None:
    """Get what is not kept yet; without a network or a Go command the next source is taken."""
    for group in groups:
        folder, entry = place(group), table().get(group)
        if folder is None or entry is None or folder.is_dir():
            continue
        try:
            module = _download(entry)
        except OSError as error:
            say(f"schemas of {group}: not from upstream ({error}); next source")
            continue
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        for file in sorted((module / entry["folder"]).glob(f"{group}_*.yaml")):
            crd = plain(yaml.safe_load(file.read_text()))
            (work / f"{crd['metadata']['name']}.yaml").write_text(yaml.safe_dump(crd, sort_keys=False, width=1000))
        if not folder.exists():
            work.rename(folder)
        shutil.rmtree(work, ignore_errors=True)


def plain(crd: dict[str, Any]) -> dict[str, Any]:
    """Without what needs the operator itself: its conversion webhook, and a status that is not ours to claim."""
    crd.pop("status", None)
    crd["spec"].pop("conversion", None)
    return crd


def _download(entry: dict[str, str]) -> Path:
    go = shutil.which("go")
    if go is None:
        raise FileNotFoundError("no Go command")
    name = f"{entry['module']}@{entry['version']}"
    # outside of any module, so that nothing of this repository changes
    with tempfile.TemporaryDirectory() as nowhere:
        done = subprocess.run(
            [go, "mod", "download", "-json", name],
            capture_output=True,
            text=True,
            check=False,
            cwd=nowhere,
            timeout=300,
            env={**os.environ, "GOFLAGS": "-mod=mod"},
        )
    answer = json.loads(done.stdout or "{}")
    if done.returncode != 0 or "Dir" not in answer:
        raise OSError(str(answer.get("Error") or done.stderr).strip().splitlines()[-1][:200])
    if answer["Sum"] != entry["sum"]:
        raise LabError(f"Downloading the Go module {name}: its checksum differs. Do not use it; check the proxy.")
    return Path(answer["Dir"])
