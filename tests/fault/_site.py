# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Run the site's playbooks for real on the lab of this suite, kill them, and see what they have written."""

from __future__ import annotations

import base64
import collections
import contextlib
import functools
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._kube_client import KubeClient

from lab.settings import Lab
from tests.fault._modules import ROOT

MARK = "SITE_RUN"  # in the environment of every process of a run: its workers have process groups of their own
SERVERS = ("cluster", "harvester", "rancher")
# Rancher's own API: tokens.
AUDITED = (*SERVERS, "rancher-server")
KEYS = "/api/v1/namespaces/platform-lab-keys/secrets"
PODS = ("vault-0", "vault-1", "vault-2")
# By a kubeconfig, and by Rancher's token.
INSTALLERS = {"platform-installer", "user-lab01"}
Environment = Mapping[str, str] | None
# Where the subject needs no more of the platform: a run takes half as long.
TO_VAULT = ("--tags", "phase0,phase1,phase2")
TO_PHASE_2 = ("--phase", "2")
CALLBACKS = ("harvester_rke2.platform.report", "progress")


@dataclass
class Run:
    """A run that has ended. ``output`` is all it said, ``report`` its report.json (empty when it was killed),
    ``reports`` all files of that folder as they are."""

    returncode: int
    output: str = field(repr=False)
    report: dict[str, Any] = field(repr=False)
    seconds: float
    reports: dict[str, bytes] = field(repr=False)

    @property
    def changed(self) -> int:
        """How many tasks changed something."""
        return int(self.report["totals"]["changed"])

    @property
    def said(self) -> str:
        """The output on one line: a sentence is wrapped wherever its line is full."""
        return " ".join(self.output.split())

    @property
    def tail(self) -> str:
        """What helps when a test fails."""
        return self.output[-6000:]

    def states(self, task: str) -> list[str]:
        """How the tasks of that name ended."""
        return [entry["state"] for entry in self.report["tasks"] if entry["task"] == task]


@dataclass
class Running:
    """A run that goes on."""

    process: subprocess.Popen[bytes]
    folder: pathlib.Path
    mark: str
    began: float = field(default_factory=time.monotonic)

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    @property
    def tasks(self) -> list[str]:
        """The tasks that have begun."""
        progress = self.folder / "progress"
        return progress.read_text().splitlines() if progress.exists() else []

    def processes(self) -> list[int]:
        """All of its processes: Ansible's workers leave the process group, modules enter the lab's namespace."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def kill(self) -> str:
        """SIGKILL for everything of this run; returns the task that was running."""
        task = ["(before the first task)", *self.tasks][-1]
        while pids := [self.process.pid, *self.processes()] if self.process.poll() is None else self.processes():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
            self.process.poll()
        return task

    def reaches(self, task: str, timeout: float = 300) -> bool:
        """Wait until a task whose name holds this text begins; False when the run ends before."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if any(task in begun for begun in self.tasks):
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.05)
        raise AssertionError(f"{task} has not begun after {timeout:.0f} s: {self.output[-3000:]}")

    def finish(self, timeout: float = 900) -> Run:
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            task = self.kill()
            raise AssertionError(f"still running after {timeout:.0f} s, at {task}: {self.output[-3000:]}") from None
        seconds = time.monotonic() - self.began
        # It gives the cluster back in the background: what is looked at next must not see that.
        # An API server that does not answer is asked twice for half a minute; after that the Lease lapses by itself.
        until(lambda: not self.processes(), "the run's last process has ended", 90)
        reports = {file.name: file.read_bytes() for file in (self.folder / "report").glob("*")}
        run = Run(code, self.output, json.loads(reports.get("report.json", b"{}")), seconds, reports)
        shutil.rmtree(self.folder, ignore_errors=True)
        return run


class Site:
    """The lab's cluster and what the playbooks make of it."""

    def __init__(self) -> None:
        lab = Lab.from_environment()
        if lab.name == "lab" or not lab.path("kubeconfig").exists():
            raise RuntimeError("these tests make their lab empty again and again: run them by `make fault`, on its own")
        self.directory = lab.directory
        # A home of the suite's own: the spool of a killed run lies there, and another lab must not find it.
        self._folder = tempfile.TemporaryDirectory(prefix="site-home-")
        self.home = pathlib.Path(self._folder.name) / "home"
        self.home.mkdir(mode=0o700)

    def client(self, server: str) -> KubeClient:
        return KubeClient.from_options({"kubeconfig": self.kubeconfig(server)})

    def kubeconfig(self, server: str) -> str:
        return str(self.directory / "kubeconfig" / f"{server}.yaml")

    @property
    def cluster(self) -> KubeClient:
        return self.client("cluster")

    @property
    def harvester(self) -> KubeClient:
        return self.client("harvester")

    # --- the lab

    def lab(self, *words: str, nodes: str = "seeded") -> str:
        """A command of the lab, which must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "lab", *words],
            cwd=ROOT,
            env={**os.environ, "LAB_NODES": nodes},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, f"lab {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def empty(self, nodes: str = "seeded") -> None:
        """A fresh cluster. Of all ways the cheapest that is honest: etcd's and the pods' data are really gone.

        Where phase 0 is not what is tested the nodes are there at once; ``rancher`` leaves them to it.
        """
        self.lab("down")
        self.lab("up", nodes=nodes)
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(mode=0o700)

    def converged(self, *arguments: str) -> Run:
        """The whole site, brought to where a further run has nothing to do."""
        run = self.run(*arguments)
        assert run.returncode == 0, run.tail
        return run

    def again(self, *arguments: str, playbook: str = "site.yml") -> Run:
        """A further run, which must change nothing."""
        run = self.run(*arguments, playbook=playbook)
        assert run.returncode == 0 and run.changed == 0, run.tail
        return run

    def check(self, *arguments: str) -> None:
        """What the site promises holds: unsealed voters, issuer, certificate, the root's key, targets, addresses."""
        self.lab("check", *arguments)

    # --- runs

    def start(self, *arguments: str, playbook: str = "site.yml", environment: Environment = None) -> Running:
        """Start a playbook in a session of its own, as a shell would."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="site-run-"))
        mark = uuid.uuid4().hex
        given = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "VAULT_", "K8S_"))}
        own = {
            "HOME": str(self.home),
            "HARVESTER_RKE2_REPORT_DIRECTORY": str(folder / "report"),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/fault/callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": ",".join(CALLBACKS),
            "PROGRESS_FILE": str(folder / "progress"),
            MARK: mark,
        }
        program = str(pathlib.Path(sys.executable).parent / "ansible-playbook")
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                [program, playbook, "-i", "inventories/lab", *arguments],
                cwd=ROOT,
                env={**given, **own, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Running(process, folder, mark)

    def run(self, *arguments: str, playbook: str = "site.yml", environment: Environment = None) -> Run:
        return self.start(*arguments, playbook=playbook, environment=environment).finish()

    # --- what is there

    def secret(self, name: str) -> dict[str, bytes] | None:
        """Of the keys on Harvester; None while there is none."""
        found = self.harvester.get_or_none(f"{KEYS}/{name}")
        return None if found is None else {key: base64.b64decode(value) for key, value in found["data"].items()}

    def init(self) -> dict[str, Any]:
        """Vault's keys and root token."""
        found = self.secret("vault-init")
        assert found is not None
        stored: dict[str, Any] = json.loads(found["init.json"])
        return stored

    def vault(self, pod: str, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """A call to one server, by hand."""
        with self.cluster.portforward("vault", pod, 8200) as (host, port):
            return vault_call(f"http://{host}:{port}", method, path, body, token)

    def leader(self) -> str:
        """The active server."""
        return next(pod for pod in PODS if self.vault(pod, "GET", "sys/leader").get("is_self"))

    def sealed(self) -> list[str]:
        return [pod for pod in PODS if self.vault(pod, "GET", "sys/seal-status")["sealed"]]

    def pod(self, name: str, namespace: str = "vault") -> dict[str, Any] | None:
        return self.cluster.get_or_none(f"/api/v1/namespaces/{namespace}/pods/{name}")


def vault_call(url: str, method: str, path: str, body: Any = None, token: str = "") -> Any:
    """One request; JSON where JSON comes back, else text."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"X-Vault-Token": token} if token else {}
    request = urllib.request.Request(f"{url}/v1/{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return text


@functools.cache
def site() -> Site:
    """The one of this process."""
    return Site()


def until(reached: Callable[[], Any], what: str, timeout: float = 120) -> Any:
    """Wait for something that the cluster does by itself."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException, PlatformError):
            if found := reached():
                return found
        time.sleep(0.3)
    raise AssertionError(f"{what}: not after {timeout:.0f} s")


class Audit:
    """What the installer asked of all API servers since a moment. The policy logs every create, update, patch and
    delete of everybody but the lab's own machinery (lab/manifests/audit.yaml)."""

    def __init__(self, where: Site) -> None:
        self._logs = {server: where.directory / "audit" / f"{server}.log" for server in AUDITED}
        self._from = {server: log.stat().st_size if log.exists() else 0 for server, log in self._logs.items()}

    def entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server and audit event."""
        # The backend writes in batches; a second of silence means that all has arrived.
        sizes: dict[str, int] = {}
        while sizes != (sizes := {name: log.stat().st_size for name, log in self._logs.items() if log.exists()}):
            time.sleep(1)
        for server, log in self._logs.items():
            if log.exists():
                with log.open("rb") as file:
                    file.seek(self._from[server])
                    for line in file.read().splitlines():
                        yield server, json.loads(line)

    def asked(self) -> collections.Counter[str]:
        """All writes by the installer, dry runs among them."""
        return collections.Counter(_shown(*entry) for entry in self.entries() if _installers(entry[1]))

    def stored(self) -> collections.Counter[str]:
        """Those that store something or mint a credential: not dry runs, reviews and port-forwards."""
        return collections.Counter(
            _shown(*entry) for entry in self.entries() if _installers(entry[1]) and not _harmless(entry[1])
        )


def _installers(event: Mapping[str, Any]) -> bool:
    # Through a proxy the user is the proxy's; whoever it is, what is impersonated counts too. A call that was refused
    # with 401 has no user.
    return bool(INSTALLERS & {event["user"].get("username"), event.get("impersonatedUser", {}).get("username")})


def _harmless(event: Mapping[str, Any]) -> bool:
    reference = event.get("objectRef") or {}
    if reference.get("subresource") == "token":
        return False
    review = str(reference.get("resource", "")).endswith("reviews") or reference.get("subresource") == "portforward"
    return review or "dryRun=All" in event["requestURI"]


def _shown(server: str, event: Mapping[str, Any]) -> str:
    reference = event.get("objectRef") or {}
    parts = (reference.get("namespace"), reference.get("resource"), reference.get("name"), reference.get("subresource"))
    return f"{server}: {event['verb']} {'/'.join(str(part) for part in parts if part)}"
