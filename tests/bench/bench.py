# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""One table of what the blocks cost beside other ways of doing the same, all in one run on one API server.

Needs a running lab (LAB_NAME). Everything runs inside the lab's namespace,
straight against its API server, and is deleted afterwards. Times depend on the machine: compare ratios.

BENCH_SITE is the command whose second run is measured (`-` leaves it out), by default the whole site on the lab.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab.settings import REPOSITORY, Lab

COLLECTIONS = REPOSITORY / ".ansible" / "collections"
LAB = Lab.from_environment().directory
DIRECT = "https://198.18.0.1:6443"
SMALL, LARGE, LOOPED = 300, 3000, 30
FILES = 6

# Runs the module as Ansible would run it, in a process of its own, and tells its peak memory.
MODULE = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
start = time.perf_counter()
from ansible_collections.harvester_rke2.platform.plugins.modules import bundle
params = {key: spec.get("default") for key, spec in bundle.ARGUMENTS.items()}
given = json.load(sys.stdin)
params.update(given["params"])
loaded = time.perf_counter()
bundle.execute(params, given["objects"], False, False)
print(json.dumps({"import": loaded - start, "work": time.perf_counter() - loaded,
                  "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


@dataclass
class Row:
    what: str
    objects: int
    seconds: float
    memory: float = 0.0
    note: str = ""

    @property
    def each(self) -> float:
        return self.seconds / self.objects * 1000


@dataclass
class Bench:
    """The tools of one run and what has been measured."""

    folder: Path
    kubeconfig: Path
    rows: list[Row] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)

    def inside(self, *words: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        """Run a program where the lab's addresses are."""
        enter = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
        done = subprocess.run(
            [str(LAB / "python"), "-c", enter, *words], capture_output=True, text=True, check=False, **kwargs
        )
        if done.returncode:
            sys.exit(f"bench: {' '.join(words[:6])} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done

    def kubectl(self, *words: str) -> float:
        start = time.perf_counter()
        self.inside(str(LAB / "bin" / "kubectl"), "--kubeconfig", str(self.kubeconfig), *words)
        return time.perf_counter() - start

    def namespace(self) -> str:
        name = f"bench-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", name)
        self.namespaces.append(name)
        return name

    def playbook(self, *tasks: dict[str, Any], **variables: Any) -> float:
        """The wall time of a playbook on an inventory of one local host."""
        path = self.folder / "playbook.yml"
        play = {
            "hosts": "bench",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": str(LAB / "python"), **variables},
            "tasks": list(tasks),
        }
        path.write_text(yaml.safe_dump([play]))
        start = time.perf_counter()
        done = subprocess.run(
            [tool("ansible-playbook"), "-i", "bench,", str(path)],
            cwd=REPOSITORY,
            env={**os.environ, "HARVESTER_RKE2_REPORT_DIRECTORY": str(self.folder / "report")},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"bench: the playbook failed:\n{done.stdout[-3000:]}\n{done.stderr[-1000:]}")
        return time.perf_counter() - start

    def add(self, what: str, objects: int, seconds: float, memory: float = 0.0, note: str = "") -> Row:
        row = Row(what, objects, seconds, memory, note)
        self.rows.append(row)
        print(f"bench: {what}: {row.each:.1f} ms an object", file=sys.stderr, flush=True)
        return row


def tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def objects(count: int, namespace: str) -> Iterator[dict[str, Any]]:
    """A mixture as services have it; no pods, which would measure the scheduler."""
    labels = {"app.kubernetes.io/part-of": "bench"}
    container = {
        "name": "app",
        "image": "registry.example.com/app:1",
        "ports": [{"name": "http", "containerPort": 80}],
        "env": [{"name": "A", "value": "b"}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    for index in range(count):
        name = f"object-{index}"
        meta = {"name": name, "namespace": namespace, "labels": labels}
        pod = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
        service = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80}]}
        rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
        kinds: list[dict[str, Any]] = [
            {"apiVersion": "v1", "kind": "ConfigMap", "data": {"settings.yaml": "key: value\n" * 40}},
            {"apiVersion": "v1", "kind": "Secret", "data": {"password": "c2VzYW1lLW9wZW4="}},
            {"apiVersion": "v1", "kind": "ServiceAccount"},
            {"apiVersion": "v1", "kind": "Service", "spec": service},
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": [rule]},
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": pod},
            },
        ]
        yield {**kinds[index % len(kinds)], "metadata": meta}


def templates(folder: Path, wanted: list[dict[str, Any]]) -> Path:
    """The objects as a role has them: several files of several documents."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for index in range(FILES):
        (folder / f"part-{index}.yml.j2").write_text(yaml.safe_dump_all(wanted[index::FILES]))
    return folder


def through_ansible(bench: Bench, count: int, empty: float) -> None:
    space = bench.namespace()
    folder = templates(bench.folder / "templates", list(objects(count, space)))
    task = {
        "harvester_rke2.platform.bundle": {
            "kubeconfig": str(bench.kubeconfig),
            "name": space,
            "templates": [str(folder)],
        }
    }
    for state in ("cold", "unchanged"):
        seconds = bench.playbook(task) - empty
        bench.add(f"bundle, through Ansible, {state}", count, seconds, note="net of an empty playbook")


def module_alone(bench: Bench, count: int) -> None:
    space = bench.namespace()
    given = {
        "params": {"kubeconfig": str(bench.kubeconfig), "context": None, "name": space},
        "objects": list(objects(count, space)),
    }
    for state in ("cold", "unchanged"):
        done = subprocess.run(
            [str(LAB / "python"), "-c", MODULE, str(COLLECTIONS)],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"bench: the module failed:\n{done.stderr[-2000:]}")
        told = json.loads(done.stdout)
        note = f"imports took {told['import']:.2f} s more"
        bench.add(f"bundle, the module's own work, {state}", count, told["work"], told["rss"], note)


def kubernetes_core(bench: Bench, empty: float) -> None:
    common = {
        "kubeconfig": str(bench.kubeconfig),
        "apply": True,
        "server_side_apply": {"field_manager": "bench"},
    }
    space = bench.namespace()
    looped = list(objects(LOOPED, space))
    task = {"kubernetes.core.k8s": {**common, "definition": "{{ item }}"}, "loop": "{{ looped }}", "no_log": True}
    for state in ("cold", "unchanged"):
        seconds = bench.playbook(task, looped=looped) - empty
        bench.add(f"kubernetes.core.k8s in a loop, {state}", LOOPED, seconds, note=f"{LOOPED} objects, net, scaled")
    space = bench.namespace()
    path = bench.folder / "list.yml"
    path.write_text(yaml.safe_dump_all(objects(SMALL, space)))
    task = {"kubernetes.core.k8s": {**common, "src": str(path)}, "no_log": True}
    for state in ("cold", "unchanged"):
        seconds = bench.playbook(task) - empty
        bench.add(f"kubernetes.core.k8s with a list, {state}", SMALL, seconds, note="net of an empty playbook")


def kubectl(bench: Bench) -> None:
    space = bench.namespace()
    path = bench.folder / "kubectl.yml"
    path.write_text(yaml.safe_dump_all(objects(SMALL, space)))
    for state in ("cold", "unchanged"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        seconds = bench.kubectl("apply", "--server-side", "-f", str(path))
        after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        memory = after / 1024 if after > before else 0.0
        bench.add(f"kubectl apply --server-side, {state}", SMALL, seconds, memory)


def site() -> str:
    """The second run of phases 1 and 2."""
    command = os.environ.get("BENCH_SITE", f"{tool('ansible-playbook')} site.yml -i inventories/lab")
    if command == "-":
        return ""
    lines = ["", "| site | seconds | tasks | module executions | changed |", "|---|---:|---:|---:|---:|"]
    for number in ("first", "second"):
        done = subprocess.run(shlex.split(command), cwd=REPOSITORY, capture_output=True, text=True, check=False)
        found = re.findall(
            r"tasks (\d+), module executions (\d+), changed (\d+), failed \d+, seconds ([\d.]+)", done.stdout
        )
        if done.returncode or not found:
            return f"\nThe {number} run of `{command}` ended with {done.returncode}:\n\n{done.stdout[-1500:]}"
        tasks, executions, changed, seconds = found[-1]
        lines.append(f"| {number} run | {seconds} | {tasks} | {executions} | {changed} |")
    return "\n".join(lines)


def table(rows: list[Row]) -> str:
    """Markdown; the ratio is to the module's own unchanged work."""
    base = {state: row.each for row in rows for state in ("cold", "unchanged") if is_base(row, state)}
    lines = [
        "| what | objects | seconds | ms an object | times bundle | peak MiB | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        state = row.what.rpartition(", ")[2]
        ratio = f"{row.each / base[state]:.1f}" if state in base else ""
        memory = f"{row.memory:.0f}" if row.memory else ""
        lines.append(
            f"| {row.what} | {row.objects} | {row.seconds:.2f} | {row.each:.1f} | {ratio} | {memory} | {row.note} |"
        )
    return "\n".join(lines)


def is_base(row: Row, state: str) -> bool:
    return row.what == f"bundle, through Ansible, {state}" and row.objects == SMALL


def linearity(rows: list[Row]) -> str:
    """Ten times as many objects beside ten times the work."""
    lines = []
    for state in ("cold", "unchanged"):
        small, large = (
            next(row for row in rows if row.what.endswith(f"own work, {state}") and row.objects == count)
            for count in (SMALL, LARGE)
        )
        lines.append(f"{state} {large.seconds / small.seconds:.1f}")
    return f"{LARGE // SMALL} times the objects take this many times the module's work: {', '.join(lines)}."


@contextmanager
def prepared() -> Iterator[Bench]:
    source = LAB / "kubeconfig" / "cluster.yaml"
    if not source.is_file():
        sys.exit(f"bench: no lab runs in {LAB}: start one by `python -m lab up`.")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        content = yaml.safe_load(source.read_text())
        # Not through the forwarder, which is there for people and would be measured too.
        content["clusters"][0]["cluster"]["server"] = DIRECT
        kubeconfig = folder / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(yaml.safe_dump(content))
        bench = Bench(folder, kubeconfig)
        try:
            yield bench
        finally:
            if bench.namespaces:
                sets = [f"configmap/applyset-{space}" for space in bench.namespaces]
                bench.kubectl("delete", "namespace", "--wait=false", *bench.namespaces)
                bench.kubectl("delete", "-n", "kube-system", "--ignore-not-found", *sets)


def main() -> None:
    with prepared() as bench:
        bench.playbook()
        empty = min(bench.playbook() for _ in range(2))
        # Largest first would leave the server busy deleting; the small ones are the ones compared.
        through_ansible(bench, SMALL, empty)
        module_alone(bench, SMALL)
        kubectl(bench)
        kubernetes_core(bench, empty)
        module_alone(bench, LARGE)
        rows = bench.rows
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, an empty playbook takes {empty:.2f} s.\n")
    print(table(rows))
    print(f"\n{linearity(rows)}")
    print(site())


if __name__ == "__main__":
    main()
