# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Check that every role says the same everywhere: argument specification and defaults, description and playbook.

usage: python tests/tools/check_roles.py [ROOT]
"""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Any

import yaml

PREFIX = "harvester_rke2.platform."
WANTED = ("README.md", "meta/argument_specs.yml", "meta/main.yml", "tasks/main.yml")
PLAYBOOK = re.compile(r"phase(\d\d)_\w+\.yml")
# These stand in every phase: `platform` first, `service` where a phase waits for all of its services.
SHARED = ("platform", "service")


def load(path: pathlib.Path) -> Any:
    """What a YAML file holds; an absent or empty one holds nothing."""
    return yaml.safe_load(path.read_text()) or {} if path.exists() else {}


def same(one: Any, other: Any) -> bool:
    """Equal with the same types all the way down: 1, true and "1" are three different defaults."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def check_arguments(role: pathlib.Path) -> list[str]:
    """The entry point `main` of the specification beside the role's defaults."""
    specification = load(role / "meta/argument_specs.yml").get("argument_specs", {}).get("main", {}).get("options", {})
    defaults = load(role / "defaults/main.yml")
    faults = []
    for name in sorted(specification.keys() | defaults.keys()):
        option = specification.get(name)
        where = f"role {role.name}: {name}"
        if not name.startswith(f"{role.name}_"):
            faults.append(f"{where} does not begin with the role's name")
        if option is None:
            faults.append(f"{where} has a default, but stands not in meta/argument_specs.yml")
        elif option.get("required") or option.get("no_log"):
            continue
        elif "default" in option and name not in defaults:
            faults.append(f"{where} has a default in meta/argument_specs.yml, but none in defaults/main.yml")
        elif "default" not in option and name in defaults:
            faults.append(f"{where} has a default in defaults/main.yml, but none in meta/argument_specs.yml")
        elif name in defaults and not same(option["default"], defaults[name]):
            faults.append(
                f"{where} defaults to {defaults[name]!r} in defaults/main.yml, "
                f"to {option['default']!r} in meta/argument_specs.yml"
            )
    return faults


def role_lines(root: pathlib.Path) -> list[tuple[str, int, str, list[str]]]:
    """Every role line of the phase playbooks: the file's name, its phase, the role, the line's tags."""
    lines = []
    for path in sorted((root / "playbooks").glob("phase*.yml")):
        match = PLAYBOOK.fullmatch(path.name)
        if match is None:
            continue
        for play in load(path) or []:
            for line in play.get("roles", []):
                line = {"role": line} if isinstance(line, str) else line
                tags = line.get("tags", [])
                tags = tags.split(",") if isinstance(tags, str) else tags
                lines.append((path.name, int(match[1]), str(line["role"]).removeprefix(PREFIX), tags))
    return lines


def check_playbooks(root: pathlib.Path) -> list[str]:
    """Each role line carries the tags that users type, and stands in the phase of its role's description."""
    faults = []
    lines = role_lines(root)
    for playbook, phase, role, tags in lines:
        wanted = {f"phase{phase}"} | ({role} if role not in SHARED else set())
        if missing := sorted(wanted - set(tags)):
            faults.append(f"playbooks/{playbook}: the line of role {role} lacks the tag {', '.join(missing)}")
        if not (root / "roles" / role).is_dir():
            faults.append(f"playbooks/{playbook}: there is no role {role}")
    for description in sorted(root.glob("roles/*/meta/service.yml")):
        role = description.parent.parent.name
        said = load(description)
        if said.get("name") != role:
            faults.append(f"role {role}: its description is named {said.get('name')!r}")
        found = sorted({phase for _playbook, phase, name, _tags in lines if name == role})
        if found != [said.get("phase")]:
            named = ", ".join(map(str, found)) or "none"
            faults.append(
                f"role {role}: its description says phase {said.get('phase')}, the playbooks that name it: {named}"
            )
    return faults


def check(root: pathlib.Path) -> list[str]:
    """Every fault of the roles below a collection's root, a sentence each."""
    faults = []
    for role in sorted(path for path in (root / "roles").iterdir() if path.is_dir()):
        faults += [f"role {role.name}: {name} is missing" for name in WANTED if not (role / name).exists()]
        folders = ("molecule", "molecule/nodes")
        if not any((root / folder / role.name / "molecule.yml").exists() for folder in folders):
            faults.append(f"role {role.name}: there is no Molecule scenario molecule/{role.name}")
        faults += check_arguments(role)
    return faults + check_playbooks(root)


def main(arguments: list[str]) -> int:
    root = pathlib.Path(arguments[0] if arguments else ".")
    faults = check(root)
    print(
        "\n".join(faults) or f"{len(list((root / 'roles').iterdir()))} roles: arguments, files, tags and phases agree"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
