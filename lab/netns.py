# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The one network namespace that holds everything inside the cluster.

As root it is a named namespace of `ip netns`; for any other user a holder process keeps a user, network and mount
namespace alive.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab import processes, settings
from lab.rancher import settings as rancher
from lab.settings import Lab, LabError

HOLDER = "holder"


@dataclass(frozen=True)
class Namespace:
    lab: Lab

    @property
    def rooted(self) -> bool:
        return os.geteuid() == 0

    @property
    def enter(self) -> list[str]:
        """The words to put before a command so that it runs inside."""
        if self.rooted:
            return ["ip", "netns", "exec", self.lab.namespace]
        holder = processes.running_pid(self.lab, HOLDER)
        if holder is None:
            raise LabError("Entering the lab's namespace: it does not exist. Start the lab: make lab-up.")
        return ["nsenter", "-t", str(holder), "-U", "-n", "-m", "--preserve-credentials", f"--wd={os.getcwd()}", "--"]

    @property
    def exists(self) -> bool:
        if self.rooted:
            return Path("/run/netns", self.lab.namespace).exists()
        return processes.running_pid(self.lab, HOLDER) is not None

    @property
    def resolver(self) -> Path:
        return Path("/etc/netns", self.lab.namespace, "resolv.conf")

    def create(self, ports: Mapping[str, int]) -> None:
        """Make the namespace and its addresses; every step may be repeated."""
        if not self.exists:
            if self.rooted:
                processes.run(["ip", "netns", "add", self.lab.namespace], "Making the lab's network namespace")
            else:
                self._hold()
        self._resolver()
        processes.run([*self.enter, "sh", "-ec", script()], "Setting up the lab's network")
        processes.run([*self.enter, "nft", "-f", "-"], "Setting up the lab's packet filter", text=filters(ports))

    def _hold(self) -> None:
        argv = ["unshare", "-Urnm", "sh", "-c", "exec sleep infinity"]
        before = os.stat("/proc/self/ns/net").st_ino
        pid = processes.start(self.lab, processes.Program(HOLDER, argv, version="unshare"))
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with suppress(OSError):
                inside = os.stat(f"/proc/{pid}/ns/net").st_ino != before
                if inside and Path(f"/proc/{pid}/comm").read_text().strip() == "sleep":
                    return
            time.sleep(0.02)
        raise LabError(
            "Making the lab's namespace as an ordinary user: its holder did not come up. "
            f"Read {self.lab.path('log', HOLDER)}.log, or run the lab as root."
        )

    def _resolver(self) -> None:
        text = f"nameserver {settings.DNS_SERVER}\n"
        if self.rooted:
            self.resolver.parent.mkdir(parents=True, exist_ok=True)
            self.resolver.write_text(text)
            return
        own = self.lab.path("run", "resolv.conf")
        own.write_text(text)
        bind = f"mount --bind {own} /etc/resolv.conf"
        processes.run(
            [*self.enter, "sh", "-ec", f"cmp -s {own} /etc/resolv.conf || {bind}"], "Setting the lab's resolver"
        )

    def pids(self) -> list[int]:
        """Every process whose network is this namespace."""
        try:
            if self.rooted:
                wanted = os.stat(f"/run/netns/{self.lab.namespace}").st_ino
            else:
                wanted = os.stat(f"/proc/{processes.running_pid(self.lab, HOLDER)}/ns/net").st_ino
        except FileNotFoundError:
            return []
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if os.stat(entry / "ns" / "net").st_ino == wanted:
                        found.append(int(entry.name))
        return found

    def remove(self) -> None:
        processes.end(pid for pid in self.pids() if pid != os.getpid())
        if self.rooted and self.exists:
            processes.run(["ip", "netns", "del", self.lab.namespace], "Removing the lab's network namespace")
        if self.rooted:
            shutil.rmtree(self.resolver.parent, ignore_errors=True)
            with suppress(OSError):  # another lab's is still in it
                self.resolver.parent.parent.rmdir()


def script() -> str:
    """Addresses and routes; `replace` makes each line repeatable."""
    return "\n".join(
        [
            "ip link set lo up",
            f"ip addr replace {settings.LOCAL_RANGE} dev lo",
            # local, so that kube-proxy's refusal of a Service without endpoints comes back at once
            f"ip route replace local {settings.SERVICE_RANGE} dev lo src {settings.CLUSTER.address}",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter",
            "echo 0 > /proc/sys/net/ipv4/conf/default/rp_filter",
            "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start",
        ]
    )


def filters(ports: Mapping[str, int]) -> str:
    """Lead the ports of the kubeconfigs to the API servers inside, so that one kubeconfig serves inside and outside."""
    rules = [
        f"    ip daddr 127.0.0.1 tcp dport {ports[server.name]} dnat to {server.address}:6443"
        for server in settings.SERVERS
    ]
    if rancher.PORT_NAME in ports:
        target = f"{rancher.ADDRESS}:{rancher.PORT}"
        rules.append(f"    ip daddr 127.0.0.1 tcp dport {ports[rancher.PORT_NAME]} dnat to {target}")
    body = ["  chain output {", "    type nat hook output priority -100;", *rules, "  }"]
    return "\n".join(["table ip lab", "delete table ip lab", "table ip lab {", *body, "}", ""])


def available() -> bool:
    """Whether this user may make namespaces at all."""
    if os.geteuid() == 0:
        return True
    return subprocess.run(["unshare", "-Urn", "true"], capture_output=True, check=False).returncode == 0
