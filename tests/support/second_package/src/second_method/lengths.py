"""A section: how many runs each row has."""


def write(pivots):
    """Return a title, a sentence and a table."""
    rows = [[cell.name, str(len(cell.runs))] for pivot in pivots for cell in pivot.cells]
    return "Runs <of> each row", ["Counted by the second package.", [["row", "runs"], *rows]]
