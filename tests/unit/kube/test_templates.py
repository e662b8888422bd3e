# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Templates: what they render to, and which line their mistakes are told at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils._bundle_templates import Renderer, files

CANARY = "secret-canary-99"


def render(path: Path, text: str, **variables: Any) -> list[Any]:
    path.write_text(text)
    loader = DataLoader()
    variables = {"password": CANARY, **variables}
    return Renderer(Templar(loader=loader, variables=variables), loader, variables).objects(str(path))


@pytest.fixture
def template(tmp_path: Path) -> Path:
    return tmp_path / "thing.yml.j2"


def test_documents_lists_and_empty_files(template: Path) -> None:
    assert render(template, "{% if false %}\na: 1\n{% endif %}\n") == []
    assert render(template, "# only a comment\n---\n") == []
    text = "a: {{ x }}\n---\n---\n- b: 1\n- c: 1\n---\nkind: List\nitems: [{d: 1}]\n"
    assert render(template, text, x=5) == [{"a": 5}, {"b": 1}, {"c": 1}, {"d": 1}]


def test_blocks_leave_no_blank_space(template: Path) -> None:
    text = "data:\n  {% for i in [1, 2] %}\n  k{{ i }}: v\n  {% endfor %}\n"
    assert render(template, text) == [{"data": {"k1": "v", "k2": "v"}}]


def test_a_value_that_looks_like_a_template_is_data(template: Path) -> None:
    assert render(template, "a: {{ x | to_json }}\n", x="{{ password }}") == [{"a": "{{ password }}"}]


def test_includes_are_found_beside_the_template(template: Path) -> None:
    (template.parent / "part.j2").write_text("b: 2\n")
    assert render(template, "a: 1\n{% include 'part.j2' %}\n") == [{"a": 1, "b": 2}]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: {{ nothing_here }}\nc: 3\n", 2),
        ("a: 1\n{% for i in [1, 2] %}\nb{{ i }}: {{ i }}\nc{{ i }}: {{ nothing_here.x }}\n{% endfor %}\nd: 1\n", 4),
        ("{% if true %}\na: 1\n{% else %}\nb: 2\n{% endif %}\nc: {{ [] | first | mandatory }}\n", 6),
        ("a: 1\nb: {{ x | no_such_filter }}\n", 2),
        ("a: 1\n{% set x = 1 %}\n{% if %}\nb: 1\n", 3),
        ("a: 1\nb: 2\nc: {{ 1 +\n", 3),
        ("a: 1\nb: {{ 1 / 0 }}\n", 2),
    ],
)
def test_a_mistake_in_the_template_names_file_and_line(template: Path, text: str, line: int) -> None:
    with pytest.raises(AnsibleActionFail, match=rf"thing\.yml\.j2, line {line}:"):
        render(template, text, x=1)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: c: d\n", 2, "mapping values are not allowed"),
        # The loop makes two lines of one: the template's line is told, not the output's.
        ("{% for i in [1, 2, 3] %}\nk{{ i }}: v\n{% endfor %}\nb: [1\nc: 2\n", 5, "flow sequence"),
        ("a: 1\n{% if true %}\n  b: 1\n{% endif %}\n", 3, "not allowed"),
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' is twice"),
        ("a: {{ password }}: x\n", 1, "mapping values"),
    ],
)
def test_what_is_no_yaml_names_the_templates_line(template: Path, text: str, line: int, word: str) -> None:
    with pytest.raises(AnsibleActionFail, match=rf"thing\.yml\.j2, line {line}: .*{word}") as caught:
        render(template, text)
    assert CANARY not in str(caught.value)


def test_files_of_a_directory_are_sorted_and_others_left_out(tmp_path: Path) -> None:
    for name in ("b.yml.j2", "a.yml.j2", "notes.md", "c.yml"):
        (tmp_path / name).touch()
    assert [Path(name).name for name in files([str(tmp_path)])] == ["a.yml.j2", "b.yml.j2"]
    assert files([str(tmp_path / "c.yml")]) == [str(tmp_path / "c.yml")]
