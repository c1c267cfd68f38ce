"""What a watched run prints: each stage with its duration, the model's metrics, its gates with their numbers."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from builders import Bench
from commands import Headrace

from mlops_core.adapters.local import receive_hook
from mlops_core.services.progress import Position


def texts(bench: Bench, run_id: str, after: str = "") -> list[str]:
    return [line["text"] for line in bench.app.queries.progress(run_id, after)["lines"]]  # type: ignore[arg-type] - an id


def test_each_stage_is_told_with_what_it_took_and_the_gates_with_their_numbers(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()
    bench.clock.advance(75)
    bench.deliver(run_id, rmse=48.5)

    told = texts(bench, run_id)

    assert "building took 1 min 15 s" in told
    assert "diabetes version 1: rmse 48.5" in told
    assert "✓ rmse at most 60: 'rmse' is 48.5; it must be at most 60." in told
    assert told.index("building took 1 min 15 s") < told.index("diabetes version 1: rmse 48.5")


def test_a_look_tells_only_what_is_new(bench: Bench) -> None:
    run_id = bench.push()
    bench.drain()
    first = bench.app.queries.progress(run_id, "")
    bench.deliver(run_id)

    second = bench.app.queries.progress(run_id, first["next"])

    assert not {line["text"] for line in first["lines"]} & {line["text"] for line in second["lines"]}
    assert bench.app.queries.progress(run_id, second["next"])["lines"] == []


def test_while_the_serving_environment_is_made_a_line_says_so_once(bench: Bench) -> None:
    bench.deployer.ready_at_once = False
    run_id = bench.push()
    bench.deliver(run_id)
    [name] = bench.deployer.states
    bench.deployer.states[name] = replace(bench.deployer.states[name], reason="making the serving environment ready")

    first = bench.app.queries.progress(run_id, "")

    assert first["lines"][-1]["text"] == "making the serving environment ready"
    assert bench.app.queries.progress(run_id, first["next"])["lines"] == []


@pytest.mark.parametrize("text", ["", "1", "1.2.3", "a.b.c.d.e", "1.2.3.4.5.6", "-1.0.0.0.0"])
def test_a_position_that_is_none_is_the_beginning(text: str) -> None:
    assert Position.parse(text) == Position()


def watched(bench: Bench, address: str, run_id: str, capsys: pytest.CaptureFixture[str]) -> str:
    receive_hook.watch(address, run_id)
    return capsys.readouterr().out


@pytest.mark.usefixtures("headrace")
def test_the_push_ends_with_the_address_and_the_sum_of_its_stages(
    bench: Bench, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = bench.push()
    bench.drain()
    bench.clock.advance(3)
    bench.deliver(run_id)

    told = watched(bench, address, run_id, capsys)

    assert f"live: {address}/api/models/diabetes/score\nin 1 min 4 s: building 3.0 s, deploying 1 min 1 s\n" in told
    assert "    building took 3.0 s\n" in told
    assert "    ✓ rmse at most 60: 'rmse' is 50; it must be at most 60.\n" in told


@pytest.mark.usefixtures("headrace")
def test_the_push_of_a_worse_model_ends_with_the_gates_that_it_failed(
    bench: Bench, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = bench.push()
    bench.deliver(run_id, rmse=99.0)

    told = watched(bench, address, run_id, capsys)

    assert "REJECTED by 1 of 2 gates; what is in service stays:\n  ✗ rmse at most 60: 'rmse' is 99; it must be" in told
    assert f"the whole story: headrace show {run_id}" in told


def test_a_followed_run_prints_the_same_lines(bench: Bench, headrace: Headrace) -> None:
    run_id = bench.push()
    bench.deliver(run_id)

    done = headrace("logs", "--follow", run_id)

    assert done.exit_code == 0
    assert "diabetes version 1: rmse 50" in done.stdout


def test_a_push_without_a_controller_is_stored_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert receive_hook.main(tmp_path, "tiny", io.StringIO("")) == 0
    assert capsys.readouterr().out == "stored; no controller is up. Start it: headrace up. It will find this push.\n"


def test_a_controller_that_is_gone_costs_no_push(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Port 9 is "discard": nobody listens there.
    (tmp_path / "up.json").write_text(json.dumps({"address": "http://127.0.0.1:9"}))

    assert receive_hook.main(tmp_path, "tiny", io.StringIO("")) == 0
    assert "stored; the controller at http://127.0.0.1:9 does not answer." in capsys.readouterr().out


def test_a_run_that_a_look_at_the_branches_started_after_the_push_is_this_pushs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The hook takes a moment to start; what was found meanwhile was not delivered before."""
    ref = tmp_path / "refs" / "heads" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text("1" * 40)
    os.utime(ref, (1_000_000_000, 1_000_000_000))
    monkeypatch.chdir(tmp_path)

    pushed_at = receive_hook._updated_at("refs/heads/main")

    found = {"trigger": {"ordinal": "2001-09-09T01:46:40.500000Z"}}
    assert not receive_hook._is_of_earlier_push(found, pushed_at)
    assert receive_hook._is_of_earlier_push({"trigger": {"ordinal": "2001-09-09T01:46:39Z"}}, pushed_at)
    assert receive_hook._updated_at("refs/heads/none") is None


@pytest.mark.usefixtures("headrace")
def test_of_one_commit_on_two_branches_each_push_shows_the_run_of_its_own(
    bench: Bench, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both were told of in one webhook, which named the same run for the two: neither was there yet."""
    first, second = bench.push(1), bench.push(1, branch="feature")
    bench.deliver(first)
    bench.settle()

    receive_hook.watch(address, first, branch="main")
    assert capsys.readouterr().out.count("run diabetes-") == 1
    receive_hook.watch(address, first, branch="feature")

    told = capsys.readouterr().out
    assert f"run {second}\n" in told
    assert "live" not in told
    assert told.splitlines()[-1].startswith("skipped: ")


@pytest.mark.usefixtures("headrace")
def test_a_push_goes_on_with_a_controller_that_came_back_at_another_port(
    bench: Bench, address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = bench.push()
    bench.deliver(run_id)
    monkeypatch.setattr(receive_hook, "address_of_controller", lambda _: address)

    receive_hook.watch("http://127.0.0.1:9", run_id, folder=tmp_path)

    assert f"live: {address}/api/models/diabetes/score" in capsys.readouterr().out
