"""Task `data`: get every data set, checked against its SHA-256, so that the other tasks can do without a network."""

from trackdl.console import progress, say
from trackdl.data import sources
from trackdl.data.greek import load_letters
from trackdl.spec import DataSpec

__all__ = ["run"]


def run(experiment: DataSpec) -> None:
    """Fetch what the experiment names.

    Raises:
        TrackdlError: A data set cannot be had whole. Greek letters are rendered where none can be had.
    """
    lines = []
    with progress("data", len(experiment.datasets)) as advance:
        for name in experiment.datasets:
            if name == "greek":
                letters = load_letters()
                lines.append(f"greek    {len(letters.pictures)} letters, origin: {letters.origin}")
            else:
                folder = sources.fetch(name)
                lines.append(f"{name:8} {len(sources.DATASETS[name].files)} files in {folder}")
            advance(name)
    for line in lines:
        say(line)
