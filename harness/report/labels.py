"""Names of cells and rows, made from the labels of a grid's axes."""

from harness.grid import Cell, Table


def place_words(cell: Cell) -> str:
    """Return a cell's place in words, "loss = Hinge, arm = dispersive"; it is unique in its table."""
    return ", ".join(f"{axis} = {label}" for axis, label in cell.at)


def cell_name(cell: Cell) -> str:
    """Return a short name for a cell: its labels, with the axis before one that says nothing alone ("λ 0.5").

    "none" is left out beside other labels, and is the name of a cell that has no other.
    """
    said = [(axis, label) for axis, label in cell.at if label != "none"]
    return " · ".join(label if _is_wordy(label) else f"{axis} {label}" for axis, label in said) or "none"


def _is_wordy(label: str) -> bool:
    return not label[:1].isdigit() and label != "all"


def row_label(table: Table, cell: Cell) -> str:
    """Return the label on the row axis, followed by those of axes that are neither row nor column."""
    further = [label for axis, label in cell.at if axis not in (table.file.rows, table.file.columns)]
    return " · ".join([cell.label(table.file.rows), *further])


def is_number(label: str) -> bool:
    """Tell whether a label is a number."""
    try:
        float(label)
    except ValueError:
        return False
    return True
