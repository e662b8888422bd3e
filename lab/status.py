# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""One line for each part: what it is, whether it runs, what it takes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab import controlplane, processes, stages
from lab.netns import Namespace
from lab.rancher import settings as rancher
from lab.settings import SOURCES, Lab

HEADER = ("part", "what", "version", "pid", "MiB", "log")
# The emulator is one process; what it stands in for is listed by name
EMULATED = (
    "Traefik's chart and its HelmChartConfig (helm-controller)",
    "load balancer addresses (Cilium)",
    "volumes of StorageClass harvester and their expansion (Harvester's CSI driver, csi-resizer, kubelet)",
)


@dataclass
class Row:
    name: str
    kind: str
    version: str
    pid: str
    memory: int
    log: str

    def words(self) -> tuple[str, ...]:
        size = f"{self.memory / 2**20:.0f}" if self.memory else "-"
        return (self.name, self.kind, self.version or "-", self.pid, size, self.log)


def expected(lab: Lab) -> list[str]:
    names = ["forwarder", *controlplane.all_names(), "emulator", *rancher.DAEMONS]
    if not Namespace(lab).rooted:
        names.insert(0, "holder")
    if (SOURCES / "agent" / "__main__.py").exists():
        names.append("agent")
    return names


def daemons(lab: Lab) -> list[Row]:
    rows = []
    for name in expected(lab):
        pid = processes.running_pid(lab, name)
        record = processes.record(lab, name)
        kept = json.loads(record.read_text()) if record.exists() else {}
        memory = processes.resident_bytes(pid) if pid else 0
        log = str(lab.path("log", f"{name}.log"))
        rows.append(Row(name, kept.get("kind", "-"), kept.get("version", ""), str(pid or "down"), memory, log))
    return rows


def real_pods(lab: Lab) -> list[Row]:
    """The programs behind pods of known images, found below the agent by the image's folder in their command line."""
    agent = processes.running_pid(lab, "agent")
    if agent is None or not stages.IMAGES.exists():
        return []
    children = processes.children()
    pods: dict[str, int] = defaultdict(int)
    memory: dict[str, int] = defaultdict(int)
    for pid in children[agent]:
        found = re.search(r"/pods/images/([^/\0]+)/", processes.command_line(pid))
        if found:
            pods[found[1]] += 1
            below = [pid]
            while below:
                one = below.pop()
                memory[found[1]] += processes.resident_bytes(one)
                below.extend(children[one])
    programs = {entry["name"]: str(entry.get("program", "")) for entry in yaml.safe_load(stages.IMAGES.read_text())}
    logs = str(lab.path("pods", "logs"))
    return [
        Row(f"image {name}", "real", program, f"{pods[name]} containers", memory[name], logs)
        for name, program in programs.items()
    ]


def show(lab: Lab, say: Callable[[str], None]) -> int:
    rows = daemons(lab)
    missing = [row.name for row in rows if row.pid == "down"]
    if rancher.kept_mode(rancher.Files.of(lab)) == "rancher" and "kube-proxy" in missing:
        # it comes with the first node
        missing.remove("kube-proxy")
    total = sum(row.memory for row in rows)
    pods = real_pods(lab)
    lines = [HEADER, *(row.words() for row in [*rows, *pods])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    for line in lines:
        say("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
    say("simulated by kwok: nodes, pods of all other images")
    for what in EMULATED:
        say(f"emulated by emulator: {what}")
    say("emulated by kubelet: metrics of all nodes' kubelets and cAdvisors, port 10250")
    say(f"emulated by {rancher.SERVER}: Rancher's API, tokens and proxy at {rancher.URL} ({rancher.ADDRESS})")
    say(f"emulated by {rancher.CONTROLLERS}: Rancher's webhook and provisioning, Harvester's machines and images")
    real = sum(row.memory for row in pods)
    say(f"{len(rows) - len(missing)} of {len(rows)} run; {total / 2**20:.0f} MiB, real pods {real / 2**20:.0f} MiB")
    if missing:
        say(f"down: {', '.join(missing)}; start with: make lab-up; read: {Path(lab.directory, 'log')}")
    return 1 if missing else 0
