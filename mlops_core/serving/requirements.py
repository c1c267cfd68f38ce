"""
What has to be added to a model's environment so that the scoring app runs in it.

Read by whatever builds that environment. The lower bounds are the oldest versions the app is tested with; there are
no upper bounds, because a model's own pins must win.
"""

from __future__ import annotations

SERVING_REQUIREMENTS: tuple[str, ...] = (
    "uvicorn>=0.20",  # the HTTP server
    "prometheus-client>=0.14",  # /metrics
    "httptools>=0.5; platform_python_implementation == 'CPython'",  # parses HTTP in C
    "uvloop>=0.17; sys_platform != 'win32' and platform_python_implementation == 'CPython'",  # a faster event loop
)
