"""`python -m mlops_core.serving`: the entry point of a scoring process, the one place that reads its environment."""

from __future__ import annotations

import logging
import os
import sys

from mlops_core.serving.errors import ServingError
from mlops_core.serving.model_dir import discard
from mlops_core.serving.options import Options, read_options
from mlops_core.serving.server import listen, load_scorer, serve, write_port

_log = logging.getLogger("mlops_core.serving")


def main(arguments: list[str]) -> int:
    """Serve or check one model; a known error becomes one sentence and exit code 1."""
    try:
        options = read_options(arguments, os.environ)  # noqa: TID251 - the entry point hands the environment on
        logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        if options.check:
            return _check(options)
        listener = listen(options)
        port = write_port(listener, options.port_file)
        _log.info("listening on http://%s:%d", options.host, port)
        return serve(options, listener)
    except ServingError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _check(options: Options) -> int:
    scorer = load_scorer(options)
    checked = "has a signature" if scorer.signature is not None else "has no signature, so requests will not be checked"
    sys.stdout.write(f"Model '{options.name}' was loaded and {checked}.\n")
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    discard()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # A model thread that hangs, or a library's own threads, must not keep a stopped process alive.
    os._exit(code)
