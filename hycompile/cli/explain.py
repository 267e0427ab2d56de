"""``hycompile explain``: a pass's before and after on a model, as the same text that golden tests compare."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hycompile.cli.output import JsonFlag, console, print_json, working
from hycompile.errors import PassError

if TYPE_CHECKING:
    from hycompile.pipeline import Pass
    from hycompile.program import Program
    from hycompile.rewrite import RuleReport

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def explain(
    name: Annotated[str, typer.Argument(metavar="PASS", help="A pass, with options if any: quantise{bits=8}.")],
    model: Annotated[
        str, typer.Option(help="Registered model, .pt2 file or package.module:function.")
    ] = "efficientformer_l1",
    rule: Annotated[str | None, typer.Option(help="Only this rule of the pass.")] = None,
    context: Annotated[int, typer.Option(min=0, help="Unchanged lines shown around a change.")] = 3,
    json: JsonFlag = False,
) -> None:
    """Show what a pass does to a model.

    Hits, refusals with reasons, and the graph before and after as a diff.
    """
    from hycompile.compile import load_program
    from hycompile.pipeline import Pipeline

    *required, step = Pipeline.parse(_with_required(name)).passes
    with working() as say:
        say(f"capturing {model}")
        program = load_program(model)
        if required:
            program, _ = Pipeline(tuple(required))(program, prove=False)
        before = program.text()
        say(f"running {name}")
        program, rules = _run(step, program, rule)
    after = program.text()
    diff = list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", n=context, lineterm="")
    )
    if json:
        document = {"pass": name, "rule": rule, "model": model, "rules": rules}
        print_json({**document, "before": before, "after": after, "diff": "\n".join(diff)})
        return
    out = console()
    for entry in rules:
        out.print(f"{entry['rule']}: {entry['hits']} hits, {len(entry['refusals'])} refused")
        for refusal in entry["refusals"]:
            out.print(f"  refused at {refusal['where'] or refusal['node']}: {refusal['reason']}", markup=False)
    for line in diff:
        out.print(line, style=_STYLES.get(line[:1]), markup=False, soft_wrap=True)
    if not diff:
        out.print(f"{name} changes nothing in {model}")


def _with_required(name: str) -> str:
    """Pipeline text with everything ``name`` needs before it, in order."""
    from hycompile import registry

    order: list[str] = []

    def visit(step: str) -> None:
        for needed in registry.pass_class(step).requires:
            visit(needed)
        if step not in order:
            order.append(step)

    bare = name.partition("{")[0].strip()
    visit(bare)
    return ",".join([*order[:-1], name])


def _run(step: Pass, program: Program, rule: str | None) -> tuple[Program, list[dict[str, Any]]]:
    from hycompile.pipeline import Pipeline, RulePass
    from hycompile.rewrite import apply

    if rule is None:
        program, report = Pipeline((step,))(program, prove=False)
        return program, [_entry(found) for found in report.passes[0].rules]
    rules = {known.name: known for known in step.rules} if isinstance(step, RulePass) else {}
    if rule not in rules:
        raise PassError(f"rule {rule!r}", f"not a rule of pass {step.name}", f"known: {', '.join(rules) or 'none'}")
    program = program.copy()
    return program, [_entry(apply(rules[rule], program))]


def _entry(report: RuleReport) -> dict[str, Any]:
    refusals = [{"reason": found.reason, "node": found.node, "where": found.where} for found in report.refusals]
    return {
        "rule": report.rule,
        "hits": report.hits,
        "refusals": refusals,
        "seconds": report.seconds,
        "facts": report.facts,
    }
