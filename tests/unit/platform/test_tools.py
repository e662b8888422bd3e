# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Tools that are missing or too old are told, one sentence each, with the mend."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _tools as tools
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.modules import cluster_info
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import ROOT


def program(folder: Path, says: str) -> str:
    path = folder / "helm"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def command(words: list[str]) -> tuple[int, str, str]:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("version", "told"),
    [("2.19.0", ""), ("2.21.1", ""), ("3.0.0b1", ""), ("2.18.12", "ansible-core is 2.18.12"), ("2.9.27", "2.9.27")],
)
def test_ansible_core(version: str, told: str) -> None:
    sentence = tools.core_fault(version)
    assert bool(sentence) == bool(told) and told in sentence
    assert not told or "pip install 'ansible-core>=2.19'" in sentence


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("v3.19.2", ""),
        ("v3.8.0", ""),
        ("v3.7.1", "is v3.7.1, but 3.8 or a newer 3 is needed"),
        ("v4.0.1", "is v4.0.1, but 3.8 or a newer 3 is needed"),
        ("v2.17.0", "is v2.17.0"),
        ("what?", "does not tell its version ('what?')"),
    ],
)
def test_helm(tmp_path: Path, says: str, told: str) -> None:
    sentence = tools.helm_fault(program(tmp_path, says), command)
    assert bool(sentence) == bool(told) and told in sentence
    assert not told or "set platform_helm_binary" in sentence


def test_a_helm_that_is_not_there() -> None:
    sentence = tools.helm_fault("/nowhere/helm", command)
    assert "/nowhere/helm" in sentence and "No such file" in sentence and "install Helm 3" in sentence


def test_libraries() -> None:
    assert tools.library_faults() == []
    found = {"PyYAML": "6.0.3", "cryptography": "41.0.7", "hvac": ""}
    first, second = tools.library_faults(found.__getitem__, "/usr/bin/python3")
    assert "cryptography is 41.0.7, but 44 or newer is needed in /usr/bin/python3" in first
    assert "hvac is missing in /usr/bin/python3" in second and "pip install 'hvac>=2.3'" in second


def test_the_numbers_are_those_of_the_requirements() -> None:
    wanted = dict(re.findall(r"^(\S+)>=(\S+)$", (ROOT / "requirements.in").read_text(), re.MULTILINE))
    assert {name: wanted[name] for name in tools.LIBRARIES} == tools.LIBRARIES
    assert f'requires_ansible: ">={tools.CORE}.0"' in (ROOT / "meta" / "runtime.yml").read_text()


def test_the_module_refuses_before_it_asks_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("the cluster was asked")

    monkeypatch.setattr(cluster_info.KubeClient, "from_options", called)
    monkeypatch.setattr(tools, "LIBRARIES", {"hvac": "99"})
    params = {"helm_binary": program(tmp_path, "v4.0.1"), "renewable": False}
    with pytest.raises(PlatformError) as caught:
        cluster_info.execute(params, command)
    assert "Checking the tools of this machine" in str(caught.value)
    assert "v4.0.1" in str(caught.value) and f"in {sys.executable}" in str(caught.value)
