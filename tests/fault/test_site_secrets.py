# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Runs at -vvvv while everything is watched: no secret is in an output, a result, a registered variable, the fact
cache, a temporary file, the process list, a report or an audit log.

The secrets are told apart afterwards: Vault's keys and root token, the key of the root CA, every Secret of both
clusters, the credentials of the kubeconfigs. The two files that may hold them are Vault's spool and the offline copy.
"""

from __future__ import annotations

import base64
import json
import pathlib
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from tests.fault._site import CALLBACKS, SERVERS, Run, Site, site
from tests.fault._watch import Watch

_PUBLIC = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.S)
_SHORTEST = 12

# Several whole runs a test, on whatever machine this is.
pytestmark = pytest.mark.timeout(1800)


@dataclass
class Seen:
    """What watched runs have shown, by where."""

    places: dict[str, bytes] = field(default_factory=dict)

    def find(self, secrets: Mapping[str, bytes]) -> list[str]:
        """Each place in which a secret is, with the secret's name."""
        found = []
        for where, content in self.places.items():
            # -vvvv shows results as JSON and YAML: a line end within a text is two characters there.
            flat = content.replace(b"\\n", b"\n")
            found += [f"{where} has {name}" for name, value in secrets.items() if value in content or value in flat]
        return found


def watched(lab: Site, *arguments: str, playbook: str = "site.yml") -> tuple[Run, Seen]:
    """A run at -vvvv of which all is kept."""
    temporary, cache = lab.home / "tmp", lab.home / "facts"
    for folder in (temporary, cache):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    # Beside what is watched, on the same file system.
    with tempfile.TemporaryDirectory(prefix="site-watch-", dir=lab.home.parent) as name:
        work = pathlib.Path(name)
        environment = {
            "TMPDIR": str(temporary),
            "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(cache),
            "ANSIBLE_CALLBACKS_ENABLED": ",".join((*CALLBACKS, "everything")),
            "EVERYTHING_FILE": str(work / "everything"),
        }
        log = AuditLogs(lab)
        with Watch([lab.home, pathlib.Path("/dev/shm")], work / "keep") as watch:
            run = lab.run("-vvvv", *arguments, playbook=playbook, environment=environment)
        assert watch.files.looks > 20 * run.seconds, "the watch was too slow to mean anything"
        places = {
            "the output": run.output.encode(),
            "results and registered variables": (work / "everything").read_bytes(),
            **{f"report {name}": content for name, content in run.reports.items()},
            **{f"fact cache {file.name}": file.read_bytes() for file in cache.iterdir()},
            **log.written(),
        }
        spool = str(lab.home / ".local/state")
        places |= {where: content for where, content in watch.contents().items() if spool not in where}
    assert not list(pathlib.Path(spool).rglob("*.json")), "the spool was left"
    return run, Seen(places)


class AuditLogs:
    """What is written to the audit logs of all servers from now on."""

    def __init__(self, lab: Site) -> None:
        self._logs = [lab.directory / "audit" / f"{server}.log" for server in SERVERS]
        self._from = {log: log.stat().st_size if log.exists() else 0 for log in self._logs}

    def written(self) -> dict[str, bytes]:
        time.sleep(2)  # the servers write in batches
        return {f"audit log {log.name}": log.read_bytes()[self._from[log] :] for log in self._logs if log.exists()}


def secrets_of(lab: Site) -> dict[str, bytes]:
    """Name to value, also as they look in base64."""
    raw: dict[str, bytes] = {}
    init = lab.init()
    raw["Vault's root token"] = init["root_token"].encode()
    raw |= {f"unseal key {number}": key.encode() for number, key in enumerate(init["keys"])}
    raw |= {f"unseal key {number} in base64": key.encode() for number, key in enumerate(init["keys_base64"])}
    for server in SERVERS:
        document = yaml.safe_load(pathlib.Path(lab.kubeconfig(server)).read_text())
        user = document["users"][0]["user"]
        raw |= {
            f"{name} of {server}.yaml": value.encode()
            for name, value in user.items()
            if name in ("token", "client-key-data")
        }
        for item in lab.client(server).request("GET", "/api/v1/secrets")["items"]:
            if item["type"] == "helm.sh/release.v1":
                continue  # Helm's record of a chart, which holds no secrets: the charts' own rule
            meta = item["metadata"]
            for key, value in (item.get("data") or {}).items():
                content = base64.b64decode(value)
                if _PUBLIC.sub(b"", content).strip():
                    raw[f"{key} of {meta['namespace']}/{meta['name']} on {server}"] = content
    return dict(pieces(raw))


def pieces(raw: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """A secret of several lines is found by each of its lines, and in base64 whatever stands before it."""
    for name, value in raw.items():
        text = _PUBLIC.sub(b"", value).strip()
        lines = [line for line in text.splitlines() if len(line) >= _SHORTEST and not line.startswith(b"-----")]
        for number, line in enumerate(lines):
            yield f"{name}, line {number}", line
        for shift in range(3):
            encoded = base64.b64encode(text[shift : shift + len(text[shift:]) // 3 * 3])
            if len(encoded) >= 2 * _SHORTEST:
                yield f"{name}, in base64 ({shift})", encoded[4:64]


@pytest.fixture(scope="module")
def runs() -> Iterator[tuple[Site, dict[str, tuple[Run, Seen]]]]:
    """The site from empty, an unseal of a server that was started anew, and a run that fails with the keys in hand."""
    lab = site()
    lab.empty()
    found = {"site": watched(lab)}
    lab.cluster.delete("/api/v1/namespaces/vault/pods/vault-2")
    time.sleep(10)
    found["unseal"] = watched(lab, playbook="playbooks/unseal.yml")
    # The keys are read, and then their number does not fit: messages are made with them in memory.
    lab.vault(lab.leader(), "PUT", "sys/seal", {}, lab.init()["root_token"])
    found["refused"] = watched(lab)
    opened = lab.run(playbook="playbooks/unseal.yml")
    assert opened.returncode == 0, opened.tail
    yield lab, found


def test_no_secret_is_anywhere(runs: tuple[Site, dict[str, tuple[Run, Seen]]]) -> None:
    lab, found = runs
    secrets = secrets_of(lab)
    assert found["site"][0].returncode == 0, found["site"][0].tail
    assert found["unseal"][0].states("Unseal what is sealed and wait for the voters") == ["changed"]
    assert found["refused"][0].returncode == 2, found["refused"][0].tail
    for name, (_run, seen) in found.items():
        kinds = sorted({where.split()[0] for where in seen.places})
        print(f"{name}: {len(seen.places)} places ({', '.join(kinds)}) searched for {len(secrets)} pieces of secrets")
        hits = seen.find(secrets)
        assert not hits, hits
        # What is public is there: this is really what the run has shown.
        assert b"BEGIN CERTIFICATE" in seen.places["results and registered variables"]
        assert b"-vvvv" in b"".join(seen.places.values())
    assert {"Vault's root token, line 0", "tls.key of platform-lab-keys/root-ca on harvester, line 1"} <= secrets.keys()
    assert len([name for name in secrets if name.startswith("tls.key of platform-lab-keys/root-ca")]) > 40
    assert any("tls.key of vault/vault-tls" in name for name in secrets), "cert-manager's key is searched for, too"


PLANT = f"planted-{uuid.uuid4().hex}"
SLEEP = [sys.executable, "-c", "import time; time.sleep(0.3)"]
WRITE = """
import os, sys, time
with open(sys.argv[1], "w") as file:
    file.write(os.environ["FIRST"] + os.environ["SECOND"])
time.sleep(0.05)
os.unlink(sys.argv[1])
"""
PLANTS: dict[str, dict[str, Any]] = {
    "the output": {"ansible.builtin.debug": {"msg": PLANT}},
    "results": {"ansible.builtin.set_fact": {"planted": PLANT}, "no_log": True},
    "fact cache": {"ansible.builtin.set_fact": {"planted": PLANT, "cacheable": True}, "no_log": True},
    # In two halves, so that it is whole in the file only.
    "file": {
        "ansible.builtin.command": {"argv": [sys.executable, "-c", WRITE, "{{ lookup('env', 'TMPDIR') }}/planted"]},
        "environment": {"FIRST": PLANT[:20], "SECOND": PLANT[20:]},
        "no_log": True,
    },
    "arguments": {"ansible.builtin.command": {"argv": [*SLEEP, PLANT]}, "no_log": True},
    "environment": {"ansible.builtin.command": {"argv": SLEEP}, "environment": {"PLANT": PLANT}, "no_log": True},
}


@pytest.mark.parametrize("place", PLANTS)
def test_the_search_finds_what_a_play_shows(place: str, tmp_path: pathlib.Path) -> None:
    """In that very place, also when Ansible has been told not to log it."""
    playbook = tmp_path / "plant.yml"
    play = {"hosts": "rke2_clusters", "gather_facts": False, "tasks": [{"name": "Plant", **PLANTS[place]}]}
    playbook.write_text(yaml.safe_dump([play]))
    run, seen = watched(site(), playbook=str(playbook))
    assert run.returncode == 0, run.tail
    hits = seen.find(dict(pieces({"the plant": PLANT.encode()})))
    assert any(hit.startswith(place) for hit in hits), hits


def test_the_search_finds_what_an_audit_log_shows() -> None:
    lab = site()
    log = AuditLogs(lab)
    lab.cluster.delete(f"/api/v1/namespaces/default/configmaps/{PLANT}")
    hits = Seen(log.written()).find(dict(pieces({"the plant": PLANT.encode()})))
    assert hits and hits[0].startswith("audit log cluster.log"), hits


def test_the_search_finds_the_key_of_the_root_ca_however_it_is_written() -> None:
    key = (site().secret("root-ca") or {})["tls.key"]
    secrets = dict(pieces({"the key": key}))
    for shown in (key, repr(key).encode(), json.dumps(key.decode()).encode(), base64.b64encode(b"x=" + key)):
        assert Seen({"somewhere": shown}).find(secrets), shown[:40]
    assert not Seen({"somewhere": (site().secret("root-ca") or {})["tls.crt"]}).find(secrets)
