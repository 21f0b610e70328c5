"""Draw the rooms of src/trackdl and their imports: `python -m tools.rooms`, after a room was added or removed.

A room is above all that it imports. Arrows that follow from others (a room imports one that imports the third) are
left out.
"""

import ast
from functools import cache
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "trackdl"
PICTURE = ROOT / "docs" / "pictures" / "rooms.png"
HIGH = 0.36  # of a box; the floors are 1 apart


def arrows() -> dict[str, set[str]]:
    """Return which rooms each room imports."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room.startswith("__"):
            continue
        named = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}".split(".") for alias in node.names]
                named |= {parts[1] for parts in names if parts[0] == "trackdl"}
    return {room: (named & found.keys()) - {room} for room, named in found.items()}


def draw(below: dict[str, set[str]]) -> Figure:
    """Return the figure of the rooms, each with the rooms that it imports."""

    @cache
    def floor(room: str) -> int:
        return 1 + max((floor(other) for other in below[room]), default=0)

    @cache
    def reached(room: str) -> frozenset[str]:
        return frozenset(below[room]).union(*(reached(other) for other in below[room]))

    floors: dict[int, list[str]] = {}
    for room in sorted(below, key=lambda room: (floor(room), -len(reached(room)))):
        floors.setdefault(floor(room), []).append(room)
    widest = max(map(len, floors.values()))
    place = {
        room: ((number - (len(rooms) - 1) / 2) * 2.2 + (0.45 if level % 2 else -0.45), level)
        for level, rooms in floors.items()
        for number, room in enumerate(rooms)
    }
    figure = Figure(figsize=(2.3 * widest + 1.5, 0.95 * len(floors) + 0.3), layout="constrained")
    axes = figure.add_subplot()
    for room, others in below.items():
        for other in others - frozenset().union(*(reached(middle) for middle in others)):
            ends = {
                "xy": (place[other][0], place[other][1] + HIGH / 2),
                "xytext": (place[room][0], place[room][1] - HIGH / 2),
            }
            axes.annotate("", **ends, arrowprops={"arrowstyle": "-|>", "color": "#7a8793", "linewidth": 1})
    for room, (x, y) in place.items():
        box = {"boxstyle": "round,pad=0.45", "facecolor": "#e2edf7", "edgecolor": "#1a5f9e"}
        axes.text(x, y, room, ha="center", va="center", bbox=box, fontsize=11)
    axes.set_xlim(-1.15 * widest - 0.8, 1.15 * widest + 0.8)
    axes.set_ylim(0.4, len(floors) + 0.6)
    axes.axis("off")
    return figure


if __name__ == "__main__":
    draw(arrows()).savefig(PICTURE, dpi=130)
