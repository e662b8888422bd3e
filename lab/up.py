# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Start a lab; every step looks first at what is already there."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lab import controlplane, nodes, parts, pki, processes, schemas, seed, settings, snapshot, stages, state, upstream
from lab.charts.build import build_charts
from lab.kube import Client
from lab.netns import Namespace, available
from lab.processes import Program
from lab.rancher import settings as rancher
from lab.rancher import start as rancher_start
from lab.settings import CLUSTER, SERVERS, SOURCES, Lab, LabError

Say = Callable[[str], None]
PARTS = ("etcd", "kubernetes", "kwok", "coredns", "helm", "openbao", "kubectl")
# the programs behind images of agent/images.yaml
AGENT_PARTS = ("cert-manager", "prometheus", "alertmanager", "node-exporter", "kube-state-metrics", "traefik")
AGENT = SOURCES / "agent"
# in the state directory
FILLED = "filled"  # the name of the snapshot that the data began as
SEEDED = "seeded"  # the reference cluster's nodes were all made; one deleted since then stays deleted


class Start:
    def __init__(self, lab: Lab, say: Say) -> None:
        self.lab = lab
        self.say = say
        self.namespace = Namespace(lab)
        self.table = parts.table()
        self.ports: dict[str, int] = {}
        self.seeded = rancher.nodes_mode(rancher.Files.of(lab)) == "seeded"

    def run(self) -> None:
        began = time.monotonic()
        parts.check_system()
        if not available():
            raise LabError(
                "Starting the lab as an ordinary user: this kernel does not let users make namespaces. Run it as root, "
                "or allow it: sysctl -w user.max_user_namespaces=10000, on Debian kernel.unprivileged_userns_clone=1, "
                "on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0."
            )
        with state.locked(self.lab):
            self._fetch_parts()
            self._prepare()
            self._fill()
            self._control_plane()
            self._cluster()
            self._wait()
        self.say(f"lab {self.lab.name} is up: {time.monotonic() - began:.1f} s; . {self.lab.path('env')}")

    def _fetch_parts(self) -> None:
        folder = self.lab.path("bin")
        folder.mkdir(exist_ok=True)
        wanted = list(PARTS)
        if (AGENT / "__main__.py").exists():
            wanted.extend(AGENT_PARTS)
        quiet: list[str] = []
        for name in wanted:
            found = parts.get(self.table[name], quiet.append)
            if ": ready" not in quiet[-1]:
                self.say(quiet[-1])
            for program, path in found.items():
                link = folder / program
                if not link.is_symlink() or link.readlink() != path:
                    link.unlink(missing_ok=True)
                    link.symlink_to(path)

    def _prepare(self) -> None:
        if not self.namespace.exists:
            # a lab whose namespace is gone (a reboot, a killed start) cannot have anything useful running
            processes.end(processes.marked(self.lab))
        processes.end(processes.strays(self.lab))
        for folder in ("run", "log", "audit", "etc", "volumes", "charts"):
            self.lab.path(folder).mkdir(exist_ok=True)
        self.ports = state.ports(self.lab)
        pki.prepare(self.lab, self.ports)
        rancher_start.prepare(self.lab)
        pki.write(self.lab.path("etc", "Corefile"), controlplane.corefile(self.lab).encode(), 0o644)
        build_charts(self.lab.path("charts"))
        self.namespace.create(self.ports)
        self._forward()
        state.write_wrapper(self.lab, self.namespace)
        state.write_environment(self.lab, self.ports)

    def _forward(self) -> None:
        if processes.running_pid(self.lab, "forwarder"):
            return
        targets = {server.name: f"{server.address}:6443" for server in SERVERS}
        targets[state.HTTPS] = f"{settings.LOAD_BALANCER}:443"
        targets[rancher.PORT_NAME] = f"{rancher.ADDRESS}:{rancher.PORT}"
        listeners, words = [], []
        for name, target in targets.items():
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", self.ports[name]))
            except OSError as error:
                raise LabError(
                    f"Opening port {self.ports[name]} on 127.0.0.1: {error}. "
                    f"End what holds it, or remove {self.lab.path('ports.json')}."
                ) from error
            listener.listen(128)
            listeners.append(listener)
            words.append(f"{listener.fileno()}={target}")
        descriptors = [listener.fileno() for listener in listeners]
        argv = [sys.executable, "-m", "lab.forward", *words]
        self._start(Program("forwarder", argv, "emulated", pass_fds=descriptors))
        for listener in listeners:
            listener.close()

    def _start(self, program: Program) -> None:
        processes.start(self.lab, program, self.namespace.enter)

    def _version(self, part: str) -> str:
        return self.table[part].version

    def _fill(self) -> None:
        """Begin from a snapshot, which is made first where there is none yet."""
        mark = self.lab.path(FILLED)
        if mark.exists():
            return
        began = time.monotonic()
        # what a start killed at this point left is half done
        processes.stop(self.lab, [name for name in controlplane.all_names() if name != "etcd"])
        processes.stop(self.lab, ["etcd"])
        self.lab.path(SEEDED).unlink(missing_ok=True)
        for folder in ("etcd", "volumes", "audit"):
            shutil.rmtree(self.lab.path(folder), ignore_errors=True)
            if folder != "etcd":
                self.lab.path(folder).mkdir()
        name = self._snapshot_name()
        if not snapshot.restore(name, self.lab.path("etcd")):
            missing = [group for groups in schemas.GROUPS.values() for group in groups if not schemas.files_of(group)]
            upstream.fetch(missing, self.say)
            name = self._snapshot_name()
            self._make_snapshot(name)
            self.say(f"schemas and first objects made and kept: {time.monotonic() - began:.1f} s")
        mark.write_text(name)

    def _snapshot_name(self) -> str:
        return snapshot.digest([self._version("etcd"), self._version("kubernetes")])

    def _make_snapshot(self, name: str) -> None:
        self._start_servers()
        managers = [f"kube-controller-manager-{server.name}" for server in SERVERS]
        for server in SERVERS:
            self._start(controlplane.controller_manager(self.lab, server, self._version("kubernetes")))
        self.say(seed.fill({server.name: self._client(server.name) for server in SERVERS}))
        processes.stop(self.lab, managers)
        processes.stop(self.lab, [f"kube-apiserver-{server.name}" for server in SERVERS], 20)
        processes.stop(self.lab, ["etcd"], 20)
        snapshot.save(self.lab.path("etcd"), name)
        shutil.rmtree(self.lab.path("audit"))
        self.lab.path("audit").mkdir()

    def _client(self, server: str) -> Client:
        """As the lab's own administrator, by the forwarder: this process is outside the namespace."""
        folder = self.lab.path("pki", server)
        file = self.lab.path("etc", server, "outside.kubeconfig")
        pki.write(file, pki.kubeconfig(folder, "admin", f"https://127.0.0.1:{self.ports[server]}"), 0o600)
        return Client(file)

    def _start_servers(self) -> None:
        self._start(controlplane.etcd(self.lab, self._version("etcd")))
        for server in SERVERS:
            self._start(controlplane.apiserver(self.lab, server, self._version("kubernetes")))

        def wait(name: str) -> None:
            program = f"kube-apiserver-{name}"
            if not self._client(name).wait_ready(90):
                raise LabError(
                    f"Waiting for {program}: not ready after 90 s. Read {self.lab.path('log', program)}.log."
                )

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(wait, [server.name for server in SERVERS]))

    def _control_plane(self) -> None:
        began = time.monotonic()
        version = self._version("kubernetes")
        self._start_servers()
        for server in SERVERS:
            self._start(controlplane.controller_manager(self.lab, server, version))
        self._start(controlplane.scheduler(self.lab, version))
        if self.seeded:
            self._start(controlplane.proxy(self.lab, nodes.reference()[0]["metadata"]["name"], version))
        self._start(controlplane.coredns(self.lab, self._version("coredns")))
        for server in SERVERS:
            self._publish_authority(server.name)
        self._rancher()
        self.say(f"API servers ready: {time.monotonic() - began:.1f} s")

    def _rancher(self) -> None:
        client = self._client("rancher")
        rancher_start.make_tokens(self.lab, client)
        rancher_start.register(self.lab, client)
        for program in rancher_start.programs(self.lab):
            self._start(program)

    def _publish_authority(self, name: str) -> None:
        """The snapshot has another lab's certificate; pods must not start with it."""
        client = self._client(name)
        text = self.lab.path("pki", name, "ca.crt").read_text()
        for item in client.request("GET", "/api/v1/configmaps?fieldSelector=metadata.name%3Dkube-root-ca.crt")["items"]:
            if item["data"]["ca.crt"] != text:
                path = f"/api/v1/namespaces/{item['metadata']['namespace']}/configmaps/kube-root-ca.crt"
                client.merge(path, {"data": {"ca.crt": text}})

    def _cluster(self) -> None:
        stages.apply(self._client("cluster"), stages.load())
        if self.seeded and not self.lab.path(SEEDED).exists():
            seed.reference(self._client("cluster"))
            self.lab.path(SEEDED).touch()
        self._start(controlplane.kwok(self.lab, self._version("kwok")))
        self._start(controlplane.kubelet(self.lab))
        credentials = self.lab.path("etc", "cluster")
        argv = [
            sys.executable,
            "-m",
            "lab.emulator",
            f"--credentials={credentials}",
            f"--volumes={self.lab.path('volumes')}",
        ]
        self._start(Program("emulator", argv, "emulated"))
        if (AGENT / "__main__.py").exists():
            self._start_agent()

    def _start_agent(self) -> None:
        config = {
            "kubeconfig": str(pki.system_kubeconfig(self.lab, "cluster", "agent")),
            "run": str(self.lab.path("pods")),
            "bin": str(self.lab.path("bin")),
            "python": sys.executable,
            "pods": settings.REAL_POD_RANGE,
            "gateway": settings.GATEWAY,
            "nameserver": settings.DNS_SERVICE,
            "domain": settings.CLUSTER_DOMAIN,
            "images": str(stages.IMAGES),
        }
        file = self.lab.path("etc", "agent.json")
        pki.write(file, json.dumps(config, indent=2).encode(), 0o600)
        self._start(Program("agent", [sys.executable, "-m", "lab.agent", "--config", str(file)], "emulated"))

    def _wait(self) -> None:
        began = time.monotonic()
        client = self._client("cluster")
        deadline = time.monotonic() + 90
        while True:
            items = client.request("GET", "/api/v1/nodes")["items"]
            waiting = [item["metadata"]["name"] for item in items if not ready(item)] if self.seeded else []
            if not waiting and self._resolves():
                break
            if time.monotonic() > deadline:
                why = f"not ready: {', '.join(waiting)}" if waiting else "names do not resolve"
                raise LabError(f"Waiting for the nodes and DNS: {why} after 90 s. Read {self.lab.path('log')}.")
            time.sleep(0.1)
        self.say(f"{len(items)} nodes ready, names resolve: {time.monotonic() - began:.1f} s")

    def _resolves(self) -> bool:
        """Asked inside the namespace, through kube-proxy and CoreDNS."""
        if getattr(self, "resolved", False):
            return True
        name = f"kubernetes.default.svc.{settings.CLUSTER_DOMAIN}"
        program = (
            f"import socket, urllib.request, ssl; print(socket.gethostbyname({name!r})); "
            f"context = ssl.create_default_context(cafile={str(self.lab.path('rancher-ca.crt'))!r}); "
            f"urllib.request.urlopen('{rancher.URL}/ping', context=context)"
        )
        try:
            answer = processes.run([*self.namespace.enter, sys.executable, "-c", program], "Resolving a name")
        except LabError:
            return False
        self.resolved = answer.strip() == CLUSTER.first_service
        return self.resolved


def ready(node: dict[str, object]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])  # type: ignore[attr-defined]
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def start(lab: Lab, say: Say) -> None:
    os.umask(0o022)
    Start(lab, say).run()
