# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The real ansible-playbook, with nothing of the user's or the machine's configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
Play = Callable[..., "subprocess.CompletedProcess[str]"]


def rendered(play: Play, folder: Path, *roles: str, **variables: Any) -> list[tuple[str, dict[str, Any]]]:
    """Service and object of all that the verb ``render`` writes for these roles, with the platform's own defaults."""
    wanted = {
        "service_action": "render",
        "service_destination": "{{ playbook_dir }}/out",
        "platform_domain": "lab.example.com",
        "platform_cluster_name": "platform-lab",
        "platform_root_ca_certificate": "a certificate",
        **variables,
    }
    of_hosts = {"hosts": "all", "gather_facts": False, "vars_files": [f"{ROOT}/roles/platform/defaults/main.yml"]}
    playbook = yaml.safe_dump([{**of_hosts, "roles": [{"role": role, "vars": dict(wanted)} for role in roles]}])
    result = play(folder, playbook, {"cluster": {}})
    assert result.returncode == 0, result.stdout + result.stderr
    return [
        (path.parent.name, document)
        for path in sorted((folder / "out").rglob("*.yml"))
        for document in yaml.safe_load_all(path.read_text())
        if document
    ]


@pytest.fixture(scope="session")
def play() -> Play:
    """Run a playbook in a folder; the roles of tests/data and of the folder itself are on roles_path."""

    def run(folder: Path, playbook: str, hosts: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": dict(hosts), "vars": shared}}))
        (folder / "play.yml").write_text(playbook)
        (folder / "ansible.cfg").write_text("[defaults]\n")
        return subprocess.run(
            [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.yml", "--forks", "4", "play.yml"],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "LANG": "C.UTF-8",
                "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
                "ANSIBLE_ROLES_PATH": f"{ROOT / 'tests' / 'data' / 'roles'}:{folder / 'roles'}",
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
                "ANSIBLE_PIPELINING": "true",
            },
            capture_output=True,
            text=True,
            timeout=590,
            check=False,
        )

    return run
