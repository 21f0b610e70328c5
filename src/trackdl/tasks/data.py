"""Task `data`: fetch every data set and check its SHA-256, so that the other tasks need no network."""

import logging

from trackdl.data.download import datasets as sources
from trackdl.data.download import report_weights
from trackdl.data.greek.letters import load_letters
from trackdl.errors import DataMissing, InputError
from trackdl.spec import DataSpec
from trackdl.system.console import progress, say
from trackdl.tracking import runs

log = logging.getLogger(__name__)


def run(experiment: DataSpec) -> None:
    """Fetch the data sets that the experiment names.

    Raises:
        InputError: There is no data set of this name.
        TrackdlError: A data set is not available. This does not apply to the Greek letters, in whose place synthetic
            ones are rendered, nor to the report's weights, which nothing needs by default.
    """
    wanted = experiment.datasets or [name for name, each in sources.DATASETS.items() if not each.on_demand]
    if unknown := [name for name in wanted if name not in sources.DATASETS]:
        names = ", ".join(sources.DATASETS)
        raise InputError(f"key 'datasets': there is no data set {unknown[0]!r:.80}; the data sets are {names}")
    runs.close_abandoned("data")
    lines = []
    with runs.start(experiment) as run, progress("data", len(wanted)) as advance:
        for name in wanted:
            if name == "greek":
                letters = load_letters()
                digest, words = letters.digest, f"{len(letters.names)} letters, origin: {letters.origin}"
            elif name == report_weights.NAME:
                digest, words = _weights()
            else:
                folder = sources.fetch(name)
                digest = sources.DATASETS[name].digest
                words = f"{len(sources.DATASETS[name].files)} files in {folder}"
            if digest:
                run.dataset(runs.describe_dataset(name, digest, words), "fetched")
            lines.append(f"{name:14} {words}")
            advance(name)
        run.describe("\n".join(f"- {line}" for line in lines))
    for line in lines:
        say(line)


def _weights() -> tuple[str, str]:
    """Return the digest of the report's weights, empty if they are not available, and a description."""
    try:
        return report_weights.DIGEST, f"{len(report_weights.load_report_weights())} tensors"
    except DataMissing as error:
        log.warning("Task 3 cannot start from the report's own weights on this machine. %s", error)
        return "", "not available"
