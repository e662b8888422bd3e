# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The checker of plugins, on a small collection that is right and on the same one with one thing wrong."""

from __future__ import annotations

import pathlib

import pytest

from tests.tools import check_plugins

MODULE = '''
DOCUMENTATION = r"""
module: lease
extends_documentation_fragment:
  - harvester_rke2.platform.kubernetes
  - harvester_rke2.platform.attributes
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
  idempotent: {support: full}
"""
EXAMPLES = "- lease: {}"
RETURN = "changed: {}"
'''
GOOD = {
    "meta/runtime.yml": "action_groups: {kubernetes: [lease]}",
    "plugins/doc_fragments/kubernetes.py": "class ModuleDocFragment:\n    DOCUMENTATION = 'options: {}'\n",
    "plugins/doc_fragments/attributes.py": """
class ModuleDocFragment:
    DOCUMENTATION = "attributes: {check_mode: {description: a}, diff_mode: {description: b}}"
    INFO_MODULE = "attributes: {check_mode: {support: full}, diff_mode: {support: N/A}, idempotent: {support: full}}"
""",
    "plugins/modules/lease.py": MODULE,
    "tests/unit/test_lease.py": """
import pytest
@pytest.mark.skipif(True, reason="no kernel module here")
def test_one(): pytest.skip("not on Mondays")
""",
    "tests/sanity/ignore-2.21.txt": "# Shebangs\nplugins/x.py shebang # a template\n",
}


def collection(root: pathlib.Path, **changes: str | None) -> pathlib.Path:
    for name, text in (GOOD | changes).items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def test_nothing_to_say_about_what_is_right(tmp_path: pathlib.Path) -> None:
    assert check_plugins.check(collection(tmp_path)) == []


def test_guarantees_may_come_from_a_fragment(tmp_path: pathlib.Path) -> None:
    module = MODULE.split("attributes:\n  check_mode")[0].replace(
        "platform.attributes", "platform.attributes.info_module"
    )
    module += '"""\nEXAMPLES = "- lease: {}"\nRETURN = "changed: {}"\n'
    assert check_plugins.check(collection(tmp_path, **{"plugins/modules/lease.py": module})) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("plugins/modules/lease.py", "RETURN", "_RETURN", "module lease: RETURN is missing"),
        ("plugins/modules/lease.py", "EXAMPLES", "_EXAMPLES", "module lease: EXAMPLES is missing"),
        (
            "plugins/modules/lease.py",
            "idempotent",
            "idempotence",
            "module lease: attribute idempotent has no support",
        ),
        ("plugins/modules/lease.py", "RETURN", "\n" * 350 + "RETURN", "lines, more than 350"),
        (
            "meta/runtime.yml",
            "kubernetes",
            "vault",
            "takes the options of kubernetes, but is not in the action group",
        ),
        ("meta/runtime.yml", "lease", "lease, leash", "action group kubernetes names leash, which is neither"),
        (
            "tests/unit/test_lease.py",
            ', reason="no kernel module here"',
            "",
            "test_lease.py:3: a skip without",
        ),
        ("tests/unit/test_lease.py", '"not on Mondays"', "", "test_lease.py:4: a skip without a reason"),
        ("tests/unit/test_lease.py", '"not on Mondays"', '""', "test_lease.py:4: a skip without a reason"),
        ("tests/unit/test_lease.py", 'skipif(True, reason="no kernel module here")', "skip", "a skip without a reason"),
        (
            "tests/sanity/ignore-2.21.txt",
            " # a template",
            "",
            "ignore-2.21.txt:2: an ignored sanity test without",
        ),
    ],
)
def test_something_wrong(tmp_path: pathlib.Path, name: str, old: str, new: str, fault: str) -> None:
    assert old in GOOD[name]
    faults = check_plugins.check(collection(tmp_path, **{name: GOOD[name].replace(old, new)}))
    assert any(fault in one for one in faults), faults


def test_the_program_says_every_fault_and_fails(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_plugins.main([str(collection(tmp_path / "good"))]) == 0
    assert "1 modules: documented" in capsys.readouterr().out
    assert check_plugins.main([str(collection(tmp_path / "bad", **{"meta/runtime.yml": "action_groups: {}"}))]) == 1
    assert "is not in the action group" in capsys.readouterr().out
