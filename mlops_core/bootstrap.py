"""
The composition root: which backend this process has. Nothing else sees an adapter.

`function_app.py` asks for `application()` at its first call; `headrace up` configures the settings first and also takes
what the local host needs (queue, topics, services). Both get the same objects: one composition per process.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mlops_core.application import Application
from mlops_core.domain.errors import PermanentError
from mlops_core.settings import Settings, process_environment, read_settings

if TYPE_CHECKING:
    from mlops_core.composition.local import LocalParts

_lock = threading.Lock()
_configured: list[Settings] = []
_composed: list[Application] = []
_local: list[LocalParts] = []
_used: list[Application] = []


def configure(settings: Settings) -> None:
    """Use these settings in this process instead of the environment's. Must come before the first use."""
    with _lock:
        if _composed:
            raise RuntimeError("the application is composed already")
        _configured[:] = [settings]


def use(application: Application | None) -> None:
    """Answer with this application instead of a composed one, as tests of the entry points do; None ends that."""
    with _lock:
        _used[:] = [] if application is None else [application]


def application() -> Application:
    """Give this process' application, composed at the first call. Raises PermanentError: The settings are wrong."""
    if _used:
        return _used[0]
    if not _composed:
        _compose()
    return _composed[0]


def local_parts() -> LocalParts:
    """Give this process' local backend with what its host runs beside it. Raises PermanentError: It has another one."""
    if not _composed:
        _compose()
    if not _local:
        raise PermanentError(
            "HEADRACE_BACKEND is 'azure', and this command runs the controller on this machine. Unset it, or deploy with "
            "`azd up` (docs/azure.md)."
        )
    return _local[0]


def _compose() -> None:
    with _lock:
        if _composed:
            return
        settings = _configured[0] if _configured else read_settings()
        if settings.backend == "azure":
            from mlops_core.composition.azure import build_azure

            _composed.append(build_azure(settings))
        else:
            from mlops_core.composition.local import build_local

            _local.append(build_local(settings, process_environment()))
            _composed.append(_local[0].application)
