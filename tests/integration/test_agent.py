# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The lab's agent on a running lab (LAB_NAME): pods of known images are processes and behave as on a node."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.kube import Client, Object
from lab.settings import REPOSITORY, Lab

LAB = Lab.from_environment().directory
IMAGE = "docker.io/library/python:3.13-slim"
CANARY = f"canary-{uuid.uuid4().hex}"
SERVER = """
import http.server, json, os, pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("asked to end", flush=True), sys.exit(0)))
print("started", flush=True)
print("a warning", file=sys.stderr, flush=True)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(3)
        if self.path == "/hang":
            pathlib.Path("/tmp/hung").touch()
        if self.path == "/health" and pathlib.Path("/tmp/hung").exists():
            self.send_response(500); self.end_headers(); return
        files = {}
        for folder in ("/config", "/token", "/podinfo", "/shared", "/one"):
            for parent, folders, names in os.walk(folder, followlinks=True):
                folders[:] = [name for name in folders if not name.startswith("..")]
                for name in names:
                    files[os.path.join(parent, name)] = pathlib.Path(parent, name).read_text()
        body = json.dumps({"env": dict(os.environ), "uid": os.getuid(), "files": files}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8080), Answer).serve_forever()
"""

pytestmark = pytest.mark.skipif(
    not (LAB / "kubeconfig" / "cluster.yaml").exists(), reason=f"no lab in {LAB}: start one by `make lab-up`"
)


class Cluster:
    """A namespace of the running lab."""

    def __init__(self) -> None:
        self.kubeconfig = LAB / "kubeconfig" / "cluster.yaml"
        self.client = Client(self.kubeconfig)
        self.namespace = f"agent-{uuid.uuid4().hex[:8]}"
        self.client.request("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    def path(self, plural: str, name: str = "", group: str = "") -> str:
        prefix = f"/apis/{group}" if group else "/api/v1"
        return f"{prefix}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def create(self, plural: str, body: Object, group: str = "") -> Object:
        made: Object = self.client.request("POST", self.path(plural, group=group), body)
        return made

    def pod(self, name: str) -> Object:
        found: Object = self.client.request("GET", self.path("pods", name))
        return found

    def container(self, name: str, index: int = 0) -> Object:
        statuses = self.pod(name).get("status", {}).get("containerStatuses") or [{}]
        status: Object = statuses[index]
        return status

    def run(self, name: str, container: Object, **spec: Any) -> None:
        given = {"name": "main", "image": IMAGE, **container}
        self.create(
            "pods",
            {"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 5, "containers": [given], **spec}},
        )

    def delete(self, name: str) -> None:
        self.client.delete(self.path("pods", name))
        until(lambda: self.client.get(self.path("pods", name)) is None, f"{name} is gone")

    def kubectl(self, *words: str, check: bool = True) -> str:
        argv = [str(LAB / "bin" / "kubectl"), "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *words]
        return subprocess.run(argv, capture_output=True, text=True, check=check, timeout=60).stdout

    @contextmanager
    def forward(self, name: str) -> Iterator[str]:
        argv = [str(LAB / "bin" / "kubectl"), "--kubeconfig", str(self.kubeconfig), "-n", self.namespace]
        process = subprocess.Popen([*argv, "port-forward", f"pod/{name}", ":8080"], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert found, "kubectl port-forward did not say its port"
            yield f"http://127.0.0.1:{found.group(1)}"
        finally:
            process.terminate()
            process.wait()

    def events(self, name: str) -> list[str]:
        items = self.client.request("GET", self.path("events"))["items"]
        return [f"{item['reason']}: {item['message']}" for item in items if item["involvedObject"]["name"] == name]


def until(true: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        value = true()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def ready(cluster: Cluster, name: str) -> Callable[[], bool]:
    def check() -> bool:
        conditions = cluster.pod(name).get("status", {}).get("conditions", [])
        return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)

    return check


def succeeded(cluster: Cluster, name: str) -> Callable[[], bool]:
    return lambda: bool(cluster.pod(name)["status"]["phase"] == "Succeeded")


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def processes(word: str) -> list[int]:
    """Every process of this machine with a word in its arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if word.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    made.create("configmaps", {"metadata": {"name": "program"}, "data": {"main.py": SERVER, "word": "first"}})
    made.create("secrets", {"metadata": {"name": "secret"}, "stringData": {"word": CANARY, "OTHER": "other"}})
    until(lambda: made.client.get(made.path("serviceaccounts", "default")), "the default service account")
    yield made
    made.client.delete(f"/api/v1/namespaces/{made.namespace}")


PROGRAM = {"name": "program", "configMap": {"name": "program"}}
MOUNT = {"name": "program", "mountPath": "/app"}


def test_a_pod_sees_what_its_spec_says(cluster: Cluster) -> None:
    container = {
        "command": ["python", "/app/main.py", CANARY[:12]],
        "env": [
            {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "word"}}},
            {"name": "JOINED", "value": "<$(WORD)> $$(WORD) $(UNKNOWN)"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        ],
        "envFrom": [{"prefix": "S_", "secretRef": {"name": "secret"}}],
        "ports": [{"containerPort": 8080, "name": "http"}],
        "resources": {"limits": {"memory": "64Mi"}},
        "readinessProbe": {"httpGet": {"port": "http", "path": "/health"}, "periodSeconds": 1},
        "volumeMounts": [
            MOUNT,
            {"name": "shared", "mountPath": "/shared"},
            {"name": "config", "mountPath": "/config"},
            {"name": "program", "mountPath": "/one/word", "subPath": "word"},
            {"name": "token", "mountPath": "/token"},
            {"name": "info", "mountPath": "/podinfo"},
        ],
    }
    source = {"path": "audience", "audience": "somebody", "expirationSeconds": 600}
    volumes = [
        PROGRAM,
        {"name": "shared", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "program", "items": [{"key": "word", "path": "deep/word"}]}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": source}]}},
        {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    init = {
        "name": "init",
        "image": IMAGE,
        "command": ["sh", "-c", "echo from the init container; echo left > /shared/left"],
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": True},
        "initContainers": [init],
        "containers": [{"name": "main", "image": IMAGE, **container}],
        "volumes": volumes,
    }
    template = {"metadata": {"labels": {"app": "seen"}}, "spec": spec}
    selector = {"matchLabels": {"app": "seen"}}
    body = {"metadata": {"name": "seen"}, "spec": {"replicas": 2, "selector": selector, "template": template}}
    cluster.create("deployments", body, "apps/v1")

    def available() -> bool:
        found = cluster.client.request("GET", cluster.path("deployments", "seen", "apps/v1"))
        return bool(found.get("status", {}).get("readyReplicas") == 2)

    until(available, "both replicas are ready")
    listed = cluster.client.request("GET", cluster.path("pods"), query={"labelSelector": "app=seen"})["items"]
    assert len({item["status"]["podIP"] for item in listed}) == 2
    name = listed[0]["metadata"]["name"]
    with cluster.forward(name) as url:
        seen = fetch(url)
    assert seen["uid"] == 1000
    assert seen["env"]["WORD"] == CANARY and seen["env"]["S_OTHER"] == "other"
    assert seen["env"]["JOINED"] == f"<{CANARY}> $(WORD) $(UNKNOWN)"
    assert seen["env"]["IP"] == listed[0]["status"]["podIP"] and seen["env"]["LIMIT"] == "64"
    assert seen["env"]["KUBERNETES_SERVICE_HOST"].startswith("198.19.")
    assert seen["files"]["/shared/left"] == "left\n"
    assert seen["files"]["/config/deep/word"] == "first" and seen["files"]["/one/word"] == "first"
    assert seen["files"]["/podinfo/labels"].startswith('app="seen"\n')
    assert seen["files"]["/token/audience"].count(".") == 2
    # the secret's value is in the process's environment, not in arguments that everyone can read
    assert not processes(CANARY)
    assert "from the init container" in cluster.kubectl("logs", name, "-c", "init")
    assert cluster.kubectl("logs", name, "-c", "main").split("\n")[:2] == ["started", "a warning"]
    cluster.client.delete(cluster.path("deployments", "seen", "apps/v1"))
    until(lambda: not processes(CANARY[:12]), "no process of the deleted pods is left")


def test_an_ended_process_is_started_again_and_its_log_kept(cluster: Cluster) -> None:
    container = {"command": ["python", "/app/main.py"], "ports": [{"containerPort": 8080}], "volumeMounts": [MOUNT]}
    probe = {"readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1}}
    cluster.run("dies", {**container, **probe}, volumes=[PROGRAM])
    until(ready(cluster, "dies"), "the pod is ready")
    with cluster.forward("dies") as url, pytest.raises(OSError):
        until(lambda: fetch(f"{url}/die"), "the server ends")
    status = until(
        lambda: (s := cluster.container("dies")).get("restartCount") == 1 and "running" in s["state"] and s,
        "it runs again",
    )
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert "started" in cluster.kubectl("logs", "-p", "dies")
    cluster.delete("dies")


def test_a_failing_liveness_probe_restarts(cluster: Cluster) -> None:
    probe = {"httpGet": {"port": 8080, "path": "/health"}, "periodSeconds": 1, "failureThreshold": 2}
    container = {"command": ["python", "/app/main.py"], "ports": [{"containerPort": 8080}], "volumeMounts": [MOUNT]}
    probes = {"livenessProbe": probe, "readinessProbe": {**probe, "httpGet": {"port": 8080}}}
    cluster.run("hangs", {**container, **probes}, volumes=[PROGRAM])
    until(ready(cluster, "hangs"), "the pod is ready")
    with cluster.forward("hangs") as url:
        fetch(f"{url}/hang")
    until(lambda: cluster.container("hangs").get("restartCount") == 1, "the liveness probe restarts it")
    # SIGTERM reached the program, which ended by itself
    assert "asked to end" in cluster.kubectl("logs", "-p", "hangs")
    assert any(event.startswith("Unhealthy: Liveness probe failed: HTTP probe") for event in cluster.events("hangs"))
    cluster.delete("hangs")


def test_a_job_completes_and_one_that_fails_is_tried_again(cluster: Cluster) -> None:
    def job(name: str, program: str, policy: str, limit: int) -> Callable[[], Object]:
        container = {"name": "main", "image": IMAGE, "command": ["python", "-c", program]}
        template = {"spec": {"restartPolicy": policy, "containers": [container]}}
        spec = {"completions": 2, "parallelism": 2, "backoffLimit": limit, "template": template}
        cluster.create("jobs", {"metadata": {"name": name}, "spec": spec}, "batch/v1")

        def status() -> Object:
            found: Object = cluster.client.request("GET", cluster.path("jobs", name, "batch/v1"))
            status: Object = found.get("status", {})
            return status

        return status

    good = job("good", "print('done')", "Never", 0)
    bad = job("bad", "import sys; sys.exit(4)", "Never", 1)
    again = job("again", "import pathlib, sys; print('tried'); sys.exit(5)", "OnFailure", 0)
    until(lambda: good().get("succeeded") == 2, "the good Job completes")
    until(lambda: good().get("completionTime"), "the good Job says so")
    failed = until(lambda: (s := bad()).get("failed", 0) >= 2 and s, "the bad Job fails after its second try")
    assert not failed.get("succeeded")
    until(
        lambda: any(entry["type"] == "Failed" for entry in again().get("conditions", [])), "OnFailure reaches its limit"
    )


def test_what_a_kubelet_refuses_is_refused(cluster: Cluster) -> None:
    def words(name: str) -> str:
        waiting = cluster.container(name).get("state", {}).get("waiting", {})
        return f"{waiting.get('reason')}: {waiting.get('message')}"

    key = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "later", "key": "x"}}}
    cluster.run("unset", {"command": ["sleep", "100"], "env": [key]})
    cluster.run("root", {"command": ["sleep", "100"], "securityContext": {"runAsNonRoot": True}})
    cluster.run("mount", {"command": ["sleep", "100"]}, volumes=[{"name": "v", "secret": {"secretName": "absent"}}])
    cluster.run("tool", {"command": ["curl", "http://example.com"]}, restartPolicy="Never")
    cluster.run(
        "fixed",
        {"command": ["touch", "/tmp/x"], "securityContext": {"readOnlyRootFilesystem": True}},
        restartPolicy="Never",
    )
    until(
        lambda: 'CreateContainerConfigError: secret "later" not found' in words("unset"), "the absent Secret is named"
    )
    until(lambda: "CreateContainerConfigError: container has runAsNonRoot" in words("root"), "root is refused")
    until(lambda: any('secret "absent" not found' in event for event in cluster.events("mount")), "FailedMount is told")
    assert cluster.pod("mount")["status"]["phase"] == "Pending"
    until(lambda: cluster.pod("tool")["status"]["phase"] == "Failed", "a program that the image lacks is not found")
    assert cluster.container("tool")["state"]["terminated"]["reason"] == "StartError"
    until(lambda: cluster.pod("fixed")["status"]["phase"] == "Failed", "the root file system is read-only")
    assert "Read-only file system" in cluster.kubectl("logs", "fixed")
    cluster.create("secrets", {"metadata": {"name": "later"}, "stringData": {"x": "y"}})
    until(ready(cluster, "unset"), "it starts once the Secret is there")
    for name in ("unset", "root", "mount", "tool", "fixed"):
        cluster.client.delete(cluster.path("pods", name))


def test_a_changed_configmap_is_seen(cluster: Cluster) -> None:
    cluster.create("configmaps", {"metadata": {"name": "changing"}, "data": {"word": "first"}})
    program = (
        "import pathlib, time\n"
        "while True:\n"
        "  print(pathlib.Path('/w/word').read_text(), pathlib.Path('/fixed').read_text(), flush=True)\n"
        "  time.sleep(1)"
    )
    mounts = [{"name": "w", "mountPath": "/w"}, {"name": "w", "mountPath": "/fixed", "subPath": "word"}]
    volume = {"name": "w", "configMap": {"name": "changing"}}
    cluster.run("watches", {"command": ["python", "-c", program], "volumeMounts": mounts}, volumes=[volume])
    until(lambda: "first first" in cluster.kubectl("logs", "watches", check=False), "the first word")
    cluster.client.merge(cluster.path("configmaps", "changing"), {"data": {"word": "second"}})
    # a subPath keeps the file of the start, as on a node
    until(lambda: "second first" in cluster.kubectl("logs", "watches", "--tail=1"), "the second word", 40)
    cluster.client.delete(cluster.path("pods", "watches"))


def test_a_volume_outlives_its_pod(cluster: Cluster) -> None:
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "harvester",
    }
    cluster.create("persistentvolumeclaims", {"metadata": {"name": "kept"}, "spec": claim})
    volume = {"name": "kept", "persistentVolumeClaim": {"claimName": "kept"}}
    mount = {"volumeMounts": [{"name": "kept", "mountPath": "/kept"}]}
    for number in (1, 2):
        command = ["sh", "-c", "date >> /kept/runs; wc -l < /kept/runs"]
        cluster.run(f"run-{number}", {"command": command, **mount}, volumes=[volume], restartPolicy="Never")
        until(succeeded(cluster, f"run-{number}"), "the pod ends")
        assert cluster.kubectl("logs", f"run-{number}").strip() == str(number)
        cluster.delete(f"run-{number}")


def test_grace_ends_with_sigkill_and_nothing_is_left(cluster: Cluster) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
    )
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hooked > /dev/termination-log"]}}}
    cluster.run(
        "stubborn", {"command": ["python", "-c", program, mark], "lifecycle": hook}, terminationGracePeriodSeconds=3
    )
    until(lambda: "up" in cluster.kubectl("logs", "stubborn", check=False), "the program is up")
    uid = cluster.pod("stubborn")["metadata"]["uid"]
    folder = LAB / "pods" / "pods" / uid
    assert processes(mark) and folder.exists()
    began = time.monotonic()
    cluster.delete("stubborn")
    assert time.monotonic() - began >= 3
    assert not processes(mark)
    until(lambda: not folder.exists() and not (LAB / "pods" / "logs" / uid).exists(), "its folders are gone")


def test_a_pod_reaches_services_names_and_itself(cluster: Cluster) -> None:
    labels = {"app": "reached"}
    port = {"port": 80, "targetPort": 8080}
    cluster.create("services", {"metadata": {"name": "reached"}, "spec": {"selector": labels, "ports": [port]}})
    container = {
        "name": "main",
        "image": IMAGE,
        "command": ["python", "/app/main.py"],
        "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1},
        "volumeMounts": [MOUNT],
    }
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [PROGRAM]}
    cluster.create("pods", {"metadata": {"name": "reached", "labels": labels}, "spec": spec})
    until(ready(cluster, "reached"), "the server is ready")
    program = (
        "import json, ssl, time, urllib.request as u\n"
        # the endpoints reach kube-proxy a moment after the pod is ready
        "time.sleep(2)\n"
        "print(json.load(u.urlopen('http://reached', timeout=5))['env']['HOSTNAME'])\n"
        "d = '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "h = {'Authorization': 'Bearer ' + open(d + 'token').read()}\n"
        "r = u.Request('https://kubernetes.default.svc/version', headers=h)\n"
        "print(json.load(u.urlopen(r, timeout=5, context=ssl.create_default_context(cafile=d + 'ca.crt')))['major'])\n"
    )
    cluster.run("asks", {"command": ["python", "-c", program]}, restartPolicy="Never")
    until(lambda: cluster.pod("asks")["status"]["phase"] in ("Succeeded", "Failed"), "the question is answered")
    assert cluster.kubectl("logs", "asks").split() == ["reached", "1"]
    for name in ("reached", "asks"):
        cluster.client.delete(cluster.path("pods", name))


def test_a_killed_agent_takes_its_processes_along_and_the_next_one_resumes(cluster: Cluster) -> None:
    if cluster.client.request("GET", "/api/v1/pods", query={"labelSelector": "app.kubernetes.io/name=vault"})["items"]:
        pytest.skip("a Vault runs in this lab, and killing the agent would seal it: use a lab without the platform")
    mark = f"mark-{uuid.uuid4().hex}"
    cluster.run("resumes", {"command": ["python", "-c", "import time; time.sleep(1000)", mark]})
    until(ready(cluster, "resumes"), "the pod is ready")
    address = cluster.pod("resumes")["status"]["podIP"]
    os.kill(json.loads((LAB / "run" / "agent.json").read_text())["pid"], signal.SIGKILL)
    until(lambda: not processes(mark), "its processes die with it", 5)
    name = LAB.name.removeprefix(".lab").removeprefix("-") or "lab"
    subprocess.run(
        [sys.executable, "-m", "lab", "up"], cwd=REPOSITORY, env={**os.environ, "LAB_NAME": name}, check=True
    )
    until(
        lambda: cluster.container("resumes").get("restartCount") == 1 and ready(cluster, "resumes")(), "it runs again"
    )
    assert cluster.pod("resumes")["status"]["podIP"] == address
    assert cluster.container("resumes")["lastState"]["terminated"]["exitCode"] == 137
    cluster.delete("resumes")
    assert not processes(mark)
