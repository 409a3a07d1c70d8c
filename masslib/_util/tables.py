"""How the tables of masslib look, in a terminal and in a notebook."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_FORMATS = {
    "accuracy": "{:.4f}",
    "low": "{:.4f}",
    "high": "{:.4f}",
    "macro_f1": "{:.4f}",
    "auc": "{:.4f}",
    "drop_points": "{:+.2f}",
    "valid_drop_points": "{:+.2f}",
    "size_kb": "{:,.0f}",
    "gzipped_kb": "{:,.0f}",
    "times_smaller": "{:.1f}",
    "nonzero": "{:,.0f}",
    "mflops": "{:,.2f}",
    "median_ms": "{:.3f}",
    "p95_ms": "{:.3f}",
    "times_faster": "{:.2f}",
    "seconds": "{:.0f}",
}


def as_text(table: pd.DataFrame) -> str:
    """Write a table with the digits that each of its columns deserves."""
    return table.to_string(formatters=_formatters(table))


def as_html(table: pd.DataFrame) -> str:
    """Write the same for Jupyter."""
    shown = table.to_html(formatters=_formatters(table), border=0)
    # Else Jupyter breaks the names of the rows and the intervals into several lines to save width.
    return re.sub(r"<th>|<td>(?=[^<]+ \[)", lambda cell: f'{cell[0][:-1]} style="white-space: nowrap">', shown)


def bracketed(table: pd.DataFrame, column: str, low: str, high: str) -> pd.DataFrame:
    """Write an interval behind the figure that it belongs to, as `0.53 [0.12, 0.94]`, instead of two columns more.

    The first row is the baseline, which needs none beside itself.
    """
    form = _FORMATS.get(column, "{:.4g}").format
    texts = [
        f"{form(value)} [{form(below)}, {form(above)}]" if number else form(value)
        for number, (value, below, above) in enumerate(zip(*(table[name] for name in (column, low, high)), strict=True))
    ]
    return table.assign(**{column: texts}).drop(columns=[low, high])


def _formatters(table: pd.DataFrame) -> dict:
    return {
        name: form.format for name, form in _FORMATS.items() if name in table.columns and table[name].dtype.kind in "if"
    }
