"""All pairs of two sets of features, a block at a time: one product of a block gives distances and cosines alike.

In float64, on a device, by parts of the rows that the processes of a workspace share. Distances are squared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.measure.workspace import CPU, Arrays, Workspace

ROWS, COLUMNS = 1024, 4096  # of a block: 34 MB in float64
PART = 8 * ROWS  # rows that one process goes through at a time, and that a kill costs at most
SAME = 1e-13  # of the largest square of a row's length: distances below it are rounding errors of none


@dataclass(frozen=True)
class Points:
    """Rows (N, D) on a device, as they were given; `squares` (N,): of their lengths, float64; `largest` of them."""

    features: Tensor
    squares: Tensor
    largest: float

    def __len__(self) -> int:
        """Return N."""
        return len(self.features)

    def rows(self, part: slice) -> Tensor:
        """Return some rows in float64, on the device: all at once would not fit beside the features."""
        return self.features[part].to(self.squares.device).double()

    @cached_property
    def lengths(self) -> Tensor:
        """Lengths of the rows (N,); of a row of zeros the smallest number above zero, so that it stays one."""
        return self.squares.sqrt().clamp_min(torch.finfo(torch.float64).tiny)

    @cached_property
    def unit_squares(self) -> Tensor:
        """Squares of the lengths (N,) that rows of length one have: 1, and 0 of a row of zeros."""
        return (self.squares > 0).double()


def points(features: np.ndarray, device: torch.device = CPU) -> Points:
    """Return rows (N, D) for `over_pairs`; they lie on the device where they take at most half of its free memory."""
    x = torch.from_numpy(features)
    if device.type == "cuda" and 2 * features.nbytes < torch.cuda.mem_get_info(device)[0]:
        x = x.to(device)
    squares = torch.cat([x[i : i + COLUMNS].to(device).double().square().sum(1) for i in range(0, len(x), COLUMNS)])
    return Points(x, squares, float(squares.max()))


@dataclass(frozen=True)
class Block:
    """The pairs of some rows of x, counted from the first of their part, with some of y; products (r, c) float64."""

    x: Points
    y: Points
    start: int  # of the part, in x
    rows: slice
    columns: slice
    products: Tensor

    @property
    def _of_x(self) -> slice:
        return slice(self.start + self.rows.start, self.start + self.rows.stop)

    @cached_property
    def distances(self) -> Tensor:
        """Squared distances (r, c)."""
        squares = self.y.squares[self.columns] + self.x.squares[self._of_x, None]
        return F.threshold(squares.sub_(self.products, alpha=2), SAME * self.y.largest, 0, inplace=True)

    @cached_property
    def unit_distances(self) -> Tensor:
        """Squared distances (r, c) of the rows at length one."""
        squares = self.y.unit_squares[self.columns] + self.x.unit_squares[self._of_x, None]
        cosines = (self.products / self.x.lengths[self._of_x, None]).div_(self.y.lengths[self.columns])
        return F.threshold(squares.sub_(cosines, alpha=2), SAME, 0, inplace=True)


class Reduction(Protocol):
    """What a part of the pairs, those of its rows with all of y, comes to."""

    def add(self, block: Block) -> None:
        """Take a block in; its matrices belong to others as well, and must not be changed."""

    def result(self) -> Arrays:
        """Return what it has come to, under names of its own."""


def over_pairs(
    x: Points, y: Points, reductions: Sequence[Callable[[slice], Reduction]], workspace: Workspace
) -> dict[str, list[np.ndarray]]:
    """Go through all pairs once; return by its name what each part has come to, in the order of x's rows.

    reductions: each is called with the rows of x that a part has.
    """

    def make(number: int) -> Arrays:
        part = slice(number * PART, min((number + 1) * PART, len(x)))
        made = [reduction(part) for reduction in reductions]
        for start in range(part.start, part.stop, ROWS):
            rows = slice(start, min(start + ROWS, part.stop))
            here, x_rows = slice(rows.start - part.start, rows.stop - part.start), x.rows(rows)
            for first in range(0, len(y), COLUMNS):
                columns = slice(first, min(first + COLUMNS, len(y)))
                block = Block(x, y, part.start, here, columns, x_rows @ y.rows(columns).T)
                for reduction in made:
                    reduction.add(block)
        return {name: array for reduction in made for name, array in reduction.result().items()}

    parts = workspace.parts(-(-len(x) // PART), make)
    return {name: [part[name] for part in parts] for name in parts[0]}
