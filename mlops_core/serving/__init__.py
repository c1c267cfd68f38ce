"""
The scoring web app: one module tree for a container and for a process on a laptop.

It runs in the *model's* own environment, which may be an old one (Python 3.9 and later), so it imports only the
standard library, uvicorn and prometheus_client, and loads numpy, pandas, mlflow and yaml when a model needs them.
Nothing else of the project is imported from here. This module stays empty of imports: `digest` and `requirements` are
used by others, who should not pay for a web server.
"""
