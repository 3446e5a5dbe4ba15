"""Names of cells and rows, made from the labels of a grid's axes."""

from harness.config.grid import Cell, Table


def cell_name(cell: Cell) -> str:
    """Return a short name for a cell: its labels, with the axis before one that says nothing alone ("λ 0.5").

    "none" is left out beside other labels, and is the name of a cell that has no other.
    """
    said = [(axis, label) for axis, label in cell.at if label != "none"]
    words = [_said(axis, label) for axis, label in said]
    return " · ".join(w if _is_wordy(w) else f"{axis} {w}" for (axis, _), w in zip(said, words, strict=True)) or "none"


def _said(axis: str, label: str) -> str:
    """ "without" says what it is without; every other label stands for itself."""
    return f"without {axis}" if label == "without" else label


def _is_wordy(label: str) -> bool:
    return not label[:1].isdigit() and label != "all"


def row_label(table: Table, cell: Cell) -> str:
    """Return the label on the row axis, followed by those of axes that are neither row nor column."""
    further = [_said(axis, label) for axis, label in cell.at if axis not in (table.file.rows, table.file.columns)]
    return " · ".join([cell.label(table.file.rows), *further])


def row_heading(table: Table) -> str:
    """Return what `row_label` is made of: the row axis, followed by the axes that are neither row nor column."""
    axes = dict.fromkeys(axis for cell in table.cells for axis, _ in cell.at)
    return " · ".join([table.file.rows, *(axis for axis in axes if axis not in (table.file.rows, table.file.columns))])


def is_number(label: str) -> bool:
    """Tell whether a label is a number."""
    try:
        float(label)
    except ValueError:
        return False
    return True
