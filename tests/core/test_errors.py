"""The error family: one line, three parts, one exit code each, and across processes."""

from __future__ import annotations

import pickle

import pytest

from hycompile import errors
from hycompile.errors import HycompileError

FAMILY = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HycompileError)]


@pytest.mark.parametrize("kind", FAMILY)
def test_message(kind: type[HycompileError]) -> None:
    error = kind("model 'x'", "torch said:\n   two  lines", "do\tthis")
    assert str(error) == "model 'x': torch said: two lines; do this"
    assert (error.seen, error.reason, error.way_out) == ("model 'x'", "torch said: two lines", "do this")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, str(error))


def test_exit_codes_differ() -> None:
    own = [kind for kind in FAMILY if "exit_code" in vars(kind)]
    assert len(own) == 8
    assert len({kind.exit_code for kind in own}) == 8
    assert [kind.__name__ for kind in FAMILY if kind not in own] == ["AccuracyError"], "a kind of ParityError"
    assert not {0, 2} & {kind.exit_code for kind in FAMILY}, "0 is success, 2 a wrong command line"
