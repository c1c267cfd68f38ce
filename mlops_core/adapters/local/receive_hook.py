"""
The `post-receive` hook: tell the controller of a push as a repository host would, then print the run as it goes.

git shows what is printed here as `remote: ...`. Ending the push (Ctrl-C, a closed terminal) ends only the watching. Where
no controller is up, the push is stored all the same: the controller finds it by its branch when it starts.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import hmac
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from mlops_core.adapters.hosts.local import SIGNATURE_HEADER
from mlops_core.adapters.local.repositories import webhook_secret
from mlops_core.adapters.local.room import shortage
from mlops_core.adapters.local.running import address_of_controller
from mlops_core.domain.ids import run_of_push_to
from mlops_core.pipelines.results import length

_TRIES = 3
_POLL_SECONDS = 0.3
_MOST_CHANGED = 1_000
# Shorter stages are left out of the sum at the end.
_WORTH_TELLING = 0.05
_LONG_SILENCE_SECONDS = 30.0
# Longer than the slowest training; whoever waits so long has better ways to look.
_PATIENCE_SECONDS = 6 * 3600


def main(data_folder: Path, repository: str, lines: Iterable[str]) -> int:
    """Handle a push. Always returns 0: the refs are updated already, and git could not take that back."""
    pushes = [_push(line) for line in lines if line.strip()]
    address = address_of_controller(data_folder)
    if address is None:
        say("stored; no controller is up. Start it: headrace up. It will find this push.")
        return 0
    answer = _tell(address, data_folder, repository, pushes)
    if answer is None:
        return 0
    if not answer["runs"]:
        say(_why_nothing(pushes))
    for run in answer["runs"]:
        ref = f"refs/heads/{run['branch']}"
        pushed_at = next((_updated_at(ref) or push["pushed_at"] for push in pushes if push["ref"] == ref), None)
        watch(address, run["run_id"], branch=run["branch"], pushed_at=pushed_at, folder=data_folder)
    return 0


def say(text: str) -> None:
    """Print for whoever pushes; a terminal that is gone is no reason to stop."""
    with contextlib.suppress(BrokenPipeError, OSError):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def _updated_at(ref: str) -> str | None:
    """
    Say when a ref was updated; None where git keeps it elsewhere than in a file of its own.

    A little later this hook runs, and in between a look at the branches may have found the push: its run is this push's.
    """
    try:
        return datetime.fromtimestamp(Path(ref).stat().st_mtime, UTC).isoformat()
    except (OSError, ValueError):
        return None


def _why_nothing(pushes: list[dict[str, Any]]) -> str:
    """Say why a push starts no run."""
    if all(push["ref"].startswith("refs/tags/") for push in pushes):
        return "nothing to do: tags are stored, and branches are built"
    if all(set(push["after"]) == {"0"} for push in pushes):
        return "nothing to do: a deleted branch stops no run, and what it delivered stays in service"
    return "nothing to do: no branch was pushed that Headrace builds"


def _push(line: str) -> dict[str, Any]:
    before, after, ref = line.split()
    deleted = set(after) == {"0"}
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "pushed_at": datetime.now(UTC).isoformat(),
        "pushed_by": getpass.getuser(),
        "message": "" if deleted else _git("log", "-1", "--format=%s", after),
        "changed": None if deleted else _changed(before, after),
    }


def _changed(before: str, after: str) -> list[str] | None:
    if set(before) == {"0"}:
        return None
    # With -z, names are as they are; without, git quotes those that are not ASCII.
    names = [name for name in _git("diff", "--name-only", "--no-renames", "-z", before, after).split("\0") if name]
    return names if 0 < len(names) <= _MOST_CHANGED else None


def _git(*arguments: str) -> str:
    # In a hook, GIT_DIR is the repository that was pushed to.
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip()


def _tell(address: str, data_folder: Path, repository: str, pushes: list[dict[str, Any]]) -> dict[str, Any] | None:
    body = json.dumps({"repository": repository, "pushes": pushes}).encode()
    signature = hmac.new(webhook_secret(data_folder), body, hashlib.sha256).hexdigest()
    headers = {SIGNATURE_HEADER: f"sha256={signature}", "content-type": "application/json"}
    for number in range(_TRIES):
        try:
            answer = httpx.post(f"{address}/api/webhooks/local", content=body, headers=headers, timeout=30.0)
        except httpx.HTTPError:
            time.sleep(0.5 * (number + 1))
            continue
        if answer.is_success:
            view: dict[str, Any] = answer.json()
            return view
        say(f"the controller refused the push: {_error(answer)}")
        return None
    say(f"stored; the controller at {address} does not answer. Start it: headrace up. It will find this push.")
    return None


def _error(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"


def watch(
    address: str, run_id: str, *, branch: str = "", pushed_at: str | None = None, folder: Path | None = None
) -> None:
    """
    Print a run as it goes, to its end or until it waits for a person.

    Args:
        branch: The one that was pushed: where one push brings a commit to two branches, the second has a run of its own.
        pushed_at: When the push was made: a run that an earlier push of the same commit started is no news.
        folder: The data folder; a full disk there is told when a run stands still.
    """
    say(f"run {run_id}")
    deadline = time.monotonic() + _PATIENCE_SECONDS
    after, view, silence = "", None, _Silence(folder)
    with httpx.Client(timeout=30.0) as client:
        while time.monotonic() < deadline:
            view = _look(client, f"{address}/api/runs/{run_id}/progress", after)
            if view is None:
                silence.tell_if_gone()
                # One that was started again may be at another port.
                address = (address_of_controller(folder) if folder is not None else None) or address
                time.sleep(_POLL_SECONDS)
                continue
            own = _run_of_branch(view, branch)
            if not after and own is not None and own != run_id:
                run_id = own
                say(f"run {run_id}")
                continue
            if not after and _is_of_earlier_push(view, pushed_at):
                _say_known(run_id, view)
                if view["ended"]:
                    return
            for line in _worth_printing(view):
                _print_line(line)
                silence.broken()
            silence.tell(view["state"])
            if view["ended"] or view["state"] == "awaiting_approval":
                break
            if view["next"] == after:
                time.sleep(_POLL_SECONDS)
            after = view["next"]
    if view is not None:
        _print_end(address, run_id, view)


def _run_of_branch(view: dict[str, Any], branch: str) -> str | None:
    """Name the run of a branch, where the one that was looked at is of the same commit on another."""
    trigger = view["trigger"]
    if not branch or trigger["kind"] != "push" or trigger["branch"] == branch or trigger["commit"] is None:
        return None
    return run_of_push_to(view["project"], trigger["commit"], branch)


class _Silence:
    """Says now and then that a run still goes on: a step that trains for an hour prints nothing of its own."""

    def __init__(self, folder: Path | None) -> None:
        self._folder, self._gone = folder, False
        self._since = self._state_since = time.monotonic()
        self._state = ""

    def broken(self) -> None:
        """Something was printed."""
        self._since = time.monotonic()

    def tell_if_gone(self) -> None:
        """Say once that the controller was stopped; it finds the run again when it starts."""
        if self._gone or self._folder is None or address_of_controller(self._folder) is not None:
            return
        self._gone = True
        say("    the controller was stopped; this goes on when it is up again: headrace up. Ctrl-C ends the watching")

    def tell(self, state: str) -> None:
        """Print a line where nothing was printed for long."""
        now, self._gone = time.monotonic(), False
        if state != self._state:
            self._state, self._state_since = state, now
        if now - self._since >= _LONG_SILENCE_SECONDS:
            say(f"    still {state}, for {length(now - self._state_since)}")
            full = shortage(self._folder) if self._folder else None
            if full:
                say(f"    {full}")
            self.broken()


def _worth_printing(view: dict[str, Any]) -> list[dict[str, Any]]:
    """Leave out what the end of a run says again: the state that it ended in, and the gates that failed."""
    lines: list[dict[str, Any]] = view["lines"]
    if not view["ended"] or view["state"] == "live":
        return lines
    ends = [line for line in lines if line["kind"] == "state" and line["state"] == view["state"]]
    failed = [line for line in lines if line["kind"] == "gate" and line["text"].startswith("✗")]
    again = [*ends[-1:], *(failed if view["state"] == "rejected" else [])]
    return [line for line in lines if line not in again]


def _is_of_earlier_push(view: dict[str, Any], pushed_at: str | None) -> bool:
    started = datetime.fromisoformat(view["trigger"]["ordinal"])
    return pushed_at is not None and started < datetime.fromisoformat(pushed_at)


def _say_known(run_id: str, view: dict[str, Any]) -> None:
    commit, at = str(view["trigger"]["commit"])[:12], view["created_at"][:16].replace("T", " ")
    if not view["ended"]:
        say(f"commit {commit} is being delivered already, since {at} UTC:")
        return
    say(f"commit {commit} was delivered before, at {at} UTC, so nothing is started. That run is '{view['state']}':")
    say(f"  {view['reason'].splitlines()[0][:200]}")
    say(f"run it again: headrace retrain {view['project']}   (its story: headrace show {run_id})")
    if view["state"] == "retired" and view.get("model") and view.get("version"):
        say(f"bring its version back: headrace rollback {view['model']} --to {view['version']}")


def _look(client: httpx.Client, progress: str, after: str) -> dict[str, Any] | None:
    """Look at a run; None where it is not there yet (its event is on the way) or the controller is busy."""
    try:
        answer = client.get(progress, params={"after": after})
    except httpx.HTTPError:
        return None
    if not answer.is_success:
        return None
    view: dict[str, Any] = answer.json()
    return view


def _print_line(line: dict[str, Any]) -> None:
    if line["kind"] == "state":
        state, _, reason = line["text"].partition(": ")
        say(f"  {state:<18} {reason.splitlines()[0][:100] if reason else ''}".rstrip())
    elif line["kind"] == "gate":
        say(f"    {line['text'][:200]}")
    elif line["kind"] in ("stage", "metric", "took"):
        for text in line["text"].splitlines()[:3]:
            say(f"    {text[:110]}")


def _print_end(address: str, run_id: str, view: dict[str, Any]) -> None:
    if view["state"] == "live":
        say(f"live: {address}{view['address']}")
        say(_durations(view["stages"]))
    elif view["state"] == "awaiting_approval":
        say(f"waits for a person: headrace approve {run_id}  (or: headrace reject {run_id})")
    elif view["ok"]:
        say(f"{view['state']}: {view['reason']}")
    else:
        _print_reason(view)
        for text in view["log_tail"].splitlines()[-25:]:
            say(f"  | {text}")
        say(f"the whole story: headrace show {run_id}")


def _print_reason(view: dict[str, Any]) -> None:
    if view["state"] != "rejected" or not view["gates"]:
        say(f"{view['state'].upper()}: {view['reason']}")
        return
    verdicts = view["gates"][-1]["verdicts"]
    failed = [verdict for verdict in verdicts if verdict["outcome"] == "failed"]
    say(f"REJECTED by {len(failed)} of {len(verdicts)} gates; what is in service stays:")
    for verdict in failed:
        segment = f" [{verdict['segment']}]" if verdict["segment"] else ""
        say(f"  ✗ {verdict['gate']}{segment}: {verdict['reason']}")


def _durations(stages: list[dict[str, Any]]) -> str:
    told = [f"{stage['state']} {length(stage['seconds'])}" for stage in stages if stage["seconds"] >= _WORTH_TELLING]
    return f"in {length(sum(stage['seconds'] for stage in stages))}: {', '.join(told)}"


if __name__ == "__main__":
    # Ctrl-C of the push ends the watching, silently.
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.stdin))
