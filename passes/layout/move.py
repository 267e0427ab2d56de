"""A rearrangement of elements that computes nothing: any chain of reshapes and permutes as one value to reason with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from operator import mul

from hycompile.permutation import Shape, merged_permutation

Step = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Move:
    """``x.reshape(atoms).permute(order).reshape(target)`` for an ``x`` of shape ``source``, in its smallest form.

    Equal rearrangements of equal shapes are equal objects: no atom has size one, and no two neighbours move together.
    """

    source: Shape
    atoms: Shape
    order: tuple[int, ...]
    target: Shape

    @property
    def is_view(self) -> bool:
        """Whether the elements keep their order in memory."""
        return len(self.order) < 2

    @property
    def is_identity(self) -> bool:
        return self.is_view and self.source == self.target

    @property
    def elements(self) -> int:
        """Elements copied: none for a view of contiguous data."""
        return 0 if self.is_view else math.prod(self.source)

    def then(self, following: Move) -> Move | None:
        """This move and another after it as one; None where a size of one cuts across a dimension of the other."""
        return _composed(self, following)

    def inverse(self) -> Move:
        """The move back."""
        permuted = tuple(self.atoms[atom] for atom in self.order)
        return _smallest(self.target, permuted, _inverted(self.order), self.source)

    def steps(self) -> list[Step]:
        """The fewest reshapes and permutes that do it."""
        return list(_steps(self))

    def axes(self) -> dict[int, int]:
        """Source dimension to target dimension, of those that arrive whole; dimensions of size one do not count."""
        return dict(_axes(self))

    def resized(self, axis: int, size: int) -> Move:
        """The same move with another size of a source dimension that arrives whole (see :meth:`axes`).

        Raises:
            KeyError: the dimension is cut, merged, or of size one.
        """
        return _resized(self, axis, size)

    def broadcast(self, shape: Shape) -> Move | None:
        """The same move of a tensor with ones where ``source`` has sizes: it broadcasts against the result likewise.

        None if a dimension of the result would be broadcast in part only.
        """
        return _broadcast(self, shape)


def reshaping(source: Shape, target: Shape) -> Move:
    """A reshape."""
    return _smallest(source, (math.prod(source),), (0,), target)


def permuting(source: Shape, order: Sequence[int]) -> Move:
    """A permute."""
    dims = tuple(dim % len(source) for dim in order)
    return _smallest(source, source, dims, tuple(source[dim] for dim in dims))


def identity(shape: Shape) -> Move:
    """Leaves everything where it is."""
    return reshaping(shape, shape)


def _smallest(source: Shape, atoms: Shape, order: Sequence[int], target: Shape) -> Move:
    sizes, moved = merged_permutation(atoms, order)
    return Move(source, sizes, tuple(moved), target)


def _inverted(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(list(order).index(position) for position in range(len(order)))


@dataclass(frozen=True)
class _Factored:
    """A move by factors that neither a source nor a target dimension cuts: sizes in source order, numbers elsewhere."""

    sizes: Shape
    order: tuple[int, ...]
    source: tuple[tuple[int, ...], ...]
    target: tuple[tuple[int, ...], ...]


def _cuts(sizes: Sequence[int]) -> list[int]:
    """Where dimensions of row-major data end, in elements from the right."""
    return [1, *accumulate(reversed(sizes), mul)]


def _refined(sizes: Shape, cuts: Sequence[int]) -> list[list[int]] | None:
    """Each size as factors, so that every cut falls between two of them; None if one falls where it cannot."""
    factors: list[list[int]] = []
    inner = 1
    for size in reversed(sizes):
        bounds = sorted({inner, inner * size, *(cut for cut in cuts if inner < cut < inner * size)})
        if any(upper % lower for lower, upper in pairwise(bounds)):
            return None
        factors.append([upper // lower for lower, upper in reversed(list(pairwise(bounds)))])
        inner *= size
    return factors[::-1]


def _numbered(factors: Sequence[Sequence[int]]) -> list[list[int]]:
    numbers = iter(range(sum(len(row) for row in factors)))
    return [[next(numbers) for _ in row] for row in factors]


@cache
def _composed(first: Move, second: Move) -> Move | None:
    middle = tuple(first.atoms[atom] for atom in first.order)
    cuts = [*_cuts(middle), *_cuts(second.atoms)]
    left, right = _refined(middle, cuts), _refined(second.atoms, cuts)
    if left is None or right is None:
        return None
    # The factors of the data between the two moves, numbered in its order, are the same from both sides.
    flat = [factor for row in left for factor in row]
    by_first, by_second = _numbered(left), _numbered(right)
    at_source = [number for atom in range(len(first.atoms)) for number in by_first[first.order.index(atom)]]
    at_end = [number for atom in second.order for number in by_second[atom]]
    atoms = tuple(flat[number] for number in at_source)
    return _smallest(first.source, atoms, [at_source.index(number) for number in at_end], second.target)


@cache
def _factored(move: Move) -> _Factored | None:
    moved = tuple(move.atoms[atom] for atom in move.order)
    before, after = _refined(move.atoms, _cuts(move.source)), _refined(moved, _cuts(move.target))
    if before is None or after is None:
        return None
    # An atom stays in one piece, so it is cut by what cuts it on either side.
    factors: list[list[int]] = []
    for atom, size in enumerate(move.atoms):
        both = _refined((size,), [*_cuts(before[atom]), *_cuts(after[move.order.index(atom)])])
        if both is None:
            return None
        factors += both
    numbers = _numbered(factors)
    sizes = tuple(factor for row in factors for factor in row)
    order = tuple(number for atom in move.order for number in numbers[atom])
    source = _grouped(sizes, range(len(sizes)), move.source)
    target = _grouped(sizes, order, move.target)
    return _Factored(sizes, order, source, target)


def _grouped(sizes: Shape, order: Iterable[int], shape: Shape) -> tuple[tuple[int, ...], ...]:
    """The factors of each dimension of ``shape``, in row-major order; none for a size of one."""
    numbers, groups = iter(order), list[tuple[int, ...]]()
    for extent in shape:
        group: list[int] = []
        while math.prod([sizes[number] for number in group]) < extent:
            group.append(next(numbers))
        groups.append(tuple(group))
    return tuple(groups)


@cache
def _axes(move: Move) -> tuple[tuple[int, int], ...]:
    factored = _factored(move)
    if factored is None:
        return ()
    return tuple(
        (axis, factored.target.index(g)) for axis, g in enumerate(factored.source) if g in factored.target and g
    )


@cache
def _resized(move: Move, axis: int, size: int) -> Move:
    factored = _factored(move)
    if factored is None:
        raise KeyError(axis)
    end = dict(_axes(move))[axis]
    first, *rest = factored.source[axis]
    sizes = [1 if number in rest else extent for number, extent in enumerate(factored.sizes)]
    sizes[first] = size
    source = (*move.source[:axis], size, *move.source[axis + 1 :])
    target = (*move.target[:end], size, *move.target[end + 1 :])
    return _smallest(source, tuple(sizes), factored.order, target)


@cache
def _broadcast(move: Move, shape: Shape) -> Move | None:
    factored = _factored(move)
    if factored is None or len(shape) != len(move.source):
        return None
    pairs = list(zip(factored.source, shape, move.source, strict=True))
    if any(own not in (1, full) for _, own, full in pairs):
        return None
    kept = {number for group, own, full in pairs if own == full for number in group}
    if any(set(group) & kept and not set(group) <= kept for group in factored.target):
        return None
    sizes = tuple(size if number in kept else 1 for number, size in enumerate(factored.sizes))
    target = tuple(math.prod([sizes[number] for number in group]) for group in factored.target)
    return _smallest(shape, sizes, factored.order, target)


@cache
def _steps(move: Move) -> tuple[Step, ...]:
    if move.is_identity:
        return ()
    if move.is_view:
        return (("reshape", move.target),)
    permuted = tuple(move.atoms[atom] for atom in move.order)
    found = [_around((move.source, move.atoms, move.order), (permuted, move.target))]
    factored = _factored(move)
    if factored is not None:
        found += _through_dimensions(move, factored)
    return min(found, key=lambda steps: (len(steps), max(len(argument) for _, argument in steps)))


def _around(into: tuple[Shape, Shape, tuple[int, ...]], out: tuple[Shape, Shape]) -> tuple[Step, ...]:
    """A permute between two reshapes, without those that change nothing."""
    (source, viewed, order), (permuted, target) = into, out
    steps: list[Step] = [("reshape", viewed)] if viewed != source else []
    steps.append(("permute", order))
    return (*steps, ("reshape", target)) if permuted != target else tuple(steps)


def _through_dimensions(move: Move, factored: _Factored) -> list[tuple[Step, ...]]:
    """Ways that permute the source's own dimensions, or dimensions that are the target's own."""
    ways: list[tuple[Step, ...]] = []
    place = {number: position for position, number in enumerate(factored.order)}
    # Whole in the result too: then they can be permuted as they are.
    if all(_consecutive([place[n] for n in group]) for group in factored.source):
        ends = _matched(factored.source, factored.target)
        order = ends or sorted(range(len(factored.source)), key=lambda d: [place[n] for n in factored.source[d]])
        permuted = tuple(move.source[dim] for dim in order)
        ways.append(_around((move.source, move.source, tuple(order)), (permuted, move.target)))
    if all(_consecutive(group) for group in factored.target):
        dims = sorted(range(len(factored.target)), key=lambda d: factored.target[d])
        viewed = tuple(move.target[dim] for dim in dims)
        ways.append(_around((move.source, viewed, _inverted(dims)), (move.target, move.target)))
    return ways


def _matched(source: Sequence[tuple[int, ...]], target: Sequence[tuple[int, ...]]) -> list[int] | None:
    """For each target dimension the source dimension it is, those of size one in turn; None if they differ."""
    if sorted(source) != sorted(target):
        return None
    left, order = list(range(len(source))), list[int]()
    for group in target:
        dim = next(dim for dim in left if source[dim] == group)
        left.remove(dim)
        order.append(dim)
    return order


def _consecutive(numbers: Sequence[int]) -> bool:
    return all(after == before + 1 for before, after in pairwise(numbers))
