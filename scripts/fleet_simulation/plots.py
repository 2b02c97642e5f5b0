"""The orders of each day against the limit, as text and as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 900, 320, 70, 40, 30
_FONT = 'font-family="sans-serif" font-size="12"'
_RED = "#cb181d"


def as_text(
    orders: Sequence[int], counted: Sequence[int], width: int = 73, height: int = 12
) -> Iterator[str]:
    """Yield the lines of a plot; each column is the highest of some days.

    Args:
        orders: of each day.
        counted: those of them that the CA counts.
        width: how many columns there are at most.
        height: how many lines the bars have.
    """
    size = max(1, -(-len(orders) // width))
    high, low = list(_highest(orders, size)), list(_highest(counted, size))
    top = max([*high, 1])
    for row in range(height, 0, -1):
        label = f"{top * row // height:>9,}" if row in {height, height // 2, 1} else " " * 9
        at = top * (row - 0.5) / height
        bars = zip(high, low, strict=True)
        yield f"{label} |" + "".join(
            "#" if below >= at else ":" if all_of >= at else " " for all_of, below in bars
        )
    yield f"{'':9} +" + "-" * len(high)
    yield f"{'':11}each column {size} days; # orders that the CA counts, : renewals that it does not count"


def as_svg(orders: Sequence[int], counted: Sequence[int], limit: int, title: str) -> str:
    """Return a plot.

    Args:
        orders: of each day.
        counted: those of them that the CA counts.
        limit: how many of these it allows in a day.
        title: what stands above it.
    """
    top = 1.05 * max([*orders, limit])
    right, base = _WIDTH - 10, _HEIGHT - _BOTTOM
    wide = (right - _LEFT) / max(1, len(orders))

    def x(day: float) -> str:
        return f"{_LEFT + day * wide:.1f}"

    def y(value: float) -> float:
        return base - (base - _TOP) * value / top

    def text(at: str, height: float, words: str, anchor: str = "start", colour: str = "black") -> str:
        return f'<text x="{at}" y="{height:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'

    def bars(values: Sequence[int], colour: str) -> str:
        steps = "".join(f"V{y(value):.1f}H{x(day + 1)}" for day, value in enumerate(values))
        return f'<path d="M{x(0)} {base}{steps}V{base}Z" fill="{colour}"/>'

    step = max(1, len(orders) // 10)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" {_FONT}>',
        f"<title>{title}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        text(x(0), 18, title),
        bars(orders, "#9ecae1"),
        bars(counted, "#08519c"),
        f'<path d="M{x(0)} {y(limit):.1f}H{right}" stroke="{_RED}" stroke-width="1.5"/>',
        text(str(right), y(limit) - 4, f"limit of orders that count: {limit:,} a day", "end", _RED),
        *(
            text(str(_LEFT - 6), y(top * part / 4) + 4, f"{round(top * part / 4):,}", "end")
            for part in range(4)
        ),
        *(text(x(day), base + 16, str(day), "middle") for day in range(0, len(orders), step)),
        text(
            x(0), _HEIGHT - 8, "day; light: renewals that the CA does not count, dark: orders that it counts"
        ),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _highest(values: Sequence[int], size: int) -> Iterator[int]:
    return (max(values[start : start + size]) for start in range(0, len(values), size))
