"""`python -m mlops_core.cli`: the command line without its script, for processes that it starts itself."""

from __future__ import annotations

from mlops_core.cli.app import main

main()
