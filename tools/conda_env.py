"""Write conda.yaml from requirements.lock, the one list of pins: `python tools/conda_env.py` (`make lock` calls it).

MLflow names an environment after conda.yaml's content, so every pin is listed in it: a changed pin makes a new
environment. A test compares the two files.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.11"

HEAD = f"""\
# Made from requirements.lock by tools/conda_env.py (`make lock`); change pyproject.toml and make it anew.
name: trackdl
channels: [conda-forge]
dependencies:
  - python={PYTHON}
  - pip
  - pip:
"""


def render(lock: str) -> str:
    """Return conda.yaml's text for the text of a lock file."""
    pins = [line.rstrip() for line in lock.splitlines() if line[:1].isalnum()]
    return HEAD + "".join(f'      - "{pin}"\n' for pin in pins)


if __name__ == "__main__":
    (ROOT / "conda.yaml").write_text(render((ROOT / "requirements.lock").read_text()))
