# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Check what ansible-test does not: action groups, guarantees, sizes, and that nothing is skipped without a reason.

usage: python tests/tools/check_plugins.py [ROOT]
"""

from __future__ import annotations

import ast
import pathlib
import sys
from typing import Any

import yaml

FRAGMENT = "harvester_rke2.platform."
DOCUMENTS = ("DOCUMENTATION", "EXAMPLES", "RETURN")
GUARANTEES = ("check_mode", "diff_mode", "idempotent")
# A doc fragment of connection options, and the action group by which a play sets them once.
GROUPS = {name: name for name in ("kubernetes", "rancher", "store", "vault")}
LONGEST_MODULE = 350
MARKS = ("pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail")
CALLS = ("pytest.skip", "pytest.xfail", "pytest.importorskip")
REASON_FIRST = ("pytest.skip", "pytest.xfail", "pytest.mark.skip")


def constants(body: list[ast.stmt]) -> dict[str, str]:
    """The strings that are assigned to names in a body of statements."""
    found = {}
    for statement in body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            for target in statement.targets:
                if isinstance(target, ast.Name) and isinstance(statement.value.value, str):
                    found[target.id] = statement.value.value
    return found


def fragments(root: pathlib.Path) -> dict[str, Any]:
    """Doc fragments by the names under which modules extend them: `attributes`, `attributes.info_module`."""
    found = {}
    for path in sorted((root / "plugins/doc_fragments").glob("[a-z]*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name == "ModuleDocFragment":
                for name, text in constants(node.body).items():
                    key = path.stem if name == "DOCUMENTATION" else f"{path.stem}.{name.lower()}"
                    found[key] = yaml.safe_load(text) or {}
    return found


def check_module(path: pathlib.Path, known: dict[str, Any], groups: dict[str, list[str]]) -> list[str]:
    """One module: its three documents, its guarantees, its action group, its length."""
    where = f"module {path.stem}"
    source = path.read_text()
    documents = constants(ast.parse(source).body)
    faults = [f"{where}: {name} is missing" for name in DOCUMENTS if not documents.get(name)]
    if (length := len(source.splitlines())) > LONGEST_MODULE:
        faults.append(f"{where}: {length} lines, more than {LONGEST_MODULE}")
    documentation = yaml.safe_load(documents.get("DOCUMENTATION", "")) or {}
    extended = documentation.get("extends_documentation_fragment", [])
    extended = [extended] if isinstance(extended, str) else extended
    extended = [name.removeprefix(FRAGMENT).lower() for name in extended if name.startswith(FRAGMENT)]

    declared: dict[str, Any] = {}
    for attributes in [known.get(name, {}).get("attributes", {}) for name in extended] + [
        documentation.get("attributes", {})
    ]:
        for name, attribute in attributes.items():
            declared.setdefault(name, {}).update(attribute)
    faults += [
        f"{where}: attribute {name} has no support" for name in GUARANTEES if "support" not in declared.get(name, {})
    ]
    for name in extended:
        group = GROUPS.get(name.partition(".")[0])
        if group and path.stem not in groups.get(group, []):
            faults.append(f"{where}: takes the options of {name}, but is not in the action group {group}")
    return faults


def check_groups(root: pathlib.Path, groups: dict[str, list[str]]) -> list[str]:
    """Action groups name what is there."""
    there = {path.stem for folder in ("modules", "action") for path in (root / "plugins" / folder).glob("[a-z]*.*")}
    return [
        f"meta/runtime.yml: action group {group} names {name}, which is neither a module nor an action"
        for group, names in groups.items()
        for name in names
        if name not in there
    ]


def without_reason(call: ast.Call) -> bool:
    """Whether a call skips a test, or expects it to fail, without saying why."""
    name = ast.unparse(call.func)
    said = {keyword.arg: keyword.value for keyword in call.keywords}
    reason = said.get("reason")
    if reason is None and name in REASON_FIRST and call.args:
        reason = call.args[0]
    empty = reason is None or (isinstance(reason, ast.Constant) and not reason.value)
    return empty and (name in MARKS or name in CALLS)


def check_skips(root: pathlib.Path) -> list[str]:
    """Skips in Python tests and ignored sanity tests: each with its reason."""
    faults = []
    for path in sorted((root / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            bare = any(ast.unparse(item) in MARKS for item in getattr(node, "decorator_list", []))
            if bare or (isinstance(node, ast.Call) and without_reason(node)):
                faults.append(f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}: a skip without a reason")
    for path in sorted((root / "tests/sanity").glob("ignore*.txt")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#") and "#" not in line:
                faults.append(f"{path.relative_to(root)}:{number}: an ignored sanity test without a reason (# why)")
    return faults


def check(root: pathlib.Path) -> list[str]:
    """Every fault of the plugins and tests below a collection's root, a sentence each."""
    runtime = yaml.safe_load((root / "meta/runtime.yml").read_text())
    groups = runtime.get("action_groups", {})
    known = fragments(root)
    faults = []
    for path in sorted((root / "plugins/modules").glob("[a-z]*.py")):
        faults += check_module(path, known, groups)
    return faults + check_groups(root, groups) + check_skips(root)


def main(arguments: list[str]) -> int:
    root = pathlib.Path(arguments[0] if arguments else ".")
    faults = check(root)
    modules = len(list((root / "plugins/modules").glob("[a-z]*.py")))
    print("\n".join(faults) or f"{modules} modules: documented, grouped, guarantees declared; no skip without a reason")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
