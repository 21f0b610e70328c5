"""A wheel also holds the report's experiment files and the heart table, which a checkout has beside the code."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithReport(build_py):
    """Copies them to `trackdl/shipped`, where `trackdl.system.paths` looks for them."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if not self.editable_mode:
            for folder in ("experiments", "data/heart"):
                shutil.copytree(folder, Path(self.build_lib, "trackdl", "shipped", folder), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithReport})
