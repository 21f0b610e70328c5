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
    numbers = page.counts(made)
    words = (
        f"In the committed ledger {page.settled(page.counts(made, points=True)):.1%} of all numbers, and "
        f"{page.settled(numbers):.1%} of those judged one by one, are reproduced or explained by a fault of the report "
        f"that a run shows; {numbers['differs']} differ, and {numbers['inconclusive']} are inconclusive."
    ).replace("%", " %")
    return f"{before}{BEGIN}{words}\n\n{page.table(*page.head_table(made))}\n{END}{after}"


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(
        with_head(file.read_text(encoding="utf-8"), ROOT / "docs" / "ledger" / "ledger.json"), encoding="utf-8"
    )
