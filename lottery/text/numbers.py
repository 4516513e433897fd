"""How numbers are written."""

from __future__ import annotations


def number(value: float | None) -> str:
    """Four digits after the point; a dash for None.

    Example:
        >>> number(0.5), number(12345), number(None)
        ('0.5000', '12,345', '-')
    """
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def true_minus(number: str) -> str:
    """A number with a sign, with a true minus, unless all its digits are zero.

    Example:
        >>> true_minus("-0.50"), true_minus("-0.00")
        ('−0.50', '+0.00')
    """
    return number.replace("-", "−" if number.strip("+-0.") else "+")


def percent(density: float) -> str:
    """A share in percent.

    Example:
        >>> percent(0.5128136), percent(1.0)
        ('51.3 %', '100 %')
    """
    return f"{100 * density:.3g} %"
