"""Put the head of the committed ledger into the README: `python -m tools.readme`, after docs/ledger has changed."""

from pathlib import Path

from trackdl.ledger import check, page

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- the ledger's head: python -m tools.readme -->\n", "<!-- end -->\n"


def with_head(readme: str, ledger: Path) -> str:
    """Return a README whose text between the two marks is the ledger's head."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = check.load(ledger)
    numbers, every = page.counts(made), page.counts(made, points=True)
    words = (
        f"Of the report's {sum(every.values()):,} numbers, {page.settled(every):.1%} are either reproduced or "
        "explained. A number is *explained* if a run of ours shows that the report is wrong about it; its verdict is "
        f"then *fault in the report*. Of the {sum(numbers.values())} that are judged one by one, "
        f"{page.settled(numbers):.1%} are reproduced or explained, {numbers['differs']} differ, and "
        f"{numbers['inconclusive']} are inconclusive."
    ).replace("%", " %")
    return f"{before}{BEGIN}{words}\n\n{page.table(*page.head_table(made))}\n{END}{after}"


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(
        with_head(file.read_text(encoding="utf-8"), ROOT / "docs" / "ledger" / "ledger.json"), encoding="utf-8"
    )
