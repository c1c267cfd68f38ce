"""
Deployments as Azure container groups, one per model version, on the genuine management client.

Nothing here waits: a group is asked for, and whoever reconciles asks how it stands. While its image is being built there
is no group yet, and `create` is to be called again, as reconciling does for a deployment that is absent. A group that
exists is never put again, since that would restart it in place: `create` looks first, and the client may not repeat a PUT
by itself. Where an address comes from is not stored: only the last answer is kept, for seconds.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx

from mlops_core.adapters.azure.container_group import ASKED_TAG, PORT, ContainerOptions, ServedFiles, describe
from mlops_core.adapters.azure.container_groups import ContainerGroups
from mlops_core.adapters.azure.container_states import AGAIN, judge, started_at
from mlops_core.adapters.azure.scoring_image import ImageState
from mlops_core.domain.errors import PermanentError, TemporaryError
from mlops_core.domain.ids import DeploymentName
from mlops_core.domain.limits import cut
from mlops_core.ports import Clock, DeploymentRequest, DeploymentStatus

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

log = logging.getLogger(__name__)

ImageOf = Callable[[DeploymentRequest], ImageState]
"""Finds or begins to build the image of a deployment, without waiting."""
FilesOf = Callable[[DeploymentRequest], ServedFiles]
"""Lists what a deployment's container fetches, with digests. Raises: NotFoundError, PermanentError, TemporaryError."""

_READY_SECONDS = 3.0
_FRESH = timedelta(seconds=5)
# The resource manager throttles; callers of the scoring route do not have to notice for so long.
_STALE = timedelta(minutes=2)
_MOST_REMEMBERED = 200


@dataclass(frozen=True)
class _Waiting:
    """A deployment that has no group: its image is being built, or it cannot be made."""

    request: DeploymentRequest
    status: DeploymentStatus


@dataclass(frozen=True)
class _Trouble:
    """Why an app is not ready; `told` by itself, or else guessed from its silence."""

    words: str
    told: bool = False


class ContainerDeployer:
    """The `Deployer` of the Azure backend."""

    def __init__(
        self,
        options: ContainerOptions,
        credential: TokenCredential,
        *,
        image_of: ImageOf,
        files_of: FilesOf,
        clock: Clock,
        http: httpx.Client | None = None,
    ) -> None:
        """
        Deploy into a resource group.

        Args:
            http: Asks the scoring apps whether they are ready.
        """
        self._options = options
        self._groups = ContainerGroups(options, credential)
        self._image_of = image_of
        self._files_of = files_of
        self._clock = clock
        self._given_http = http
        self._lock = threading.Lock()
        self._addresses: dict[DeploymentName, tuple[Any, str | None]] = {}
        self._waiting: dict[DeploymentName, _Waiting] = {}

    def create(self, request: DeploymentRequest) -> None:
        """
        Ask for a deployment and return; the same name again finds the first.

        While its image is being built nothing is made: whoever asks this process for the status goes on with it, other
        processes say `absent`, so that the call is repeated.

        Raises:
            TemporaryError: Azure or the registry did not answer, or the group of this name is still being deleted.
            PermanentError: A quota is reached, the image could not be built, or Azure refuses the request.
        """
        try:
            self._create(request)
        except PermanentError as error:
            known = self._remembered(request.name)
            tail = known.status.log_tail if known is not None else ""
            self._remember(request, DeploymentStatus(request.name, "failed", None, cut(str(error)), tail))
            raise

    def _create(self, request: DeploymentRequest) -> None:
        if self._groups.exists(request.name):
            return
        image = self._image_of(request)
        if image.state == "failed":
            self._remember(request, DeploymentStatus(request.name, "failed", None, "", image.log_tail))
            raise PermanentError(f"Deployment '{request.name}' has no image to run: {image.reason}")
        if image.state == "building":
            self._remember(request, DeploymentStatus(request.name, "starting", None, "Its image is being built."))
            log.info("deployment waits for its image", extra={"deployment": request.name, "image": image.image})
            return
        files = self._files_of(request)
        self._groups.put(request, describe(request, self._options, image.image, files, self._clock.now()))
        self._forget(request.name)
        log.info("container group asked for", extra={"deployment": request.name, "image": image.image})

    def status(self, name: DeploymentName) -> DeploymentStatus:
        """
        Tell how a deployment stands; one that runs is asked whether it is ready.

        Raises: TemporaryError, PermanentError: Azure does not tell.
        """
        group = self._groups.find(name)
        if group is not None:
            return self._status_of(name, group)
        waiting = self._remembered(name)
        if waiting is None or waiting.status.state == "failed":
            return waiting.status if waiting is not None else DeploymentStatus(name, "absent")
        with contextlib.suppress(PermanentError):  # it is remembered, with its reason
            self.create(waiting.request)
        now = self._remembered(name)
        return now.status if now is not None else DeploymentStatus(name, "starting", None, "It was just asked for.")

    def address(self, name: DeploymentName) -> str | None:
        """
        Look up where a deployment answers: in what Azure said within the last seconds, else by asking it.

        Raises: TemporaryError: Azure does not answer, and its last answer is too old.
        """
        now = self._clock.now()
        with self._lock:
            known = self._addresses.get(name)
        if known is not None and now - known[0] < _FRESH:
            return known[1]
        try:
            group = self._groups.find(name)
        except TemporaryError:
            if known is not None and now - known[0] < _STALE:
                return known[1]
            raise
        found = self._address_of(group) if group is not None and judge(group).state != "absent" else None
        with self._lock:
            self._addresses[name] = (now, found)
        return found

    def log_tail(self, name: DeploymentName, *, lines: int = 60) -> str:
        """Read the last lines of a container's log; empty where there is none, or where Azure does not give it."""
        return self._groups.log_tail(name, lines=lines)

    def delete(self, name: DeploymentName) -> None:
        """End a deployment: Azure lets its container finish. An absent one is left alone."""
        self._forget(name)
        if self._groups.delete(name):
            log.info("container group deleted", extra={"deployment": name})

    def list(self) -> Sequence[DeploymentStatus]:
        """Tell how all deployments of this Headrace stand, asking for each: a listing does not say whether they run."""
        found = [self.status(name) for name in self._groups.names()]
        return [status for status in found if status.state != "absent"]

    @functools.cached_property
    def _http(self) -> httpx.Client:
        """Make the client when an app is first asked: a cold start that asks none need not wait for it."""
        return self._given_http or httpx.Client(timeout=_READY_SECONDS)

    def _status_of(self, name: DeploymentName, group: Any) -> DeploymentStatus:
        finding = judge(group)
        state, reason = finding.state, finding.reason
        since: object = (group.tags or {}).get(ASKED_TAG) if finding.new else None
        if finding.running:
            address = self._address_of(group)
            trouble = self._trouble(address)
            if trouble is None:
                return DeploymentStatus(name, "ready", address)
            reason = reason if finding.broken else f"{reason} {trouble.words}"
            state = "failed" if finding.broken else state
            # Whoever cannot be reached may be fine, and the network not: only its own word is held against it.
            since = started_at(group) if trouble.told else None
        if state == "starting" and self._is_late(since):
            minutes = f"{self._options.start_seconds / 60:.0f} minutes"
            more = f"Give it more memory ('release: serve' in mlops.yaml), or {AGAIN}."
            state, reason = "failed", f"It was not ready after {minutes}. {reason} {more}"
        tail = self._groups.log_tail(name) if finding.broken or (state == "failed" and finding.running) else ""
        return DeploymentStatus(name, state, None, reason, tail)

    def _is_late(self, since: object) -> bool:
        """Tell whether a start takes longer than any would; a moment that is not known is no reason to give up."""
        if isinstance(since, str):
            try:
                since = datetime.fromisoformat(since)
            except ValueError:
                return False
        return isinstance(since, datetime) and self._clock.now() - since > timedelta(
            seconds=self._options.start_seconds
        )

    def _address_of(self, group: Any) -> str | None:
        place = group.ip_address
        host = (place.fqdn or (place.ip if self._options.subnet else None)) if place is not None else None
        return f"http://{host}:{PORT}" if host else None

    def _trouble(self, address: str | None) -> _Trouble | None:
        """Ask the app itself; say why it is not ready, None where it is."""
        if address is None:
            return _Trouble("It has no address yet.")
        try:
            answer = self._http.get(f"{address}/health/ready", timeout=_READY_SECONDS)
        except httpx.TransportError as error:
            return _Trouble(f"It does not answer ({type(error).__name__}).")
        return None if answer.is_success else _Trouble(f"It says: {' '.join(answer.text.split())[:300]}", told=True)

    def _remembered(self, name: DeploymentName) -> _Waiting | None:
        with self._lock:
            return self._waiting.get(name)

    def _remember(self, request: DeploymentRequest, status: DeploymentStatus) -> None:
        """Keep what there is no group for, to tell it; a process that forgot says `absent`, which leads to the same."""
        with self._lock:
            while len(self._waiting) >= _MOST_REMEMBERED:
                self._waiting.pop(next(iter(self._waiting)))
            self._waiting[request.name] = _Waiting(request, status)

    def _forget(self, name: DeploymentName) -> None:
        with self._lock:
            self._waiting.pop(name, None)
            self._addresses.pop(name, None)
