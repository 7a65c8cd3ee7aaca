"""Text from outside (manifests, containers, providers) made harmless for each place that shows it.

One function per sink: `shown` for a line of a terminal, `csv_cell` for spreadsheets; HTML goes through `html.escape`.
"""

from __future__ import annotations

import re

# The shades of the strips, which are ours: blue to yellow, as in cividis, told apart without red and green.
SHADES = (24, 25, 60, 102, 144, 179, 214, 220)
_OURS = rf"\x1b\[(?:38;5;(?:{'|'.join(map(str, SHADES))})|0)m"
# C0 and C1 controls, which a terminal obeys, and what turns the direction of text, which misleads its reader.
_CONTROL = re.compile(rf"({_OURS})|[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def shown(text: str) -> str:
    """One line for a terminal: every control character as its code, such as `\\x1b`; only our own shades pass."""
    return _CONTROL.sub(lambda m: m[1] or _code(m[0]), text)


def _code(character: str) -> str:
    n = ord(character)
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, f"\\x{n:02x}" if n < 256 else f"\\u{n:04x}")


def csv_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    return shown(f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value)
