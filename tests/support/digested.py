"""Reads the package's code once, for every process that is forked after this module's import: it takes a second."""

from trackdl.system.code_digest import code_digest

code_digest("mnist")
