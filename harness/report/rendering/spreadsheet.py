"""Tables as CSV, safe to open in a spreadsheet: a text that would be run as a formula is shown as text."""

from typing import Any

import pandas as pd

from harness.report.analysis.labels import is_number

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a text begins that Excel, LibreOffice or Google Sheets may run


def shown_as_text(value: Any) -> Any:
    """Return a value for a cell: before a text that begins like a formula stands an apostrophe; numbers stay bare."""
    dangerous = isinstance(value, str) and value.startswith(FORMULA) and not is_number(value)
    return f"'{value}" if dangerous else value


def csv_of(frame: pd.DataFrame) -> str:
    """Return a frame as CSV with a header and numbers in full, empty where there is none."""
    safe = frame.rename(columns=shown_as_text)
    for name in safe:
        if pd.api.types.is_numeric_dtype(safe[name]):
            continue
        codes, values = pd.factorize(safe[name])  # a long frame says the same words in many rows
        words = pd.Series([*map(shown_as_text, values), None], dtype=object).to_numpy()
        safe[name] = words[codes]  # a missing value has the code -1, which is the last
    return safe.to_csv(index=False, lineterminator="\n")
