# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""What a role puts on a node (roles/<role>/meta/node.yml), and cloud-init's half of it (private to this collection).

The description has a way in by SSH, roles/rke2_node/tasks/apply.yml, and one by cloud-init, :func:`cloud_config`. Both
write the same files, and both leave the same mark when their commands have run.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ._errors import PlatformError

Spec = dict[str, Any]
Part = dict[str, Any]

# Where each part's mark is: the digest of what was applied last.
MARKS = "/var/lib/rke2-node"
SETUP = f"{MARKS}/setup"
SYSCTL = "/etc/sysctl.d/"

_WHEN: Spec = {"type": "bool", "default": True}
_FILE: Spec = {
    "path": {"type": "str", "required": True},
    "template": {"type": "str", "required": True},
    "mode": {"type": "str", "default": "0644"},
    "when": _WHEN,
    # Holds a secret: written over SSH only, and never shown.
    "secret": {"type": "bool", "default": False},
    # Where it is not wanted, it stays as it is: it may be somebody else's.
    "keep": {"type": "bool", "default": False},
}
_COMMAND: Spec = {
    "argv": {"type": "list", "elements": "str", "required": True},
    # Before the packages are installed, such as trust in the repository's certificate.
    "early": {"type": "bool", "default": False},
    "when": _WHEN,
}
_UNIT: Spec = {
    "name": {"type": "str", "required": True},
    # Stopped, disabled and never to be started again, otherwise enabled and running.
    "masked": {"type": "bool", "default": False},
    # Started anew when one of the part's files has changed.
    "restart": {"type": "bool", "default": False},
    "when": _WHEN,
}


def _list_of(options: Spec) -> Spec:
    return {"type": "list", "elements": "dict", "default": [], "options": options}


DESCRIPTION: Spec = {
    "packages": {"type": "list", "elements": "str", "default": []},
    "files": _list_of(_FILE),
    "commands": _list_of(_COMMAND),
    "units": _list_of(_UNIT),
    # Exported around packages and commands, such as a proxy's address.
    "environment": {"type": "dict", "default": {}},
}


def validate(raw: Any, source: str) -> Part:
    """Return the description with its defaults filled in.

    :param raw: what the file holds, strings already templated.
    :param source: the file, for the message.
    :raises PlatformError: with every fault in it.
    """
    if not isinstance(raw, dict):
        raise PlatformError(f"Reading {source}", "it is no mapping", f"There are {', '.join(DESCRIPTION)}.")
    result = ArgumentSpecValidator(DESCRIPTION).validate(raw)
    if result.error_messages:
        raise PlatformError(f"Reading {source}", "; ".join(result.error_messages), "Mend it.")
    return cast("Part", result.validated_parameters)


def complete(part: Mapping[str, Any], contents: Mapping[str, str]) -> Part:
    """The part as both ways in take it.

    :param part: what :func:`validate` returned.
    :param contents: path to the rendered text of each file that is wanted and no secret.
    :returns: the description, its entries without ``when``, with ``absent``, the files that are to be gone, ``sysctl``,
        those whose settings the kernel is told, and ``digest``.
    """
    there = [file for file in part["files"] if file["when"]]
    gone = [file for file in part["files"] if not file["when"] and not file["keep"]]
    files = [
        {"path": file["path"], "mode": file["mode"], "content": contents[file["path"]]}
        for file in there
        if not file["secret"]
    ]
    settings = [file["path"] for file in files if file["path"].startswith(SYSCTL)]
    wanted = [command for command in part["commands"] if command["when"]]
    told = [["sysctl", "-q", "-p", path] for path in settings]
    result = {
        "packages": part["packages"],
        "files": files,
        "secret_files": [{key: file[key] for key in ("path", "mode", "template")} for file in there if file["secret"]],
        "absent": sorted({file["path"] for file in gone} - {file["path"] for file in there}),
        "sysctl": {key: value for path in settings for key, value in parse_sysctl(contents[path]).items()},
        "early": [command["argv"] for command in wanted if command["early"]],
        "commands": told + [command["argv"] for command in wanted if not command["early"]],
        "units": [{key: unit[key] for key in ("name", "masked", "restart")} for unit in part["units"] if unit["when"]],
        "environment": {str(key): str(value) for key, value in part["environment"].items() if value},
    }
    return {**result, "digest": digest(result)}


def parse_sysctl(text: str) -> dict[str, str]:
    """The settings of a sysctl.d file, values as the kernel shows them: words one space apart."""
    pairs = (
        line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith(("#", ";"))
    )
    return {key.strip().lstrip("-"): " ".join(value.split()) for key, value in pairs}


def digest(part: Mapping[str, Any]) -> str:
    """What the mark holds: it changes when a file, a command or a unit of the part does."""
    counted = {key: part[key] for key in ("files", "early", "commands", "units")}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def cloud_config(parts: Mapping[str, Part], install: Sequence[str]) -> dict[str, Any]:
    """The parts as cloud-init's keys: their files, and one script that does the rest before Rancher's own command.

    :param parts: role to what :func:`complete` returned, in order.
    :param install: the command that installs the packages named behind it.
    :raises PlatformError: a part holds a secret, which user data may not.
    """
    files = []
    for role, part in parts.items():
        for file in part["secret_files"]:
            mend = "Leave it to playbooks/nodes.yml, or to the Cluster object."
            raise PlatformError(f"Putting {file['path']} of {role} into user data", "it holds a secret", mend)
        files += [
            {"path": file["path"], "permissions": file["mode"], "content": file["content"]} for file in part["files"]
        ]
    files.append({"path": SETUP, "permissions": "0700", "content": script(parts, install)})
    return {"write_files": files, "runcmd": [["sh", SETUP]]}


def script(parts: Mapping[str, Part], install: Sequence[str]) -> str:
    """The shell script that a new node runs once: what follows a failed line is not run, and the mark is missing."""
    lines = [
        "#!/bin/sh",
        "# Configures this node once, by cloud-init. Later changes come by SSH: playbooks/nodes.yml.",
        "set -eu",
        f"trap '[ $? = 0 ] || logger -t rke2-node -p user.err \"{SETUP} failed, the node is not configured\"' EXIT",
        'again() { for pause in 5 10 20 40; do "$@" && return; sleep "$pause"; done; "$@"; }',
    ]
    for role, part in parts.items():
        lines += ["", f"# {role}"]
        lines += [f"export {key}={shlex.quote(value)}" for key, value in part["environment"].items()]
        lines += [shlex.join(argv) for argv in part["early"]]
        if part["packages"]:
            lines.append("again " + shlex.join([*install, *part["packages"]]))
        lines += [shlex.join(argv) for argv in part["commands"]]
        if any(file["path"].startswith("/etc/systemd/") for file in part["files"]):
            lines.append("systemctl daemon-reload")
        lines += [_unit(unit) for unit in part["units"]]
        lines.append(f"printf %s {part['digest']} > {MARKS}/{role}")
    return "\n".join(lines) + "\n"


def _unit(unit: Mapping[str, Any]) -> str:
    verb = ["mask", "--now"] if unit["masked"] else ["enable", "--now"]
    return shlex.join(["systemctl", *verb, unit["name"]])
