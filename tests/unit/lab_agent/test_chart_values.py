# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The stand-in charts read only values that the real charts know, with the real defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
CHARTS = REPOSITORY / "lab" / "charts"
REAL = REPOSITORY.parent / "shared" / "chart-values"
# Charts that bring definitions and know no values
VALUELESS = {"mariadb-operator-crds"}
STAND_INS = sorted({path.parent.name for path in CHARTS.glob("*/Chart.yaml")} - VALUELESS)

needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real charts' values are not here: {REAL}")

# a name that stands for values, then what is read of it
REFERENCE = re.compile(r"(\$?[.]Values|\$\w+|[.][a-z]\w*)((?:[.][A-Za-z]\w*)+)")
ASSIGNED = re.compile(r"(\$\w+)\s*:=\s*(\$?[.]Values|\$\w+)((?:[.][A-Za-z]\w*)*)\s*(?:}}|-}})")
PASSED = re.compile(r'"(\w+)"\s+(\$?[.]Values|\$\w+)((?:[.][A-Za-z]\w*)*)')


def aliases(text: str) -> dict[str, set[str]]:
    """Which paths of the values the templates' own names stand for: `$x := .Values.a`, `(dict "x" .Values.a)`."""
    known: dict[str, set[str]] = {".Values": {""}, "$.Values": {""}}
    for _ in range(3):
        for name, base, path in ASSIGNED.findall(text):
            known.setdefault(name, set()).update(f"{prefix}{path}" for prefix in known.get(base, ()))
        for name, base, path in PASSED.findall(text):
            for alias in (f".{name}", f"${name}"):
                known.setdefault(alias, set()).update(f"{prefix}{path}" for prefix in known.get(base, ()))
    return known


def used(text: str) -> set[str]:
    """Every path of the values that the templates read by name."""
    known = aliases(text)
    found: set[str] = set()
    for base, path in REFERENCE.findall(text):
        found.update(f"{prefix}{path}".removeprefix(".") for prefix in known.get(base, ()))
    return found


def templates(chart: str) -> str:
    return "\n".join(path.read_text() for path in sorted((CHARTS / chart / "templates").rglob("*")) if path.is_file())


def has(values: Any, schema: Any, root: Any, path: list[str]) -> bool:
    """Whether the real chart knows a path: in its values, in its schema, or below a value that is free to fill."""
    while isinstance(schema, dict) and "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if not path:
        return True
    first, rest = path[0], path[1:]
    inner = schema.get("properties", {}).get(first) if isinstance(schema, dict) else None
    if isinstance(values, dict) and first in values:
        return has(values[first], inner, root, rest)
    if inner is not None:
        return has(None, inner, root, rest)
    free = schema is None or not ("properties" in schema or schema.get("additionalProperties") is False)
    return values in ({}, [], None) and free


def leaves(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, values


def commented(text: str) -> set[str]:
    """Paths that the real file gives as a comment, `# path: ...`, below the key they would belong to."""
    found: set[str] = set()
    stack: list[tuple[int, str]] = []
    for line in text.splitlines():
        key = re.match(r"(\s*)(# ?)?([A-Za-z]\w*):(\s|$)", line)
        if key is None:
            continue
        indent = len(key.group(1))
        parents = [name for depth, name in stack if depth < indent]
        if key.group(2):
            found.add(".".join([*parents, key.group(3)]))
        else:
            stack = [*((depth, name) for depth, name in stack if depth < indent), (indent, key.group(3))]
    return found


def plain(value: Any) -> Any:
    """A text without its comments and empty lines."""
    if not isinstance(value, str):
        return value
    return [line.strip() for line in value.splitlines() if line.strip() and not line.strip().startswith("#")]


def real(chart: str) -> tuple[Any, Any]:
    schema = REAL / chart / "values.schema.json"
    values = yaml.safe_load((REAL / chart / "values.yaml").read_text())
    return values, json.loads(schema.read_text()) if schema.exists() else None


def root_of(schema: Any) -> Any:
    return schema if schema is None or "$ref" not in schema else schema["$defs"][schema["$ref"].rpartition("/")[2]]


@needs_real
@pytest.mark.parametrize("chart", STAND_INS)
def test_every_path_that_is_read_is_one_of_the_real_chart(chart: str) -> None:
    values, schema = real(chart)
    paths = used(templates(chart))
    assert len(paths) > 20
    examples = commented((REAL / chart / "values.yaml").read_text())
    unknown = [p for p in sorted(paths - examples) if not has(values, root_of(schema), schema, p.split("."))]
    assert not unknown, f"the real chart has no such values: {', '.join(unknown)}"


@needs_real
@pytest.mark.parametrize("chart", STAND_INS)
def test_defaults_are_the_real_ones(chart: str) -> None:
    values, _ = real(chart)
    wrong = []
    for path, default in leaves(yaml.safe_load((CHARTS / chart / "values.yaml").read_text())):
        there: Any = values
        for key in path:
            there = there.get(key, "absent") if isinstance(there, dict) else "absent"
        if plain(there) != plain(default):
            wrong.append(f"{'.'.join(path)}: {default!r} instead of {there!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("chart", STAND_INS)
def test_every_path_that_is_read_has_a_default_or_may_be_absent(chart: str) -> None:
    """A path without a default must at least have a parent with one, or Helm would fail on nil."""
    values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    for path in used(templates(chart)):
        there: Any = values
        for key in path.split(".")[:-1]:
            assert isinstance(there, dict) and key in there, f"{path}: {key} has no default"
            there = there[key]


@pytest.mark.parametrize("chart", sorted(VALUELESS))
def test_a_chart_without_values_reads_none(chart: str) -> None:
    assert yaml.safe_load((CHARTS / chart / "values.yaml").read_text()) == {}
    assert not used(templates(chart))


def test_the_checker_sees_aliases_and_unknown_paths() -> None:
    text = "{{ $s := .Values.server }}{{ $s.image.tag }} {{ $.Values.no }}"
    text += '{{ include "x" (dict "part" $s.service) }} {{ .part.port }}'
    assert used(text) == {"server", "server.image.tag", "server.service", "server.service.port", "no"}
    values = {"server": {"image": {"tag": 1}, "extra": {}}}
    assert has(values, None, None, ["server", "image", "tag"])
    assert has(values, None, None, ["server", "extra", "anything"])
    assert not has(values, None, None, ["server", "image", "registry"])
    assert not has(values, None, None, ["no"])
    assert has({"image": {}}, {"properties": {"image": {"properties": {"tag": {}}}}}, None, ["image", "tag"])
