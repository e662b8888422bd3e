# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The containers of a node scenario, and the negative control.

A test marked ``behaviour`` shows what the role is for. Molecule's prepare runs these with ``--role-off`` on the bare
node: each must fail there, by its assertion, or the scenario ends.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--role-off", action="store_true", help="each behaviour is expected to be missing")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "behaviour: what the role is for; missing where it has not run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--role-off"):
        return
    missing = pytest.mark.xfail(strict=True, raises=AssertionError, reason="the role has not run")
    items[:] = [item for item in items if item.get_closest_marker("behaviour")]
    for item in items:
        item.add_marker(missing)


def pytest_terminal_summary(config: pytest.Config, terminalreporter: Any) -> None:
    """Keep what failed, and what each behaviour did, role off and on: with two workers Molecule shows none of it."""
    how = "role off" if config.getoption("--role-off") else "role on"
    kept = HERE.parents[1] / ".run" / "nodes"
    kept.mkdir(parents=True, exist_ok=True)
    for outcome in ("failed", "error"):
        for report in terminalreporter.getreports(outcome):
            with (kept / "failed.txt").open("a") as file:
                file.write(f"--- {report.nodeid} ({how}, {report.when})\n{report.capstdout[-4000:]}\n")
                # Last, as whoever has only the end of a log needs the reason.
                file.write(f"{report.caplog}\n{report.longreprtext}\n")
    for outcome in ("passed", "failed", "xfailed", "xpassed"):
        for report in terminalreporter.getreports(outcome):
            if "behaviour" in report.keywords:
                scenario, test = Path(report.nodeid.split("::")[0]).parts[-3:][0], report.nodeid.split("::", 1)[1]
                said = {"passed": "there", "xfailed": "missing"}.get(outcome, "WRONG")
                with (kept / "behaviour.txt").open("a") as file:
                    file.write(f"{scenario:16} {test:75} {how:9} {said}\n")


@dataclass(frozen=True)
class Container:
    """One member of the scenario."""

    name: str

    def run(self, command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A shell command in it; its outcome is the caller's to judge."""
        words = ["podman", "exec", self.name, "sh", "-c", command]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout)

    def out(self, command: str, timeout: float = 60) -> str:
        """Its output; a command that fails is a broken test, not a missing behaviour."""
        done = self.run(command, timeout)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {command}: {done.stderr or done.stdout}")
        return done.stdout.strip()

    def in_background(self, command: str) -> subprocess.Popen[str]:
        words = ["podman", "exec", self.name, "sh", "-c", command]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def restart(self) -> None:
        """Boot it again, and wait until systemd is done."""
        subprocess.run(["podman", "restart", "-t", "5", self.name], check=True, capture_output=True, timeout=60)
        assert eventually(lambda: self.run("systemctl is-system-running --wait").stdout.strip() == "running", 40)


def eventually(condition: Callable[[], bool], seconds: float = 15) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


@dataclass(frozen=True)
class Nodes:
    """The members and networks of a scenario."""

    scenario: str
    eventually = staticmethod(eventually)

    def _ask(self, *words: str) -> str:
        done = subprocess.run([HERE / "containers", *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def __getitem__(self, member: str) -> Container:
        return Container(self._ask("name", self.scenario, member))

    def address(self, network: str, host: int) -> str:
        """In a network (nodes, services, outside): 11 the node, 12 peer or client, 2 the router."""
        return f"{self._ask('address', self.scenario, network)}.{host}"


@pytest.fixture(scope="session")
def nodes(request: pytest.FixtureRequest) -> Nodes:
    return Nodes(Path(str(request.config.args[0])).resolve().relative_to(HERE).parts[0])


@pytest.fixture(scope="session")
def sut(nodes: Nodes) -> Container:
    return nodes["sut"]


@pytest.fixture(scope="session")
def peer(nodes: Nodes) -> Container:
    return nodes["peer"]


@pytest.fixture(scope="session")
def router(nodes: Nodes) -> Container:
    return nodes["router"]


@pytest.fixture(scope="session")
def client(nodes: Nodes) -> Container:
    return nodes["client"]
