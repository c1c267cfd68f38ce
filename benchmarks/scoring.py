"""
Requests per second of the scoring app against a bare FastAPI handler with the same model, one worker each.

The model is `Pipeline(StandardScaler, Ridge)` on scikit-learn's diabetes data; each request has one row. Both run
under uvicorn with uvloop and httptools, on loopback, one at a time; the load comes from a process of its own, over
raw sockets. Rounds alternate, so that a busy moment of the machine hits both; the ratio is that of the medians.

    python benchmarks/scoring.py [--seconds 3] [--rounds 5] [--async-handler] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import table

ROOT = Path(__file__).resolve().parent.parent
CONNECTIONS = (1, 16)
TARGETS = {1: 1.2, 16: 3.0}
COLUMNS = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
ROW = [0.038, 0.0507, 0.0617, 0.0219, -0.0442, -0.0348, -0.0434, -0.0026, 0.0199, -0.0176]

BARE_HANDLER = """
import sys, mlflow.sklearn, pandas, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

class Row(BaseModel):
    age: float; sex: float; bmi: float; bp: float; s1: float; s2: float; s3: float; s4: float; s5: float; s6: float

model = mlflow.sklearn.load_model(sys.argv[1])
app = FastAPI()

@app.post("/score")
def score(row: Row) -> list[float]:
    return model.predict(pandas.DataFrame([row.model_dump()])).tolist()

@app.get("/health/ready")
def ready() -> str:
    return "ready"

uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


def save_model(folder: Path) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    warnings.simplefilter("ignore")
    features, target = load_diabetes(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), Ridge()).fit(features, target)
    signature = infer_signature(features, model.predict(features))
    mlflow.sklearn.save_model(
        model, str(folder), signature=signature, serialization_format="cloudpickle", pip_requirements=["scikit-learn"]
    )


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(command: list[str], port: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # noqa: TID251 - handed to both alike
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return process
    process.kill()
    message = f"'{command[1]}' was not ready within 120 seconds."
    raise TimeoutError(message)


def bodies() -> dict[str, bytes]:
    return {
        "headrace": json.dumps({"input_data": {"columns": COLUMNS, "index": [0], "data": [ROW]}}).encode(),
        "fastapi": json.dumps(dict(zip(COLUMNS, ROW, strict=True))).encode(),
    }


class Client(asyncio.Protocol):
    """One connection that sends the next request as soon as it has the whole answer to the last."""

    def __init__(self, request: bytes) -> None:
        self.request, self.buffer, self.answers, self.open = request, b"", 0, True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(self.buffer.decode())
        self.answers, self.buffer = self.answers + 1, b""
        if self.open:
            self.transport.write(self.request)


async def load(port: int, body: bytes, connections: int, seconds: float) -> float:
    fields = ["Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    head = "\r\n".join(["POST /score HTTP/1.1", *fields, "", ""])
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Client(head.encode() + body), "127.0.0.1", port)
        for _ in range(connections)
    ]
    clients = [client for _, client in made]
    await asyncio.sleep(seconds * 0.2)
    before, start_time = sum(client.answers for client in clients), time.perf_counter()
    await asyncio.sleep(seconds)
    rate = (sum(client.answers for client in clients) - before) / (time.perf_counter() - start_time)
    for client in clients:
        client.open = False
        client.transport.close()
    return rate


def measure(port: int, name: str, connections: int, seconds: float) -> float:
    command = [sys.executable, __file__, "--load", f"{port},{name},{connections},{seconds}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(seconds: float, rounds: int, *, async_handler: bool) -> dict[int, dict[str, float]]:
    rates: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model, ports = Path(folder, "model"), {"headrace": free_port(), "fastapi": free_port()}
        save_model(model)
        bare = Path(folder, "bare.py")
        bare.write_text(BARE_HANDLER.replace("def score(", "async def score(") if async_handler else BARE_HANDLER)
        ours = [sys.executable, "-m", "mlops_core.serving", "--model", str(model), "--port", str(ports["headrace"])]
        processes = [
            start(ours, ports["headrace"]),
            start([sys.executable, str(bare), str(model), str(ports["fastapi"])], ports["fastapi"]),
        ]
        try:
            for number in range(rounds):
                for connections in CONNECTIONS:
                    order = ("headrace", "fastapi") if number % 2 else ("fastapi", "headrace")
                    for name in order:
                        rate = measure(ports[name], name, connections, seconds)
                        rates.setdefault((name, connections), []).append(rate)
        finally:
            for process in processes:
                process.terminate()
                process.wait(30)
    results = {}
    for connections in CONNECTIONS:
        ours_median = statistics.median(rates["headrace", connections])
        bare_median = statistics.median(rates["fastapi", connections])
        ratio = ours_median / bare_median
        results[connections] = {"headrace": ours_median, "fastapi": bare_median, "ratio": ratio}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--async-handler", action="store_true", help="the bare handler as a coroutine, without a thread"
    )
    parser.add_argument("--load", help=argparse.SUPPRESS)
    table.add_option(parser)
    arguments = parser.parse_args()
    if arguments.load:
        port, name, connections, seconds = arguments.load.split(",")
        print(asyncio.run(load(int(port), bodies()[name], int(connections), float(seconds))))
        return
    results = compare(arguments.seconds, arguments.rounds, async_handler=arguments.async_handler)
    what, against = "scoring requests per second, one row, scikit-learn", "bare FastAPI handler, same model"
    rows = [
        table.at_least(f"{what}, {number} connection{'s'[: number - 1]}", against, TARGETS[number], row["ratio"])
        for number, row in results.items()
    ]
    table.note(rows, arguments.rows)
    if arguments.json:
        print(json.dumps(results))
        return
    print("connections  headrace/s  fastapi/s  ratio  target")
    for connections, row in results.items():
        line = f"{connections:11d}  {row['headrace']:10.0f}  {row['fastapi']:9.0f}  {row['ratio']:5.2f}"
        print(f"{line}  {TARGETS[connections]:6.1f}")


if __name__ == "__main__":
    main()
