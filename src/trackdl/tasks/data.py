"""Task `data`: get every data set, checked against its SHA-256, so that the other tasks can do without a network."""

from trackdl.console import progress, say
from trackdl.data import sources
from trackdl.data.greek import load_letters
from trackdl.spec import DataSpec
from trackdl.tracking import runs

__all__ = ["run"]


def run(experiment: DataSpec) -> None:
    """Fetch what the experiment names.

    Raises:
        TrackdlError: A data set cannot be had whole. Greek letters are rendered where none can be had.
    """
    runs.close_abandoned("data")
    lines = []
    with runs.start(experiment, name="data") as run, progress("data", len(experiment.datasets)) as advance:
        for name in experiment.datasets:
            if name == "greek":
                letters = load_letters()
                digest, words = letters.digest, f"{len(letters.pictures)} letters, origin: {letters.origin}"
            else:
                folder = sources.fetch(name)
                digest = sources.DATASETS[name].digest
                words = f"{len(sources.DATASETS[name].files)} files in {folder}"
            run.dataset(runs.describe_dataset(name, digest, words), "fetched")
            lines.append(f"{name:8} {words}")
            advance(name)
    for line in lines:
        say(line)
