"""Mutation operators for polars expressions, in the form that cosmic-ray applies.

An operator lists the positions that it can change in a node of parso's tree and changes the one of
a given index. A chain such as ``frame.filter(x).unique()`` is one node, whose children are a name
and trailers: ``.filter``, ``(x)``, ``.unique``, ``()``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: parso's nodes carry no types
Node = Any
Position = tuple[tuple[int, int], tuple[int, int]]


def _calls(node: Node) -> Iterator[tuple[int, str]]:
    """The method calls in a chain: index of the trailer ``.name``, and the name."""
    if node.type not in ("atom_expr", "power"):
        return
    for at, (name, arguments) in enumerate(zip(node.children, node.children[1:], strict=False)):
        is_method = name.type == "trailer" and name.children[0].value == "."
        if is_method and arguments.type == "trailer" and arguments.children[0].value == "(":
            yield at, name.children[1].value


@dataclass(frozen=True)
class DropCall:
    """Drop a call of one of these methods: ``frame.filter(x)`` becomes ``frame``."""

    names: frozenset[str]

    def _found(self, node: Node) -> list[int]:
        # pl.col("x") and the like are no chain to drop from
        on_frame = (
            node.type in ("atom_expr", "power") and node.children[0].get_code().strip() != "pl"
        )
        return [at for at, name in _calls(node) if name in self.names and (at > 1 or on_frame)]

    def mutation_positions(self, node: Node) -> list[Position]:
        """Where ``node`` can be changed. All at once: cosmic-ray changes it while it iterates."""
        found = self._found(node)
        return [(node.children[at].start_pos, node.children[at + 1].end_pos) for at in found]

    def mutate(self, node: Node, index: int) -> Node:
        """Change the place of that index."""
        at = self._found(node)[index]
        del node.children[at : at + 2]
        return node


@dataclass(frozen=True)
class RenameCall:
    """Call another method: ``min`` for ``max``."""

    names: Mapping[str, str]

    def _found(self, node: Node) -> list[int]:
        return [at for at, name in _calls(node) if name in self.names]

    def mutation_positions(self, node: Node) -> list[Position]:
        """Where ``node`` can be changed."""
        return [
            (node.children[at].start_pos, node.children[at].end_pos) for at in self._found(node)
        ]

    def mutate(self, node: Node, index: int) -> Node:
        """Change the place of that index."""
        word = node.children[self._found(node)[index]].children[1]
        word.value = self.names[word.value]
        return node


@dataclass(frozen=True)
class ReplaceArgument:
    """Give a keyword argument another value: ``keep="last"`` for ``keep="first"``."""

    keyword: str
    values: Mapping[str, str]

    def mutation_positions(self, node: Node) -> Iterator[Position]:
        """Where ``node`` can be changed."""
        if node.type == "argument" and node.children[0].get_code().strip() == self.keyword:
            value = node.children[-1]
            if value.get_code().strip() in self.values:
                yield value.start_pos, value.end_pos

    def mutate(self, node: Node, index: int) -> Node:
        """Change the one place there is."""
        del index
        value = node.children[-1]
        value.value = self.values[value.value]
        return node


def _both_ways(*pairs: tuple[str, str]) -> dict[str, str]:
    return {a: b for pair in pairs for a, b in (pair, pair[::-1])}


OPERATORS = {
    "drop a call": DropCall(
        frozenset({"filter", "unique", "drop_nulls", "fill_null", "over", "sort", "clip", "head"})
    ),
    "min for max": RenameCall(
        _both_ways(
            ("min", "max"), ("first", "last"), ("min_horizontal", "max_horizontal"),
            ("is_null", "is_not_null"), ("latest_begun", "next_begun"),
        )
    ),
    "keep": ReplaceArgument("keep", _both_ways(('"first"', '"last"'))),
    "how": ReplaceArgument("how", _both_ways(('"left"', '"inner"'), ('"semi"', '"anti"'))),
    "descending": ReplaceArgument("descending", _both_ways(("True", "False"))),
}  # fmt: skip
_COMPARISONS = ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "Gt_Lt", "Eq_NotEq", "NotEq_Eq",
                "Is_IsNot", "IsNot_Is")  # fmt: skip
_ARITHMETIC = ("BitAnd_BitOr", "BitOr_BitAnd", "Add_Sub", "Sub_Add")
#: of cosmic-ray's own operators, those that turn a comparison or a logical operator
OF_COSMIC_RAY = (
    *(f"ReplaceComparisonOperator_{pair}" for pair in _COMPARISONS),
    *(f"ReplaceBinaryOperator_{pair}" for pair in _ARITHMETIC),
    "ReplaceUnaryOperator_Delete_Invert", "ReplaceUnaryOperator_Delete_Not",
    "ReplaceAndWithOr", "ReplaceOrWithAnd",
)  # fmt: skip
