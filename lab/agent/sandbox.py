# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A pod's own network namespace with its own address, and processes inside it.

Every process here is started by the event loop's thread, which lives as long as the agent: the kernel's parent-death
signal is bound to the thread that started a process, and with it nothing outlives the agent.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

from lab.agent.config import Config, ConfigError

TOOLS = ("bwrap", "ip", "nsenter", "setpriv", "sh", "unshare")


class SandboxError(Exception):
    """Event FailedCreatePodSandBox; tried again."""


class Tools:
    """The programs of this machine that make sandboxes, by their full paths."""

    def __init__(self, config: Config) -> None:
        self.paths: dict[str, str] = {}
        for name in TOOLS:
            found = config.program(name)
            if found is None:
                raise ConfigError(
                    f"Starting the agent: the program {name} is missing. Install bubblewrap, iproute2 and util-linux."
                )
            # `sh` and its like are links whose name decides what they do
            self.paths[name] = str(found) if name != "sh" else "/bin/sh"

    def __getitem__(self, name: str) -> str:
        return self.paths[name]


class Addresses:
    """The pods' addresses, in a file: a pod has its own until it is gone, and the next agent knows them.

    The next address is the one after the last given, so that one just freed is not soon another pod's.
    """

    def __init__(self, network: IPv4Network, file: Path) -> None:
        self.network, self.file = network, file
        self.given: dict[str, str] = {}
        self.last = 1
        if file.exists():
            kept = json.loads(file.read_text())
            self.given, self.last = kept["given"], kept["last"]

    def take(self, uid: str) -> str:
        if uid not in self.given:
            used = set(self.given.values())
            for step in range(1, self.network.num_addresses):
                offset = (self.last + step) % (self.network.num_addresses - 1)
                address = str(self.network[offset])
                if offset > 1 and address not in used:
                    self.given[uid], self.last = address, offset
                    self._save()
                    break
            else:
                raise SandboxError(f"no address is free in {self.network}")
        return self.given[uid]

    def free(self, uid: str) -> None:
        if self.given.pop(uid, None) is not None:
            self._save()

    def _save(self) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps({"given": self.given, "last": self.last}))
        fresh.rename(self.file)


async def run(*argv: str, text: str = "") -> tuple[int, str]:
    """A short command's code and what it said."""
    process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    said, _ = await process.communicate(text.encode())
    return process.returncode or 0, said.decode(errors="replace").strip()


@dataclass
class Sandbox:
    """The network of a pod; `pause` keeps it alive between its containers."""

    tools: Tools
    gateway: str
    address: str
    pause: asyncio.subprocess.Process | None = None

    @property
    def interface(self) -> str:
        return f"pod{int(IPv4Address(self.address)):x}"

    @property
    def alive(self) -> bool:
        return self.pause is not None and self.pause.returncode is None

    async def create(self) -> None:
        tools, name = self.tools, self.interface
        self.pause = await asyncio.create_subprocess_exec(
            *(
                tools["setpriv"],
                "--pdeathsig",
                "KILL",
                tools["unshare"],
                "-n",
                tools["sh"],
                "-c",
                "echo; exec sleep infinity",
            ),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        assert self.pause.stdout is not None
        said = await asyncio.wait_for(self.pause.stdout.readline(), 10)
        if said != b"\n":
            raise SandboxError(f"no network namespace: {said.decode(errors='replace').strip()}")
        pid = self.pause.pid
        outside = (
            f"link add {name} type veth peer name eth0 netns {pid}\nlink set {name} up\n"
            f"route replace {self.address}/32 dev {name} src {self.gateway}\n"
        )
        inside = (
            f"link set lo up\nlink set eth0 up\naddr add {self.address}/32 dev eth0\n"
            f"route add {self.gateway} dev eth0\nroute add default via {self.gateway}\n"
        )
        code, words = await run(tools["ip"], "-batch", "-", text=outside)
        if code != 0:
            # one of a dead agent may still be there for a moment
            await run(tools["ip"], "link", "del", name)
            code, words = await run(tools["ip"], "-batch", "-", text=outside)
        if code == 0:
            # containers may listen on every port, as containerd allows it
            low_ports = "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start"
            script = f"{low_ports}; exec {tools['ip']} -batch -"
            code, words = await run(*self.enter, tools["sh"], "-ec", script, text=inside)
        if code != 0:
            await self.remove()
            raise SandboxError(f"setting up the network: {words}")

    @property
    def enter(self) -> tuple[str, ...]:
        assert self.pause is not None
        return (self.tools["nsenter"], f"--net=/proc/{self.pause.pid}/ns/net")

    async def remove(self) -> None:
        if self.pause is None:
            return
        with suppress(ProcessLookupError):
            self.pause.kill()
        await self.pause.wait()
        self.pause = None
        await run(self.tools["ip"], "link", "del", self.interface)


class Process:
    """The first process of a container."""

    def __init__(self, outer: asyncio.subprocess.Process, pid: int, tools: Tools) -> None:
        self.outer, self.pid, self.tools = outer, pid, tools

    @classmethod
    async def start(
        cls, tools: Tools, network: Sequence[str], options: Sequence[str], argv: Sequence[str], env: Mapping[str, str]
    ) -> Process:
        """`env` is passed on as it is, never in an argument: arguments can be read by everyone."""
        reader, writer = os.pipe()
        try:
            outer = await asyncio.create_subprocess_exec(
                *(*network, tools["bwrap"], "--info-fd", str(writer), *options, "--", *argv),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                env=env,
                pass_fds=(writer,),
                cwd="/",
            )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        told = await asyncio.get_running_loop().run_in_executor(None, read_all, reader)
        pid = int(json.loads(told)["child-pid"]) if told.strip() else 0
        return cls(outer, pid, tools)

    @property
    def running(self) -> bool:
        return self.outer.returncode is None

    def signal(self, number: int) -> None:
        """To the container's first process; without it (it never came up) to the one that should have started it."""
        if self.running:
            with suppress(ProcessLookupError):
                os.kill(self.pid or self.outer.pid, number)

    async def execute(self, argv: Sequence[str], env: Mapping[str, str], timeout: float) -> tuple[int, str]:
        """Run a command in the container: its code (124 after the time-out) and the end of what it said."""
        if not self.running or not self.pid:
            return 126, "container not running"
        process = await asyncio.create_subprocess_exec(
            *(
                self.tools["nsenter"],
                "-t",
                str(self.pid),
                "-U",
                "-m",
                "-p",
                "-n",
                "-u",
                "--preserve-credentials",
                "--",
                *argv,
            ),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=env,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            said, _ = await asyncio.wait_for(process.communicate(), timeout)
        except TimeoutError:
            return 124, f'command "{" ".join(argv)}" timed out'
        finally:
            # also what the command left in the background keeps no pipe of ours
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return process.returncode or 0, said.decode(errors="replace")[-512:].strip()


def read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()
