"""Rewrite rules and the engine that applies them: a pattern, preconditions with reasons, the formula as replacement."""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hycompile.builder import Builder, Value, building
from hycompile.errors import PassError
from hycompile.pattern import Call
from hycompile.program import Program, source_line
from hycompile.reports import Refusal, RuleReport
from hycompile.schema import is_call, overload


class Refused(Exception):  # noqa: N818 - not an error: a precondition that does not hold
    """Raised by :func:`require`; the engine records it and leaves the graph as it is."""


def require(condition: object, reason: str, *values: object) -> None:
    """A precondition of a rewrite: if it does not hold, the match is refused with ``reason.format(*values)``."""
    if not condition:
        raise Refused(reason.format(*values))


@dataclass(frozen=True)
class Rule:
    """A rewrite rule; made by :func:`rule`.

    Args:
        pattern: what to look for; its root is what the result replaces.
        body: builds the replacement from the captures.
        source: where the identity is published or derived.
    """

    pattern: Call
    body: Callable[..., Value]
    source: str

    @property
    def name(self) -> str:
        return getattr(self.body, "__name__", "rule")

    @property
    def identity(self) -> str:
        """The first line of the docstring: the formula."""
        return (inspect.getdoc(self.body) or "").partition("\n")[0]

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.body) or ""


def rule(pattern: Call, *, source: str) -> Callable[[Callable[..., Value]], Rule]:
    """Make a function a rewrite rule: its arguments are the names the pattern captures, its result the replacement.

    Raises:
        PassError: the function has no docstring (its first line is the identity), or asks for a name not captured.
    """

    def decorate(body: Callable[..., Value]) -> Rule:
        name = getattr(body, "__name__", "rule")
        unknown = set(inspect.signature(body).parameters) - pattern.names()
        if unknown:
            raise PassError(
                f"rule {name}",
                f"asks for {sorted(unknown)}, which its pattern does not capture",
                f"it captures {sorted(pattern.names())}",
            )
        if not inspect.getdoc(body):
            raise PassError(
                f"rule {name}", "states no identity", "write the formula as the first line of its docstring"
            )
        return Rule(pattern, body, source)

    return decorate


def apply(rule: Rule, program: Program) -> RuleReport:
    """Apply one rule to every method of a Program, in place, until it matches nowhere.

    Raises:
        PassError: the rule's body failed; the graph up to there is intact.
    """
    report, start = RuleReport(rule.name), time.perf_counter()
    for method in program.methods.values():
        _Engine(rule, method.graph, report).run()
    report.seconds = time.perf_counter() - start
    return report


class _Engine:
    """A worklist over one graph: only nodes near a rewrite are looked at again."""

    def __init__(self, rule: Rule, module: GraphModule, report: RuleReport) -> None:
        self.rule, self.module, self.report = rule, module, report
        targets = {overload(name) for name in rule.pattern.operators}
        self.queue = deque(node for node in module.graph.nodes if node.op == "call_function" and node.target in targets)
        self.queued, self.targets = set(self.queue), targets
        self.refused: dict[Node, Refusal] = {}
        self.limit = 100 + 10 * len(module.graph.nodes)

    def run(self) -> None:
        """Try nodes until none matches; a refused one again once others were rewritten, for its reason may be gone.

        Raises:
            PassError: a rewrite failed, or the rewrites never end.
        """
        hits = 0
        while self.queue:
            found = self._drain()
            hits += found
            if hits > self.limit:
                raise PassError(
                    f"rule {self.rule.name}",
                    f"does not end: {hits} rewrites, and it matches again",
                    "let the replacement no longer match the pattern",
                )
            if found:
                self._push((node for node in list(self.refused) if not node._erased), levels=0)
        self.report.refusals += [refusal for node, refusal in self.refused.items() if not node._erased]
        if hits:
            self.report.hits += hits
            self.module.graph.lint()
            self.module.recompile()

    def _drain(self) -> int:
        hits = 0
        while self.queue and hits <= self.limit:
            node = self.queue.popleft()
            self.queued.discard(node)
            hits += not node._erased and self._try(node)
        return hits

    def _try(self, node: Node) -> bool:
        self.refused.pop(node, None)
        captures = self.rule.pattern.match(self.module, node, {})
        if captures is None:
            return False
        builder = Builder(self.module, node, self.rule.name)
        wanted = {name: captures[name] for name in inspect.signature(self.rule.body).parameters}
        try:
            with building(builder):
                result = self.rule.body(**wanted)
        except Refused as refusal:
            self._discard(builder)
            self.refused[node] = Refusal(str(refusal), node.name, source_line(node))
            return False
        except Exception as error:
            self._discard(builder)
            raise PassError(
                f"rule {self.rule.name} at {node.name} ({source_line(node)})",
                f"its body failed ({type(error).__name__}: {error})",
                "correct the rule, or add the require() it lacks",
            ) from error
        if not isinstance(result, Value):  # pyright: ignore[reportUnnecessaryIsInstance] - third parties may not check types
            raise PassError(
                f"rule {self.rule.name}",
                f"returned {type(result).__name__}",
                "return the Value that replaces the match",
            )
        self._replace(node, result.node, builder.created)
        return True

    def _discard(self, builder: Builder) -> None:
        for created in reversed(builder.created):
            if not created.users:
                self.module.graph.erase_node(created)
                if created.op == "get_attr":
                    delattr(self.module, str(created.target))

    def _replace(self, old: Node, new: Node, created: list[Node]) -> None:
        before, after = old.meta["val"], new.meta["val"]
        if _differ(before.shape, after.shape) or before.dtype != after.dtype:
            raise PassError(
                f"rule {self.rule.name} at {old.name}",
                f"replaces {before.dtype}{list(before.shape)} by {after.dtype}{list(after.shape)}",
                "a rewrite keeps shape and dtype",
            )
        old.replace_all_uses_with(new, delete_user_cb=lambda user: user not in created)
        near = [new, *new.all_input_nodes, *erase_dead(self.module, old)]
        self._push(near, levels=self.rule.pattern.depth())

    def _push(self, nodes: Iterable[Node], levels: int) -> None:
        """Queue every candidate among ``nodes`` and their users, some levels down: as far as a pattern looks up."""
        level = list(nodes)
        for _ in range(levels + 1):
            for node in level:
                if node.op == "call_function" and node.target in self.targets and node not in self.queued:
                    self.queued.add(node)
                    self.queue.append(node)
            level = list(dict.fromkeys(user for node in level for user in node.users))


def _differ(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Whether two shapes are known to differ; sizes that depend on the input may be equal without being known to."""
    if len(before) != len(after):
        return True
    return any(statically_known_true(one != other) for one, other in zip(before, after, strict=True))


def erase_dead(module: GraphModule, node: Node) -> list[Node]:
    """Erase ``node`` if unused, and whatever only it used; returns the surviving inputs, whose users are fewer now."""
    pending, survivors = [node], dict[Node, Any]()
    while pending:
        candidate = pending.pop()
        removable = candidate.op in ("call_function", "get_attr") and not is_call(candidate, "aten.copy_")
        if candidate._erased:
            continue
        if candidate.users or not removable:
            survivors[candidate] = None
            continue
        inputs = candidate.all_input_nodes
        module.graph.erase_node(candidate)
        pending += inputs
    return [survivor for survivor in survivors if not survivor._erased]
