# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""One object of a bundle: what would change, and changing it (private to this collection)."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import _diff
from . import _managed_fields as fields
from ._bundle_order import Item
from ._bundle_plan import HANDS, MANAGER, ONCE, SHARED, Plan, Rule
from ._bundle_refusal import Refused, conflict_refusal, conflicts_of
from ._errors import PlatformError
from ._kube_client import ApiError, KubeClient, UnknownKind

_UNDECLARED = re.compile(r"((?:\.|\[)\S+?): field not declared in schema|unknown field \"([^\"]+)\"")
_ATTEMPTS = 5
LATE = 25.0


def shared(obj: Mapping[str, Any]) -> bool:
    """What several services have belongs to none of their sets: each would take it from the others at every run."""
    return obj["kind"] == "Namespace" or (obj["metadata"].get("annotations") or {}).get(SHARED) == "true"


class Applier:
    """Plans and applies single objects; its methods are called from several threads."""

    def __init__(
        self,
        client: KubeClient,
        *,
        check: bool,
        left_to: Sequence[Rule] = (),
        set_once: Sequence[Rule] = (),
        take_over: Sequence[str] = HANDS,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.client = client
        self.check = check
        self.left_to = left_to
        self.set_once = set_once
        self.take_over = frozenset(take_over)
        self.labels = dict(labels or {})
        self.stop = threading.Event()

    def plan(self, item: Item, live: dict[str, Any] | None, *, known: bool) -> Plan:
        """Find out what applying would change, without changing anything.

        ``known`` says that ``live`` comes from a list; otherwise it is read only where the answer depends on it.
        """
        start = time.monotonic()
        plan = Plan(item, self._labelled(item.obj), {}, live)
        plan.config = plan.obj
        try:
            self._plan(plan, known)
        except UnknownKind as exc:
            self._unvalidated(plan, exc.why, exc)
        plan.seconds = time.monotonic() - start
        return plan

    def _labelled(self, obj: dict[str, Any]) -> dict[str, Any]:
        if not self.labels or shared(obj):
            return obj
        meta = {**obj["metadata"], "labels": {**(obj["metadata"].get("labels") or {}), **self.labels}}
        return {**obj, "metadata": meta}

    def _plan(self, plan: Plan, known: bool) -> None:
        item = plan.item
        rules = [rule for rule in (*self.left_to, *self.set_once) if rule.concerns(item)]
        if not known and (rules or not self.labels or shared(item.obj)):
            plan.live = self.client.get_or_none(self.client.path_of(plan.obj))
            known = True
        if rules or (plan.live is not None and fields.applied(plan.live, ONCE)):
            self._set_aside(plan)
        if plan.release:
            plan.result = "changed"
            return
        if plan.live is not None and not plan.special and fields.proves(plan.config, plan.live, MANAGER):
            return
        if self._dry_run(plan, known):
            self._judge(plan)

    def _set_aside(self, plan: Plan) -> None:
        """Take the fields out of our configuration that are not ours in this object as it lives."""
        live, item = plan.live, plan.item
        once = tuple(path for rule in self.set_once if rule.concerns(item) for path in rule.paths)
        once = tuple(path for path in once if fields.has(plan.obj, path))
        if live is None:
            plan.once = once
            return
        # A field that the object does not have yet (a new item of a list) is set with the rest, and then handed over.
        plan.adopt = tuple(path for path in once if not fields.has(live, path))
        for path in once:
            if path not in plan.adopt:
                plan.config = fields.without(plan.config, path)
        # Leaving out a field that we alone own deletes it: somebody must hold it first.
        plan.hand_over = tuple(path for path in once if fields.owners(live, path) == {MANAGER})
        plan.bring_back = self._out_of_bounds(item, live, once)
        # A creation that was killed half-way has left the once-manager with more than its fields.
        held = fields.applied(live, ONCE)
        leaves = [path for path in fields.leaves(held[1]) if not fields.is_key(path)] if held else []
        # It holds a list's item that is no longer wanted: what would be left of the item nobody could validate.
        plan.release = any(not fields.has(plan.obj, path) for path in leaves)
        plan.trim = not plan.release and not all(any(path[: len(mine)] == mine for mine in once) for path in leaves)
        for rule in self.left_to:
            for path in rule.paths if rule.concerns(item) else ():
                others = fields.owners(live, path) - {MANAGER}
                ours = MANAGER in fields.owners(live, path)
                theirs = not rule.manager or rule.manager in others
                if fields.has(live, path) and ((others and theirs) or (not others and not ours)):
                    plan.config = fields.without(plan.config, path)

    def _out_of_bounds(
        self, item: Item, live: Mapping[str, Any], once: Sequence[fields.Path]
    ) -> tuple[tuple[fields.Path, Any], ...]:
        found = []
        for rule in self.set_once:
            for path in rule.paths if rule.concerns(item) else ():
                value = fields.get(live, path)
                if path in once and rule.clamped(value) != value:
                    found.append((path, rule.clamped(value)))
        return tuple(found)

    def _dry_run(self, plan: Plan, known: bool) -> bool:
        """Ask the server what would come out; False if it could not be asked."""
        manager = MANAGER if plan.live is not None or not plan.once else ONCE
        try:
            status, plan.after = self._insist(
                plan, lambda: self._apply(plan, plan.config, manager, dry_run=True), patient=not self.check
            )
        except ApiError as exc:
            if self._cannot_validate(exc):
                if not known and not self.check:
                    plan.live = self.client.get_or_none(self.client.path_of(plan.obj))
                self._unvalidated(plan, exc.message, exc)
                return False
            raise self.refusal(plan.item, exc) from exc
        if status == 201:
            plan.live = None
            plan.result = "created"
        elif not known:
            plan.live = self.client.get_or_none(self.client.path_of(plan.obj))
        return True

    def _judge(self, plan: Plan) -> None:
        if plan.live is None:
            plan.result = "created"
            return
        before, after = fields.applied(plan.live, MANAGER), fields.applied(plan.after, MANAGER)
        ours = {} if after is None else after[1]
        if list(fields.leaves(ours)):
            same = before == after and fields.equal_in(plan.live, plan.after, ours)
        else:
            same = before is None or not list(fields.leaves(before[1]))
        plan.result = "changed" if plan.special or not same else "unchanged"

    def _cannot_validate(self, exc: ApiError) -> bool:
        """In check mode, what is missing may be what an earlier phase of the same run would make."""
        if "does not support dry run" in exc.message:
            return True
        return self.check and (exc.webhook_late or exc.status == 404)

    def _unvalidated(self, plan: Plan, why: str, exc: PlatformError) -> None:
        if self.check:
            plan.result, plan.why, plan.after = "unvalidated", why, {}
        elif isinstance(exc, UnknownKind):
            raise self.refusal(plan.item, exc) from exc
        else:
            # A webhook with side effects refuses the dry run only: the real request will tell.
            plan.result = "changed" if plan.live is not None else "created"

    def _apply(
        self, plan: Plan, config: dict[str, Any], manager: str, *, dry_run: bool = False
    ) -> tuple[int, dict[str, Any]]:
        """Apply, settling conflicts by the rules: fields left to others, hands taken back, the rest refused."""
        for attempt in range(_ATTEMPTS):
            try:
                return self.client.apply_status(config, field_manager=manager, force=plan.force, dry_run=dry_run)
            except ApiError as exc:
                conflicts = conflicts_of(exc)
                if not exc.conflict or (not conflicts and attempt + 1 == _ATTEMPTS):
                    raise
                if not conflicts:
                    # Changed in between (through Rancher this is an HTTP 500): the server merges anew.
                    time.sleep(0.1 * 2**attempt)
                    continue
                config = self._settle(plan, config, conflicts, exc)
                if config is not plan.config and manager == MANAGER:
                    plan.config = config
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _settle(
        self, plan: Plan, config: dict[str, Any], conflicts: list[tuple[str, str]], exc: ApiError
    ) -> dict[str, Any]:
        left = {
            fields.written(path): (path, rule.manager)
            for rule in self.left_to
            if rule.concerns(plan.item)
            for path in rule.paths
        }
        refused = []
        for manager, text in conflicts:
            hit = next((key for key in left if text == key or text.startswith((f"{key}.", f"{key}["))), None)
            if hit is not None and left[hit][1] in ("", manager):
                config = fields.without(config, left[hit][0])
            elif manager in self.take_over or manager in (MANAGER, ONCE):
                plan.force = True
            else:
                refused.append((manager, text))
        if refused:
            raise conflict_refusal(plan.item, refused) from exc
        return config

    def _insist(self, plan: Plan, call: Callable[[], Any], *, patient: bool) -> Any:
        """Repeat while an admission webhook does not answer yet, or a new kind is not served everywhere yet."""
        deadline = time.monotonic() + LATE
        while True:
            try:
                return call()
            except ApiError as exc:
                late = exc.webhook_late or (exc.status == 404 and not exc.body.get("details", {}).get("kind"))
                if not (late and patient) or self.stop.is_set():
                    raise
                if time.monotonic() > deadline:
                    error = self.refusal(plan.item, exc)
                    error.data["again"] = True
                    raise error from exc
                time.sleep(1.0)

    def carry_out(self, plan: Plan) -> Plan:
        """Change the server as planned."""
        if self.stop.is_set() or not plan.pending:
            return plan
        start = time.monotonic()
        try:
            status, live = self._insist(plan, lambda: self._write(plan), patient=True)
        except ApiError as exc:
            raise self.refusal(plan.item, exc) from exc
        if status == 201:
            plan.result, plan.live = "created", None
        elif plan.live is not None and not plan.special:
            same = live["metadata"]["resourceVersion"] == plan.live["metadata"]["resourceVersion"]
            plan.result = "unchanged" if same else "changed"
        plan.after = live
        plan.seconds += time.monotonic() - start
        return plan

    def _write(self, plan: Plan) -> tuple[int, dict[str, Any]]:
        if plan.live is None and plan.once:
            return self._write_once(plan)
        if plan.live is not None and plan.release:
            self._let_go(plan, plan.live)
        if plan.live is not None and (plan.hand_over or plan.bring_back):
            self._hold_once(plan, plan.live, plan.hand_over)
        status, live = self._apply(plan, plan.config, MANAGER)
        if plan.adopt:
            self._hold_once(plan, live, plan.adopt)
            for path in plan.adopt:
                plan.config = fields.without(plan.config, path)
            status, live = self._apply(plan, plan.config, MANAGER)
        if plan.trim:
            live = self.client.apply(fields.only(plan.obj, live, self._kept_once(plan, live)), field_manager=ONCE)
        return status, live

    def _let_go(self, plan: Plan, live: Mapping[str, Any]) -> None:
        """Take from the once-manager what is no longer wanted.

        An item of a list must go whole, because nobody could validate a half: so we hold all of it for a moment.
        """
        held = fields.applied(live, ONCE)
        config = plan.config
        for path in fields.leaves(held[1]) if held else ():
            last = max((index for index, step in enumerate(path) if not isinstance(step, str)), default=-1)
            if last >= 0 and not fields.has(plan.obj, path[: last + 1]):
                config = fields.copied(config, live, path[: last + 1])
        if config is not plan.config:
            self.client.apply(config, field_manager=MANAGER, force=True)
        self.client.apply(fields.only(plan.obj, live, self._kept_once(plan, live)), field_manager=ONCE)

    def _hold_once(self, plan: Plan, live: dict[str, Any], more: Sequence[fields.Path]) -> None:
        """Let the once-manager hold fields with the values they have, or with the nearest that they may have.

        Whoever changes an object between our reading and our writing makes it a conflict: then his values count.
        """
        for attempt in range(_ATTEMPTS):
            held = fields.applied(live, ONCE)
            back = self._out_of_bounds(plan.item, live, [path for path, _ in plan.bring_back])
            paths = [*(fields.leaves(held[1]) if held else ()), *more, *(path for path, _ in back)]
            config = fields.only(plan.obj, live, paths)
            for path, value in back:
                fields.put(config, path, value)
            config["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
            try:
                self.client.apply(config, field_manager=ONCE, force=True)
                return
            except ApiError as exc:
                if not exc.conflict or attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(0.1 * 2**attempt)
                live = self.client.request("GET", self.client.path_of(plan.obj))

    def _kept_once(self, plan: Plan, live: Mapping[str, Any]) -> list[fields.Path]:
        held = fields.applied(live, ONCE)
        paths = [path for rule in self.set_once if rule.concerns(plan.item) for path in rule.paths]
        paths = [path for path in paths if fields.has(plan.obj, path)]
        return [path for path in paths if held is not None and fields.owns(held[1], path)]

    def _write_once(self, plan: Plan) -> tuple[int, dict[str, Any]]:
        """Create whole under the once-manager, take over all but the set-once fields, and let it keep just those.

        Killed in between, the object is complete and every field has an owner; what the once-manager holds too much
        does no harm, because we own it as well.
        """
        status, live = self._apply(plan, plan.obj, ONCE)
        for path in plan.once:
            plan.config = fields.without(plan.config, path)
        self._apply(plan, plan.config, MANAGER)
        live = self.client.apply(fields.only(plan.obj, live, list(plan.once)), field_manager=ONCE)
        return status, live

    def refusal(self, item: Item, exc: ApiError | UnknownKind) -> Refused:
        """The sentence that names file, object and field."""
        message = _diff.scrub(exc.message if isinstance(exc, ApiError) else exc.why, item.obj)
        named = [match[0] or match[1] for match in _UNDECLARED.findall(message)]
        if isinstance(exc, ApiError):
            named += [str(cause["field"]) for cause in exc.causes if cause.get("field")]
        found = list(dict.fromkeys(named))
        mend = exc.mend
        if found:
            mend = f"Correct {', '.join(found)} in {item.source}."
        elif isinstance(exc, ApiError) and exc.webhook_late:
            mend = "The admission webhook does not answer: check the pods behind it, then run again."
        return Refused(
            f"Applying {item.title} of {item.source}",
            message,
            mend,
            refused={"source": item.source, "object": item.title, "fields": found},
        )
