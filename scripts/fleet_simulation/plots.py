"""The orders of each day against the limit, as text and as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 900, 320, 70, 40, 30


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

    def y(value: float) -> float:
        return base - (base - _TOP) * value / top

    def bars(values: Iterable[int], colour: str) -> Iterator[str]:
        for day, value in enumerate(values):
            x, high = _LEFT + day * wide, base - y(value)
            yield (
                f'<rect x="{x:.1f}" y="{y(value):.1f}" width="{max(0.5, wide * 0.9):.2f}" height="{high:.1f}" '
                f'fill="{colour}"/>'
            )

    step = max(1, len(orders) // 10)
    ticks = [round(top * part / 4) for part in range(4)]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{title}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="18">{title}</text>',
        *bars(orders, "#9ecae1"),
        *bars(counted, "#08519c"),
        f'<line x1="{_LEFT}" x2="{right}" y1="{y(limit):.1f}" y2="{y(limit):.1f}" stroke="#cb181d" stroke-width="1.5"/>',
        f'<text x="{right}" y="{y(limit) - 4:.1f}" text-anchor="end" fill="#cb181d">'
        f"limit for new orders: {limit:,} a day</text>",
        *(f'<text x="{_LEFT - 6}" y="{y(each) + 4:.1f}" text-anchor="end">{each:,}</text>' for each in ticks),
        *(
            f'<text x="{_LEFT + day * wide:.1f}" y="{base + 16}" text-anchor="middle">{day}</text>'
            for day in range(0, len(orders), step)
        ),
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">day; light: renewals that the CA does not count, dark: orders that '
        "it counts</text>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _highest(values: Sequence[int], size: int) -> Iterator[int]:
    return (max(values[start : start + size]) for start in range(0, len(values), size))
