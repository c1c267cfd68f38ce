"""The page at `/`: which model this is, and a request to copy. No script, nothing from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem;"
    "color:#1d2733;background:#fff}"
    "pre{background:#f3f5f7;border:1px solid #d5dbe1;border-radius:6px;padding:1rem;"
    "white-space:pre-wrap;overflow-wrap:anywhere}"
    "a{color:#0b5cad}h1{font-size:1.6rem;margin-bottom:.2rem}.state{color:#44515e;margin-top:0}"
    "@media(prefers-color-scheme:dark){body{background:#14191f;color:#e6eaee}pre{background:#1d242c;border-color:#36414c}"
    "a{color:#7db8ff}.state{color:#b3bec9}}"
)


def page(name: str, version: str, state: str, example: Any, host: str) -> bytes:
    """Write the page as HTML; all texts are escaped."""
    title = html.escape(f"{name}, version {version}" if version else name)
    body = json.dumps(example).replace("'", "'\\''")
    command = f"curl http://{host}/score -H 'Content-Type: application/json' -d '{body}'"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f'<h1>{title}</h1><p class="state">{html.escape(state)}</p>'
        f"<h2>Ask for a prediction</h2><pre>{html.escape(command)}</pre>"
        '<p><a href="/schema">Schema (OpenAPI)</a> &middot; <a href="/metrics">Metrics</a> &middot; '
        '<a href="/health/ready">Readiness</a></p></body></html>'
    ).encode()
