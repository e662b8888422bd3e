# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
# GNU General Public License v3.0+ (see LICENSES or https://www.gnu.org/licenses/gpl-3.0.txt)
#
# Private to this collection.

"""The files of a run: report.json for programs and comparisons, junit.xml for what shows test results."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
import re
import tempfile
import typing
from xml.etree import ElementTree

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One task on one host."""

    play: str
    role: str
    task: str
    action: str
    phase: str
    host: str
    state: str  # ok, changed, failed, ignored, skipped, unreachable
    module_executions: int
    offset: float  # seconds since the run began
    seconds: float


def totals(entries: typing.Iterable[Entry]) -> dict[str, typing.Any]:
    """Counts over entries; tasks are those that were not skipped, ok includes changed as in Ansible's recap."""
    entries = list(entries)
    count = collections.Counter(entry.state for entry in entries)
    return {
        "tasks": len(entries) - count["skipped"],
        "module_executions": sum(entry.module_executions for entry in entries),
        "ok": count["ok"] + count["changed"],
        "changed": count["changed"],
        "failed": count["failed"] + count["unreachable"],
        "unreachable": count["unreachable"],
        "ignored": count["ignored"],
        "skipped": count["skipped"],
    }


def report(entries: list[Entry], *, seconds: float, **said: typing.Any) -> dict[str, typing.Any]:
    """Everything about a run that is worth keeping."""

    def by(name: str) -> dict[str, dict[str, typing.Any]]:
        groups: dict[str, list[Entry]] = {}
        for entry in entries:
            groups.setdefault(getattr(entry, name), []).append(entry)
        return {
            key: {**totals(group), "seconds": round(sum(entry.seconds for entry in group), 3)}
            for key, group in groups.items()
            if key
        }

    return {
        **said,
        "seconds": round(seconds, 3),
        "totals": totals(entries),
        "phases": by("phase"),
        "roles": by("role"),
        "hosts": by("host"),
        "tasks": [dataclasses.asdict(entry) for entry in entries],
    }


def line(report: dict[str, typing.Any]) -> str:
    """The totals in one line."""
    total = report["totals"]
    return (
        f"tasks {total['tasks']}, module executions {total['module_executions']}, changed {total['changed']}, "
        f"failed {total['failed']}, seconds {report['seconds']:.1f}"
    )


def junit(report: dict[str, typing.Any]) -> bytes:
    """A suite a play, a case a task and host."""
    plays: dict[str, list[dict[str, typing.Any]]] = {}
    for task in report["tasks"]:
        plays.setdefault(task["play"], []).append(task)
    root = ElementTree.Element("testsuites", name=_xml(report["playbook"]), time=f"{report['seconds']:.3f}")
    for play, tasks in plays.items():
        states = collections.Counter(task["state"] for task in tasks)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_xml(play),
            tests=str(len(tasks)),
            failures=str(states["failed"] + states["unreachable"]),
            errors="0",
            skipped=str(states["skipped"]),
            time=f"{sum(task['seconds'] for task in tasks):.3f}",
        )
        for task in tasks:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                name=_xml(f"[{task['host']}] {task['task']}"),
                classname=_xml(task["role"] or play),
                time=f"{task['seconds']:.3f}",
            )
            if task["state"] in ("failed", "unreachable"):
                ElementTree.SubElement(case, "failure", message=task["state"])
            elif task["state"] == "skipped":
                ElementTree.SubElement(case, "skipped")
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def write(directory: pathlib.Path, report: dict[str, typing.Any]) -> None:
    """Both files, each whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / "report.json", json.dumps(report, indent=1).encode() + b"\n")
    _replace(directory / "junit.xml", junit(report))


def _replace(path: pathlib.Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _xml(text: str) -> str:
    return NOT_IN_XML.sub("?", text)
