# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The lab's state directory: ports that stay the same, and the files a shell and Ansible use."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import settings
from lab.netns import Namespace
from lab.pki import write
from lab.rancher import settings as rancher
from lab.settings import SERVERS, Lab, LabError

HTTPS = "https"  # the load balancer's port 443


def ports(lab: Lab) -> dict[str, int]:
    """Ports on 127.0.0.1, chosen once and kept."""
    file = lab.path("ports.json")
    names = [*(server.name for server in SERVERS), HTTPS, rancher.PORT_NAME]
    if file.exists():
        kept: dict[str, int] = json.loads(file.read_text())
        if set(names) <= set(kept):
            return kept
    # labs of different checkouts start looking at different places
    first = 20000 + int(hashlib.sha256(str(lab.directory).encode()).hexdigest(), 16) % 12000
    for base in range(first, 32700, len(names)):
        if all(free(base + number) for number in range(len(names))):
            chosen = {name: base + number for number, name in enumerate(names)}
            write(file, json.dumps(chosen).encode(), 0o644)
            return chosen
    raise LabError("Choosing ports on 127.0.0.1: none free from 20000 to 32700. End what holds them.")


def free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def locked(lab: Lab) -> Iterator[None]:
    """One `up` or `down` at a time."""
    lab.directory.mkdir(parents=True, exist_ok=True)
    lab.directory.chmod(0o700)
    with lab.path(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another start or stop of this lab", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_wrapper(lab: Lab, namespace: Namespace) -> None:
    """The interpreter of the lab's inventory: enter the namespace, then run the Python that runs the lab."""
    enter = " ".join('--wd="$PWD"' if word.startswith("--wd=") else shlex.quote(word) for word in namespace.enter)
    text = f'#!/bin/sh\nexec {enter} {shlex.quote(sys.executable)} "$@"\n'
    write(lab.path("python"), text.encode(), 0o755)


def write_environment(lab: Lab, chosen: dict[str, int]) -> None:
    """For `. .lab/env` in a shell."""
    path = [str(lab.path("bin")), str(Path(sys.executable).parent)]
    values = {
        "LAB_NAME": lab.name,
        "LAB_PYTHON": str(lab.path("python")),
        "LAB_DOMAIN": settings.DOMAIN,
        "LAB_HTTPS_PORT": str(chosen[HTTPS]),
        "LAB_RANCHER_URL": rancher.URL,
        "LAB_RANCHER_PORT": str(chosen[rancher.PORT_NAME]),
        "KUBECONFIG": str(lab.path("kubeconfig", "cluster.yaml")),
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    lines.append(f'export PATH={shlex.quote(os.pathsep.join(path))}:"$PATH"')
    write(lab.path("env"), ("\n".join(lines) + "\n").encode(), 0o644)
