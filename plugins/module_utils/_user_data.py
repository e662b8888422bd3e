# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Cloud-init's user data put together from fragments, always to the same bytes (private to this collection).

One changed byte replaces every node of a pool: keys are sorted, nothing depends on time, order of files or library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ._errors import PlatformError
from ._yaml import yaml

HEADER = "#cloud-config\n"
# Kept in a Secret beside other things, and passed to KubeVirt as one.
LONGEST = 256 * 1024


def merge(fragments: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Lists one after the other, mappings into each other; what two fragments say differently is refused."""
    result: dict[str, Any] = {}
    for source, fragment in fragments:
        if fragment is None:
            continue
        if not isinstance(fragment, Mapping):
            raise PlatformError(f"Reading the user data of {source}", "it is no mapping of cloud-init's keys")
        _merge(result, fragment, source, "")
    return result


def _merge(into: dict[str, Any], fragment: Mapping[str, Any], source: str, path: str) -> None:
    for key, value in fragment.items():
        where = f"{path}.{key}" if path else str(key)
        have = into.get(key)
        if have is None:
            into[key] = _plain(value)
        elif isinstance(have, list) and isinstance(value, list):
            into[key] = [*have, *(_plain(item) for item in value if item not in have)]
        elif isinstance(have, dict) and isinstance(value, Mapping):
            _merge(have, value, source, where)
        elif have != value:
            raise PlatformError(
                f"Reading the user data of {source}", f"{where} has been set to something else before", "Set it once."
            )


def _plain(value: Any) -> Any:
    """Without the subclasses by which Ansible marks where a text comes from."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return str.__str__(value)
    return value


class _Dumper(yaml.SafeDumper if yaml else object):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, value: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


def dump(document: Mapping[str, Any]) -> str:
    """The text that cloud-init reads."""
    _Dumper.add_representer(str, _text)
    text = HEADER + str(yaml.dump(dict(document), Dumper=_Dumper, sort_keys=True, width=10_000, allow_unicode=False))
    if len(text) > LONGEST:
        raise PlatformError(
            "Putting the user data together", f"it has {len(text)} bytes, more than {LONGEST}", "Fetch big files."
        )
    return text
