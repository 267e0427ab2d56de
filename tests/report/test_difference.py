"""Side-by-side texts and operator counts."""

from __future__ import annotations

from hycompile.report.difference import OperatorCount, Row, operator_counts, side_by_side


def test_changed_lines_stand_beside_each_other_and_the_rest_is_folded() -> None:
    same = [f"line {index}" for index in range(10)]
    before = "\n".join([*same, "old", "gone", *same])
    after = "\n".join([*same, "new", *same])
    assert side_by_side(before, after, context=2) == [
        Row("fold", "8 unchanged lines"),
        Row("same", "line 8", "line 8"),
        Row("same", "line 9", "line 9"),
        Row("changed", "old", "new"),
        Row("changed", "gone", ""),
        Row("same", "line 0", "line 0"),
        Row("same", "line 1", "line 1"),
        Row("fold", "8 unchanged lines"),
    ]


def test_equal_texts_fold_to_one_row() -> None:
    assert side_by_side("a\nb\nc", "a\nb\nc") == [Row("fold", "3 unchanged lines")]


def test_every_line_is_shown_or_counted() -> None:
    before = "\n".join(str(index % 7) for index in range(200))
    after = "\n".join(str(index % 5) for index in range(180))
    shown = 0
    for row in side_by_side(before, after):
        shown += int(row.left.split()[0]) if row.kind == "fold" else bool(row.left)
    assert shown == 200


def test_operators_are_counted_by_name() -> None:
    before = "input %x : f32[1]\n%a = aten.conv2d(%x) : f32[1]\n%b = aten.batch_norm(%a) : f32[1]\nwrite @s <- %b\n"
    after = "%a = aten.conv2d(%x) : f32[1]\n%c = aten.add.Tensor(%a, other=1) : f32[1]\n"
    assert operator_counts(before, after) == [
        OperatorCount("aten.add.Tensor", 0, 1),
        OperatorCount("aten.batch_norm", 1, 0),
        OperatorCount("aten.conv2d", 1, 1),
    ]
