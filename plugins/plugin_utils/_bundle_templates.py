# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""From template files to objects, with errors that name file and line (private to this collection)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

SUFFIX = ".yml.j2"
_OVERRIDES = {"trim_blocks": True, "lstrip_blocks": True}
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MARK = re.compile("\x01([0-9]+)\x02")
_CLOSED_BY_END = frozenset({"if", "for", "macro", "call", "filter", "block", "with", "set", "raw", "autoescape"})
Render = Callable[[str], str]


class _Loader(_Base):
    """Safe YAML that refuses a key that is there twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            name = f"{key.tag}:{key.value}" if isinstance(key.value, str) else ""
            if name and name in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key.value}' is twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def files(paths: Sequence[str]) -> list[str]:
    """The template files of directories and files, in order."""
    result = []
    for path in paths:
        if os.path.isdir(path):
            result += [os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(SUFFIX)]
        else:
            result.append(path)
    return result


def shown(path: str) -> str:
    """The path as a reader would type it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


class Renderer:
    """Renders files with the variables of a task."""

    def __init__(self, templar: Templar, loader: DataLoader, variables: Mapping[str, Any]) -> None:
        self._templar = templar
        self._loader = loader
        self._variables = variables

    def objects(self, path: str) -> list[Any]:
        """The objects of one file; none if it turns out empty."""
        source, render = self._prepare(path)
        return list(_parse(path, source, self._rendered(path, source, render), render))

    def text(self, path: str) -> str:
        """The text of one file."""
        source, render = self._prepare(path)
        return self._rendered(path, source, render)

    def _prepare(self, path: str) -> tuple[str, Render]:
        source = str(self._loader.get_text_file_contents(path))
        # Includes are looked for beside the template, then where the role has its templates.
        search = [os.path.dirname(path), *(self._variables.get("ansible_search_path") or [])]
        templar = self._templar.copy_with_new_env(searchpath=search, available_variables=self._variables)

        def render(text: str) -> str:
            answer = templar.template(trust_as_template(text), escape_backslashes=False, overrides=_OVERRIDES)
            return "" if answer is None else str(answer)

        return source, render

    @staticmethod
    def _rendered(path: str, source: str, render: Render) -> str:
        try:
            return render(source)
        except AnsibleError as exc:
            line = _syntax_line(source) or failing_line(source, render)
            raise AnsibleActionFail(f"Rendering {shown(path)}, line {line}: {_reason(exc)}") from exc


def _reason(exc: AnsibleError) -> str:
    text = str(getattr(exc, "original_message", "") or exc)
    return " ".join(text.split())


def _parse(path: str, source: str, text: str, render: Render) -> Iterator[Any]:
    try:
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = template_line(source, mark.line if mark else 0, render)
        why = " ".join(part for part in (exc.context, exc.problem) if part)
        # Not the line itself: it may hold what a variable says.
        raise AnsibleActionFail(f"Reading {shown(path)}, line {line}: it does not render to YAML: {why}.") from None
    except yaml.YAMLError as exc:
        raise AnsibleActionFail(f"Reading {shown(path)}: it does not render to YAML: {exc}.") from None
    for document in documents:
        for obj in document if isinstance(document, list) else [document]:
            if isinstance(obj, dict) and obj.get("kind") == "List" and isinstance(obj.get("items"), list):
                yield from obj["items"]
            elif obj is not None:
                yield obj


def _lines(text: str) -> list[str]:
    """Lines with their ends; only a newline ends one, for YAML and Jinja as for an editor."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _tokens(source: str) -> list[tuple[int, str, str]]:
    # Without trimming, so that the tokens together are the source.
    return list(jinja2.Environment(keep_trailing_newline=True).lex(source))


def _syntax_line(source: str) -> int | None:
    try:
        _tokens(source)
    except jinja2.TemplateSyntaxError as exc:
        return exc.lineno
    return None


def failing_line(source: str, render: Render) -> int:
    """The first line with which the template fails, found by halving; open blocks are closed behind each part."""
    lines = _lines(source)
    low, high = 1, max(1, len(lines))
    while low < high:
        middle = (low + high) // 2
        if _fails("".join(lines[:middle]), render):
            high = middle
        else:
            low = middle + 1
    return low


def _fails(part: str, render: Render) -> bool:
    try:
        render(part + _closers(part))
    except AnsibleError:
        # A tag that was cut in two fails as well; it ends no earlier than the line that is looked for.
        return _syntax_line(part) is None
    return False


def _closers(part: str) -> str:
    stack: list[str] = []
    tag: list[str] = []
    try:
        tokens = _tokens(part)
    except jinja2.TemplateSyntaxError:
        return ""
    for _, kind, value in tokens:
        if kind == "block_begin":
            tag = []
        elif kind == "block_end":
            name = tag[0] if tag else ""
            if name.startswith("end") and stack:
                stack.pop()
            elif name in _CLOSED_BY_END and not (name == "set" and "=" in tag):
                stack.append(name)
        elif kind != "whitespace":
            tag.append(value)
    return "".join(f"{{% end{name} %}}" for name in reversed(stack))


def template_line(source: str, rendered_line: int, render: Render) -> int:
    """The template's line behind a line of its output, found by rendering again with a mark at each line's start."""
    marked = []
    at_start = True
    try:
        for line, kind, value in _tokens(source):
            if kind != "data":
                at_start = at_start and kind == "whitespace"
                marked.append(value)
                continue
            for offset, part in enumerate(_lines(value)):
                marked.append((f"\x01{line + offset}\x02" if at_start else "") + part)
                at_start = part.endswith("\n")
        output = _lines(render("".join(marked)))
    except (AnsibleError, jinja2.TemplateError):
        return rendered_line + 1
    last = 1
    for number, text in enumerate(output[: rendered_line + 1]):
        found = _MARK.findall(text)
        if found:
            last = int(found[0])
        if number == rendered_line:
            break
    return last
