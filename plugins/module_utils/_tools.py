# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Whether what a run needs on this machine is there and new enough (private to this collection).

kubectl is not among it: nothing of the collection calls it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import metadata

CORE = "2.19"
# As requirements.in has them.
LIBRARIES = {"PyYAML": "6.0.2", "cryptography": "44", "hvac": "2.3"}
HELM_OLDEST, HELM_MAJOR = "3.8", 3
# Exit status, standard output and standard error.
Command = Callable[[list[str]], tuple[int, str, str]]
_NUMBER = re.compile(r"v?(\d+(?:\.\d+)*)")


def numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with; nothing if it begins with none."""
    match = _NUMBER.match(version.strip())
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def core_fault(version: str) -> str:
    """What is wrong with the ansible-core that runs this."""
    if numbers(version) >= numbers(CORE):
        return ""
    return f"ansible-core is {version}, but {CORE} or newer is needed: pip install 'ansible-core>={CORE}'."


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def library_faults(installed: Callable[[str], str] = _installed, python: str = sys.executable) -> list[str]:
    """One sentence for each Python package that is missing or too old."""
    faults = []
    for name, oldest in LIBRARIES.items():
        found = installed(name)
        if numbers(found) >= numbers(oldest):
            continue
        what = f"is {found}, but {oldest} or newer is needed" if found else "is missing"
        faults.append(
            f"The Python package {name} {what} in {python}, which runs the modules: pip install '{name}>={oldest}' "
            "there, or set ansible_python_interpreter to a Python that has it."
        )
    return faults


def helm_fault(binary: str, command: Command) -> str:
    """What is wrong with the helm program; ``command`` runs words and raises OSError where there is no such program."""
    mend = f"install Helm {HELM_MAJOR}, or set platform_helm_binary to where it is."
    try:
        _status, out, err = command([binary, "version", "--template", "{{ .Version }}"])
    except OSError as exc:
        return f"The program {binary} (platform_helm_binary) cannot be run ({exc.strerror}): {mend}"
    said = out or err
    found = numbers(said)
    if not found:
        return f"The program {binary} (platform_helm_binary) does not tell its version ({said.strip()[:80]!r}): {mend}"
    if found[0] != HELM_MAJOR or found < numbers(HELM_OLDEST):
        wanted = f"{HELM_OLDEST} or a newer {HELM_MAJOR} is needed"
        return f"The program {binary} (platform_helm_binary) is {said.strip()}, but {wanted}: {mend}"
    return ""
