# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Run a module of this collection as a process of its own, as Ansible does, so that it can be killed."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
_START = """
import runpy, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
runpy.run_module("ansible_collections.harvester_rke2.platform.plugins.modules." + sys.argv[1], run_name="__main__")
"""


@functools.cache
def collections() -> str:
    """A folder in which this checkout is found under the collection's name."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="collections-"))
    link = folder / "ansible_collections" / "harvester_rke2" / "platform"
    link.parent.mkdir(parents=True)
    link.symlink_to(ROOT)
    return str(folder)


@dataclass
class Outcome:
    returncode: int
    result: dict[str, Any]
    text: str

    @property
    def message(self) -> str:
        return str(self.result.get("msg", ""))


def start(name: str, params: dict[str, Any], *, check: bool = False, largest_file: int = 0) -> subprocess.Popen[bytes]:
    """``largest_file`` makes the disk full for this process beyond that many bytes a file."""
    arguments = {"ANSIBLE_MODULE_ARGS": {**params, "_ansible_check_mode": check, "_ansible_diff": True}}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VAULT_")}
    process = subprocess.Popen(
        [sys.executable, "-c", _START, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, "PYTHONPATH": collections(), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=functools.partial(_limit, largest_file) if largest_file else None,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(arguments).encode())
    process.stdin.close()
    process.stdin = None
    return process


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def finish(process: subprocess.Popen[bytes], timeout: float = 300) -> Outcome:
    out, err = process.communicate(timeout=timeout)
    lines = [line for line in out.decode().splitlines() if line.startswith("{")]
    result = json.loads(lines[-1]) if lines else {}
    return Outcome(process.returncode, result, out.decode() + err.decode())


def run(name: str, params: dict[str, Any], *, check: bool = False, timeout: float = 300) -> Outcome:
    return finish(start(name, params, check=check), timeout)
