"""
The image that versions are served with: one per content of an environment, built once by a run in the registry.

The content's hash is the image's tag and the build's name, so that whoever needs the same packages finds the same build,
whether it is under way, done or failed. A new version with unchanged dependencies builds nothing, and asks nothing of the
registry either once this process saw the image. Nothing here waits: `ensure` is called again until the image is there.

Task runs are used and not plain runs, because a task run has a name of our choosing: "look, then create by that name" does
not build twice where "schedule a run" would.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import httpx

from mlops_core.adapters.azure.failures import RETRIES, azure_calls
from mlops_core.adapters.azure.image_context import DEFAULT_BASE, Context, make_context
from mlops_core.adapters.azure.signed_logs import tail_of
from mlops_core.domain.errors import NotFoundError, TemporaryError
from mlops_core.domain.limits import LOG_LETTERS
from mlops_core.pipelines.plan import EnvironmentSpec
from mlops_core.ports import Clock

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.mgmt.containerregistrytasks import ContainerRegistryTasksMgmtClient

log = logging.getLogger(__name__)

_BUILDING = frozenset({"queued", "started", "running", "creating", "updating", ""})
_FAILED = frozenset({"failed", "canceled", "error", "timeout"})
# A failed build is told for so long; whoever asks later, such as by a retry, gets a new one.
_REMEMBERED = timedelta(minutes=5)
_HTTP_SECONDS = 30.0
_MOST_KNOWN = 500


@dataclass(frozen=True)
class ImageState:
    """How an image stands; `image` is its full name, known from the beginning."""

    state: Literal["building", "ready", "failed"]
    image: str
    reason: str = ""
    log_tail: str = ""


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """
    Where images are built and kept.

    Attributes:
        registry: Name of the registry; `login_server` is its address, `name.azurecr.io` unless given.
        base: Image with conda that environments are made in, unless they name one of Azure ML's.
        cores: Of the registry's build agent.
        client: Further arguments of the management client, such as another cloud's address.
    """

    subscription: str
    resource_group: str
    registry: str
    login_server: str = ""
    repository: str = "headrace/scoring"
    base: str = DEFAULT_BASE
    cores: int = 2
    timeout_seconds: int = 3600
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def image(self, digest: str) -> str:
        """Name the image of a content."""
        return f"{self.login_server or f'{self.registry}.azurecr.io'}/{self.repository}:{digest}"


class ScoringImages:
    """The scoring images of one registry."""

    def __init__(
        self, options: ImageOptions, credential: TokenCredential, clock: Clock, *, http: httpx.Client | None = None
    ) -> None:
        """
        Build into a registry.

        Args:
            http: Uploads sources and reads logs, by addresses that carry their own right.
        """
        self._options = options
        self._credential = credential
        self._clock = clock
        self._given_http = http
        self._ready: set[str] = set()

    def ensure(self, environment: EnvironmentSpec) -> ImageState:
        """
        Tell how the image of an environment stands, and begin to build it where nobody did.

        Raises: BadInputError: No image can be made of this environment. TemporaryError, PermanentError.
        """
        context = make_context(environment, self._options.base)
        image = self._options.image(context.digest)
        if image in self._ready:
            return ImageState("ready", image)
        name = f"headrace-{context.digest}"
        run = self._find(name)
        if run is None:
            self._build(name, context, force=None)
            return ImageState("building", image)
        state = self._state_of(run, image)
        if state.state == "failed" and self._is_old(run):
            self._build(name, context, force=_run_id(run) or "again")
            return ImageState("building", image)
        if state.state == "ready":
            if len(self._ready) >= _MOST_KNOWN:
                self._ready.clear()
            self._ready.add(image)
        return state

    def close(self) -> None:
        """Close the connections."""
        for made in ("_http", "_client"):
            if made in self.__dict__:
                getattr(self, made).close()

    @functools.cached_property
    def _http(self) -> httpx.Client:
        return self._given_http or _quiet_client()

    @functools.cached_property
    def _client(self) -> ContainerRegistryTasksMgmtClient:
        from azure.mgmt.containerregistrytasks import ContainerRegistryTasksMgmtClient

        given = {**RETRIES, **self._options.client}
        return ContainerRegistryTasksMgmtClient(self._credential, self._options.subscription, **given)

    @property
    def _place(self) -> tuple[str, str]:
        return self._options.resource_group, self._options.registry

    def _find(self, name: str) -> Any:
        try:
            with azure_calls(f"reading image build '{name}'"):
                return self._client.task_runs.get(*self._place, name)
        except NotFoundError:
            return None

    def _build(self, name: str, context: Context, *, force: str | None) -> None:
        from azure.mgmt.containerregistrytasks import models

        with azure_calls(f"beginning image build '{name}'"):
            upload = self._client.registries.get_build_source_upload_url(*self._place)
            self._upload(str(upload.upload_url), context.archive, name)
            request = models.DockerBuildRequest(
                docker_file_path="Dockerfile",
                source_location=upload.relative_path,
                image_names=[f"{self._options.repository}:{context.digest}"],
                is_push_enabled=True,
                platform=models.PlatformProperties(os="Linux", architecture="amd64"),
                agent_configuration=models.AgentProperties(cpu=self._options.cores),
                timeout=self._options.timeout_seconds,
            )
            wanted = models.TaskRun(properties=models.TaskRunProperties(run_request=request, force_update_tag=force))
            # One try: a second one, after an answer that was lost, would build again.
            once = dict.fromkeys(("retry_total", "retry_connect", "retry_read", "retry_status"), 0)
            self._client.task_runs.begin_create(*self._place, name, wanted, polling=False, **once)
        log.info("image build begun", extra={"build": name, "image": self._options.image(context.digest)})

    def _upload(self, address: str, archive: bytes, name: str) -> None:
        """Put the sources where the registry says; its address carries a signature, so nothing of it is told."""
        try:
            answer = self._http.put(address, content=archive, headers={"x-ms-blob-type": "BlockBlob"})
        except httpx.TransportError as error:
            raise TemporaryError(
                f"The sources of image build '{name}' were not taken: {type(error).__name__}."
            ) from None
        if not answer.is_success:
            raise TemporaryError(f"The sources of image build '{name}' were not taken: status {answer.status_code}.")

    def _state_of(self, run: Any, image: str) -> ImageState:
        made = run.properties
        result = made.run_result.properties if made.run_result is not None else None
        status = _word(result.status if result is not None else made.provisioning_state)
        if status == "succeeded":
            return ImageState("ready", image)
        if status in _FAILED:
            told = str(getattr(result, "run_error_message", None) or "").strip()
            reason = (
                f"Building scoring image '{image}' ended as '{status}'{f': {told}' if told else ''}. Its log says why; "
                "correct the model's own environment, or 'release: serve: environment' of mlops.yaml, then retry."
            )
            return ImageState("failed", image, reason, self._log_tail(_run_id(run)))
        if status not in _BUILDING:
            log.warning("unknown state of an image build, taken as under way", extra={"status": status[:60]})
        return ImageState("building", image)

    def _is_old(self, run: Any) -> bool:
        result = run.properties.run_result
        ended = result.properties.finish_time if result is not None else None
        if not isinstance(ended, datetime):
            return False
        ended = ended if ended.tzinfo is not None else ended.replace(tzinfo=UTC)
        return self._clock.now() - ended > _REMEMBERED

    def _log_tail(self, run_id: str) -> str:
        """Read a build's last lines; without them its failure is still told."""
        if not run_id:
            return ""
        try:
            with azure_calls(f"reading the log of image build '{run_id}'"):
                link = self._client.runs.get_log_sas_url(*self._place, run_id).log_link
        except NotFoundError:
            return ""
        return tail_of(self._http, str(link))[-LOG_LETTERS:]


def _quiet_client() -> httpx.Client:
    """Make a client of which nothing is logged: its own line tells whole addresses, and these carry signatures."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return httpx.Client(timeout=_HTTP_SECONDS)


def _run_id(run: Any) -> str:
    result = run.properties.run_result
    return str(result.properties.run_id or "") if result is not None else ""


def _word(status: object) -> str:
    """Read a status, which the client gives as text or as an enumeration."""
    return str(getattr(status, "value", status) or "").lower()
