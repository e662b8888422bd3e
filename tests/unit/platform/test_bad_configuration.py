# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Wrong variables are refused by the first role, each with its sentence and its mend, before anything is touched.

One run of ansible-playbook for all: each file in tests/data/bad_configuration is a host of its inventory. Its variables
are right but for the file's own. The clusters of every host are a local server that counts who calls.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import ROOT, Play

DATA = ROOT / "tests" / "data"
FIXTURES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((DATA / "bad_configuration").glob("*.yml"))}
GOOD = "nothing_wrong"
WRONG_TOOL = "wrong_tool"
PLAYBOOK = """
- name: The first role of every phase
  hosts: all
  gather_facts: false
  strategy: ansible.builtin.free
  roles:
    - {role: harvester_rke2.platform.platform, platform_phase: 1}
"""


@dataclass
class Run:
    """What a run printed, and which hosts' clusters were called."""

    code: int
    output: str
    failures: dict[str, str]
    calls: Counter[str]


def counting_server(calls: Counter[str]) -> ThreadingHTTPServer:
    """An API server that lets nobody in, and counts by the first part of the path."""

    class Handler(BaseHTTPRequestHandler):
        def _refuse(self) -> None:
            calls[self.path.strip("/").partition("/")[0]] += 1
            body = json.dumps({"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "nobody"}).encode()
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _refuse

        def log_message(self, format: str, *args: object) -> None:
            """Keep the tests' output short."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def helm(folder: Path, version: str) -> str:
    """A helm that knows its version, and nothing else."""
    path = folder / f"helm-{version}"
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return str(path)


def kubeconfig(path: Path, server: str) -> str:
    """Write a kubeconfig and return its path."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": server}}],
        "users": [{"name": "it", "user": {"token": "a-token"}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    path.write_text(yaml.safe_dump(content))
    path.chmod(0o600)
    return str(path)


@pytest.fixture(scope="module")
def run(play: Play, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the first role for every fixture, and once with nothing wrong."""
    folder = tmp_path_factory.mktemp("bad_configuration")
    calls: Counter[str] = Counter()
    server = counting_server(calls)
    hosts: dict[str, Any] = {}
    right, wrong = helm(folder, "v3.19.2"), helm(folder, "v4.0.1")
    fixtures = {GOOD: {"variables": {}}, WRONG_TOOL: {"variables": {"platform_helm_binary": wrong}}, **FIXTURES}
    for name, fixture in fixtures.items():
        config = kubeconfig(folder / f"{name}.kubeconfig", f"http://127.0.0.1:{server.server_address[1]}/{name}")
        hosts[name] = {
            "platform_domain": "lab.example.com",
            "platform_cluster_name": "platform-lab",
            "platform_kubeconfig": config,
            "platform_harvester_kubeconfig": config,
            "platform_helm_binary": right,
            # Needed beside platform_rancher_url, which some of the files set.
            "cluster_autoscaler_token": "token-scale:zzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
            **fixture["variables"],
        }
    result = play(folder, PLAYBOOK, hosts)
    server.shutdown()
    server.server_close()
    failed = re.finditer(r"^fatal: \[(\w+)\]: FAILED! => (\{.*\})$", result.stdout, re.MULTILINE)
    failures = {match[1]: json.loads(match[2])["msg"] for match in failed}
    return Run(result.returncode, result.stdout + result.stderr, failures, calls)


def test_there_are_enough() -> None:
    """Each says something of its own."""
    assert len(FIXTURES) >= 40
    sentences = [sentence for fixture in FIXTURES.values() for sentence in fixture["refused"]]
    assert len(sentences) == len(set(sentences))


def test_the_run_fails(run: Run) -> None:
    """The exit code of ansible-playbook for failed hosts."""
    assert run.code == 2, run.output


def test_the_server_counts(run: Run) -> None:
    """With nothing wrong the clusters are called: the zeros below mean something."""
    assert run.calls[GOOD] > 0
    assert "refused and nothing was touched" not in run.failures.get(GOOD, "")


def test_a_wrong_tool_is_refused_before_anybody_is_called(run: Run) -> None:
    """By the module, as it runs on the Python that runs the others."""
    assert run.calls[WRONG_TOOL] == 0
    assert run.failures[WRONG_TOOL].startswith("Checking the tools of this machine: The program ")
    assert "helm-v4.0.1 (platform_helm_binary) is v4.0.1, but 3.8 or a newer 3 is needed" in run.failures[WRONG_TOOL]


@pytest.mark.parametrize("name", FIXTURES)
def test_refused(run: Run, name: str) -> None:
    """Refused with exactly these sentences, and nobody was called."""
    heading, *faults = run.failures[name].splitlines()
    faults = [re.sub(r"/\S+/roles/", "", fault.removeprefix("  - ")) for fault in faults]
    expected = FIXTURES[name]["refused"]
    assert run.calls[name] == 0
    if heading == "Validation of arguments failed:":
        # A wrong type of this role's own variables: Ansible's words, whose end differs between its versions.
        faults = [fault[: len(sentence)] for fault, sentence in zip(faults, expected, strict=True)]
    else:
        assert heading == "The configuration was refused and nothing was touched:"
    assert faults == expected
