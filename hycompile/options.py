"""Options of a pass as text, ``bits=8,scheme="a,b"``, and back."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING, Any

from hycompile.errors import PassError

if TYPE_CHECKING:
    from hycompile.pipeline import Pass

QUOTED = r'"(?:[^"\\]|\\.)*"'
_PART = re.compile(rf'(?:{QUOTED}|[^",])+')
# A string that stands for itself; any other is quoted as in JSON.
_PLAIN = re.compile(r"[A-Za-z_][\w./:+-]*")
_TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}


def options_text(step: Pass) -> str:
    """The options of ``step`` that differ from their defaults."""
    fields = dataclasses.fields(step)
    changed = [field for field in fields if getattr(step, field.name) != field.default]
    return ",".join(f"{field.name}={_value_text(getattr(step, field.name))}" for field in changed)


def make_pass(kind: type[Pass], text: str) -> Pass:
    """A pass with the options that stand in ``text``.

    Raises:
        PassError: an unknown option, one given twice or missing, a value of the wrong type or one the pass rejects.
    """
    known = {field.name: field for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for part in (part.strip() for part in _PART.findall(text)):
        name, equals, value = (item.strip() for item in part.partition("="))
        seen = f"pass {kind.name!r}, option {part!r}"
        if not equals or name not in known:
            raise PassError(seen, "not an option of this pass", f"it takes: {', '.join(known) or 'none'}")
        if name in values:
            raise PassError(seen, "given twice", "give it once")
        values[name] = _value(seen, known[name], value)
    missing = [name for name, field in known.items() if field.default is dataclasses.MISSING and name not in values]
    if missing:
        raise PassError(
            f"pass {kind.name!r}", f"needs a value for {', '.join(missing)}", f"write {kind.name}{{{missing[0]}=...}}"
        )
    try:
        return kind(**values)
    except ValueError as error:
        raise PassError(f"pass {kind.name!r} with {text}", str(error), "choose another value") from error


def _value(seen: str, field: dataclasses.Field[Any], text: str) -> Any:
    wanted = _TYPES.get(field.type if isinstance(field.type, str) else field.type.__name__)
    if wanted is None:
        raise PassError(seen, f"declared as {field.type}", "options are str, int, float or bool")
    try:
        value = text if wanted is str and not text.startswith('"') else json.loads(text)
    except json.JSONDecodeError:
        value = text
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        example = "" if field.default is dataclasses.MISSING else f", such as {_value_text(field.default)}"
        raise PassError(seen, f"not {wanted.__name__}", f"give a {wanted.__name__}{example}")
    return value


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else json.dumps(value)
