# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The checker of roles, on a small collection that is right and on the same one with one thing wrong."""

from __future__ import annotations

import pathlib

import pytest

from tests.tools import check_roles

GOOD = {
    "roles/registry/README.md": "# registry",
    "roles/registry/meta/main.yml": "dependencies: []",
    "roles/registry/meta/service.yml": "{name: registry, phase: 4}",
    "roles/registry/meta/argument_specs.yml": """
argument_specs:
  main:
    options:
      registry_size: {type: str, default: 10Gi}
      registry_resources: {type: dict, default: {requests: {cpu: 100m}}}
      registry_replicas: {type: int, default: 2}
      registry_host: {type: str, required: true}
      registry_token: {type: str, no_log: true}
      registry_note: {type: str}
""",
    "roles/registry/defaults/main.yml": """
registry_size: "10Gi"
registry_resources:
  requests:
    cpu: 100m
registry_replicas: 2
""",
    "roles/registry/tasks/main.yml": "[]",
    "molecule/registry/molecule.yml": "{}",
    "playbooks/site.yml": "- ansible.builtin.import_playbook: phase04_delivery.yml",
    "playbooks/phase04_delivery.yml": """
- name: Phase 4
  hosts: all
  roles:
    - {role: harvester_rke2.platform.registry, tags: [phase4, registry]}
""",
}


def collection(root: pathlib.Path, **changes: str | None) -> pathlib.Path:
    for name, text in (GOOD | changes).items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def test_nothing_to_say_about_what_is_right(tmp_path: pathlib.Path) -> None:
    assert check_roles.check(collection(tmp_path)) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("defaults/main.yml", "10Gi", "20Gi", "registry_size defaults to '20Gi' in defaults/main.yml, to '10Gi' in"),
        ("defaults/main.yml", "replicas: 2", 'replicas: "2"', "registry_replicas defaults to '2' in"),
        ("defaults/main.yml", "replicas: 2", "replicas: true", "registry_replicas defaults to True in"),
        ("defaults/main.yml", "cpu: 100m", "cpu: 200m", "registry_resources defaults to {'requests': {'cpu': '200m'}}"),
        ("defaults/main.yml", "registry_replicas: 2", "", "registry_replicas has a default in meta/argument_specs.yml"),
        ("defaults/main.yml", "registry_replicas", "registry_x: 1\nregistry_replicas", "registry_x has a default, but"),
        ("defaults/main.yml", "registry_replicas", "size: 1\nregistry_replicas", "size does not begin with the role's"),
        (
            "defaults/main.yml",
            "registry_replicas",
            "registry_note: a\nregistry_replicas",
            "registry_note has a default",
        ),
        ("meta/service.yml", "4", "5", "its description says phase 5, the playbooks that name it: 4"),
        ("meta/service.yml", "registry", "harbor", "its description is named 'harbor'"),
    ],
)
def test_a_role_that_is_wrong(tmp_path: pathlib.Path, name: str, old: str, new: str, fault: str) -> None:
    name = f"roles/registry/{name}"
    assert old in GOOD[name]
    faults = check_roles.check(collection(tmp_path, **{name: GOOD[name].replace(old, new)}))
    assert any(fault in one for one in faults), faults


@pytest.mark.parametrize("name", ["README.md", "meta/main.yml", "tasks/main.yml", "meta/argument_specs.yml"])
def test_a_missing_file(tmp_path: pathlib.Path, name: str) -> None:
    faults = check_roles.check(collection(tmp_path, **{f"roles/registry/{name}": None}))
    assert f"role registry: {name} is missing" in faults


def test_a_missing_scenario(tmp_path: pathlib.Path) -> None:
    faults = check_roles.check(collection(tmp_path, **{"molecule/registry/molecule.yml": None}))
    assert faults == ["role registry: there is no Molecule scenario molecule/registry"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("tags: [phase4, registry]", "tags: [phase4]", "the line of role registry lacks the tag registry"),
        ("tags: [phase4, registry]", "tags: registry", "the line of role registry lacks the tag phase4"),
        (".registry,", ".regsitry,", "there is no role regsitry"),
        (".registry,", ".regsitry,", "its description says phase 4, the playbooks that name it: none"),
    ],
)
def test_a_playbook_that_is_wrong(tmp_path: pathlib.Path, old: str, new: str, fault: str) -> None:
    name = "playbooks/phase04_delivery.yml"
    faults = check_roles.check(collection(tmp_path, **{name: GOOD[name].replace(old, new)}))
    assert any(fault in one for one in faults), faults


def test_the_program_says_every_fault_and_fails(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_roles.main([str(collection(tmp_path / "good"))]) == 0
    assert "1 roles: arguments, files, tags and phases agree" in capsys.readouterr().out
    assert check_roles.main([str(collection(tmp_path / "bad", **{"roles/registry/README.md": None}))]) == 1
    assert "README.md is missing" in capsys.readouterr().out
