"""The scoring app in this process, over a scorer that a test made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import httpx

from mlops_core.serving.app import ScoringApp
from mlops_core.serving.options import Options
from mlops_core.serving.scorers import MlflowScorer, Scorer
from mlops_core.serving.signature import Signature

JSON = {"content-type": "application/json"}


class Same:
    """A model whose predictions are what it was given."""

    def predict(self, data: Any, params: Any = None) -> Any:
        return data


def scorer_of(signature: Signature | None) -> MlflowScorer:
    return MlflowScorer(Same(), signature, None, refuse_extra=False)


def ask(scorer: Scorer, *requests: httpx.Request, **options: Any) -> list[httpx.Response]:
    """Ask an app of one model, one request after the other."""

    async def conversation() -> list[httpx.Response]:
        app = ScoringApp(Options(model="m", name="model", version="7", **options), lambda: scorer)
        app._start_loading()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110 - it tells by HTTP alone
                await asyncio.sleep(0)
            return [await client.send(request) for request in requests]

    return asyncio.run(conversation())


def score(content: Any, headers: Mapping[str, str] = JSON, path: str = "/score") -> httpx.Request:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.Request("POST", f"http://app{path}", content=body, headers=dict(headers))


def get(path: str) -> httpx.Request:
    return httpx.Request("GET", f"http://app{path}")
