"""The pure pieces of the executor: conda files, commands, trials, stopping, digests, log tails."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_core.domain.errors import BadInputError
from mlops_core.pipelines.bayesian import draw_next
from mlops_core.pipelines.commands import fill_in
from mlops_core.pipelines.conda import read_conda
from mlops_core.pipelines.interpreters import PythonMissingError, find_interpreter
from mlops_core.pipelines.log_tail import cut
from mlops_core.pipelines.results import StepResult
from mlops_core.pipelines.reuse import ReuseCache
from mlops_core.pipelines.search_space import EarlyTermination, Sweep
from mlops_core.pipelines.step_files import copy_code, digest_of_code, digest_of_path
from mlops_core.pipelines.step_process import allowed
from mlops_core.pipelines.stopping import should_stop
from mlops_core.pipelines.trials import Drawn, draw_trials


def sweep(algorithm: str = "random", total: int = 5, **space: dict[str, object]) -> Sweep:
    return Sweep.model_validate(
        {
            "algorithm": algorithm,
            "objective": {"goal": "minimize", "primary_metric": "rmse"},
            "limits": {"max_total_trials": total},
            "search_space": space,
        }
    )


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("numpy=1.26.4", "numpy==1.26.4"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("numpy=1.26.4=py311_0", "numpy==1.26.4"),
        ("numpy>=1.2,<2", "numpy>=1.2,<2"),
        ("conda-forge::pandas", "pandas"),
        ("pytorch=2.1", "torch==2.1.*"),
    ],
)
def test_a_conda_package_becomes_its_twin_on_pypi(entry: str, line: str) -> None:
    assert read_conda({"dependencies": ["python=3.11", "pip", entry]}).lines == (line,)


def test_pip_lines_of_a_conda_file_are_taken_as_they_are() -> None:
    conda = {"dependencies": ["pip", {"pip": ["mlflow==2.9.2", "# a comment", "pandas<2"]}]}

    assert read_conda(conda).lines == ("mlflow==2.9.2", "pandas<2")


def test_what_is_no_python_package_is_left_out_and_said() -> None:
    read = read_conda({"dependencies": ["cudatoolkit=11.8", "pandas"]})

    assert read.lines == ("pandas",)
    assert "'cudatoolkit=11.8' is no Python package" in read.notes[0]


def test_a_python_that_is_not_installed_is_missed_by_name() -> None:
    with pytest.raises(PythonMissingError, match=r"asks for Python 3\.99"):
        find_interpreter("env", "3.99", "exact")


def test_the_nearest_python_is_taken_and_said() -> None:
    interpreter, note = find_interpreter("env", "3.99", "nearest")

    assert Path(interpreter.path).exists()
    assert note is not None
    assert "Python 3.99 is not installed" in note


def test_a_command_is_filled_in() -> None:
    template = "python a.py --x ${{inputs.x}} --y ${{ search_space.y }} --out ${{outputs.o}}"

    assert fill_in(template, inputs={"x": "1"}, outputs={"o": "/o"}, search_space={"y": "2"}) == (
        "python a.py --x 1 --y 2 --out /o"
    )


def test_an_optional_part_goes_with_its_input() -> None:
    template = "a $[[--x ${{inputs.x}}]] $[[--y ${{inputs.y}}]]"

    assert fill_in(template, inputs={"x": "1", "y": None}, outputs={}, search_space={}).split() == ["a", "--x", "1"]


def test_a_placeholder_without_a_value_is_an_error() -> None:
    with pytest.raises(BadInputError, match=r"inputs\.z"):
        fill_in("${{inputs.z}}", inputs={}, outputs={}, search_space={})


def test_a_grid_is_every_combination() -> None:
    space = {"a": {"type": "choice", "values": [1, 2]}, "b": {"type": "choice", "values": ["x", "y"]}}

    assert list(draw_trials(sweep("grid", 10, **space), 0)) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]


@pytest.mark.parametrize(
    "space",
    [
        {"type": "uniform", "min_value": 1, "max_value": 2},
        {"type": "quniform", "min_value": 1, "max_value": 20, "q": 0.5},
        {"type": "loguniform", "min_value": -3, "max_value": 0},
        {"type": "qloguniform", "min_value": 0, "max_value": 5, "q": 1},
        {"type": "normal", "mu": 0, "sigma": 1},
        {"type": "qnormal", "mu": 10, "sigma": 5, "q": 1},
        {"type": "lognormal", "mu": 0, "sigma": 1},
        {"type": "qlognormal", "mu": 2, "sigma": 1, "q": 1},
        {"type": "randint", "upper": 100},
        {"type": "choice", "values": [1, 2, 3, 4, 5, 6]},
    ],
    ids=lambda space: space["type"],
)
def test_every_space_is_drawn_from_and_the_seed_decides(space: dict[str, object]) -> None:
    first = list(draw_trials(sweep(x=space), 7))

    assert len(first) == 5
    assert first == list(draw_trials(sweep(x=space), 7))
    assert first != list(draw_trials(sweep(x=space), 8))


@given(low=st.floats(-5, 5), width=st.floats(0.1, 5), seed=st.integers(0, 1000))
def test_a_uniform_draw_lies_between_its_ends(low: float, width: float, seed: int) -> None:
    space = {"type": "uniform", "min_value": low, "max_value": low + width}

    assert all(low <= float(trial["x"]) <= low + width for trial in draw_trials(sweep(x=space), seed))


@pytest.mark.parametrize(
    ("space", "drawn"),
    [
        ({"type": "uniform", "min_value": -1, "max_value": 1}, lambda x: -1 <= x <= 1),
        ({"type": "quniform", "min_value": 0, "max_value": 1, "q": 0.1}, lambda x: x in [n / 10 for n in range(11)]),
        ({"type": "loguniform", "min_value": -3, "max_value": 0}, lambda x: math.exp(-3) <= x <= 1),
        ({"type": "qloguniform", "min_value": 0, "max_value": 5, "q": 2}, lambda x: x % 2 == 0 and 0 <= x <= 150),
        ({"type": "qnormal", "mu": 10, "sigma": 5, "q": 0.5}, lambda x: x % 0.5 == 0),
        ({"type": "lognormal", "mu": 0, "sigma": 1}, lambda x: x > 0),
        ({"type": "qlognormal", "mu": 2, "sigma": 1, "q": 1}, lambda x: x >= 0 and x == int(x)),
        ({"type": "randint", "upper": 3}, lambda x: x in (0, 1, 2)),
        ({"type": "choice", "values": ["a", True, 0.5]}, lambda x: x in ("a", True, 0.5)),
    ],
    ids=lambda each: each["type"] if isinstance(each, dict) else "",
)
def test_what_is_drawn_lies_in_its_space(space: dict[str, object], drawn: Callable[[Any], bool]) -> None:
    values = [trial["x"] for trial in draw_trials(sweep(total=300, x=space), 3)]
    assert values
    assert all(map(drawn, values)), values


@pytest.mark.parametrize(("kind", "mean"), [("normal", 5.0), ("lognormal", 5.0)])
def test_the_bells_have_their_mean_and_their_deviation(kind: str, mean: float) -> None:
    draws = [float(trial["x"]) for trial in draw_trials(sweep(total=2000, x={"type": kind, "mu": 5, "sigma": 2}), 1)]
    values = draws if kind == "normal" else [math.log(value) for value in draws]
    assert fmean(values) == pytest.approx(mean, abs=0.2)
    assert stdev(values) == pytest.approx(2, abs=0.2)


def test_the_log_spaces_have_the_base_that_the_sampling_names() -> None:
    based = sweep(x={"type": "loguniform", "min_value": -3, "max_value": -3}).model_copy(update={"logbase": 10.0})
    assert [trial["x"] for trial in draw_trials(based, 0)] == [pytest.approx(0.001)]


BAY = {
    "rate": {"type": "loguniform", "min_value": -5, "max_value": 0},
    "depth": {"type": "quniform", "min_value": 1, "max_value": 20, "q": 1},
    "kind": {"type": "choice", "values": ["a", "b", "c"]},
    "noise": {"type": "normal", "mu": 0, "sigma": 1},
    "seed": {"type": "randint", "upper": 1_000_000_000},
}


def badness(trial: Drawn) -> float:
    """Least at a rate of 0.05, a depth of 12 and kind b."""
    off = abs(math.log(float(trial["rate"])) - math.log(0.05)) + abs(float(trial["depth"]) - 12) / 4
    return off + (0 if trial["kind"] == "b" else 1)


def searched(seed: int, trials: int) -> list[Drawn]:
    whole, random, drawn = sweep("bayesian", trials, **BAY), Random(seed), []
    for _ in range(trials):
        chosen = draw_next(whole, random, drawn, [(each, -badness(each)) for each in drawn])
        assert chosen is not None
        drawn.append(chosen)
    return drawn


def test_bayesian_sampling_finds_better_trials_than_chance() -> None:
    ours = [min(map(badness, searched(seed, 40))) for seed in range(8)]
    chance = [min(map(badness, draw_trials(sweep(total=40, **BAY), seed))) for seed in range(8)]
    assert fmean(ours) < 0.6 * fmean(chance)


def test_bayesian_sampling_stays_within_the_spaces_and_repeats_nothing() -> None:
    drawn = searched(3, 40)
    assert all(math.exp(-5) <= float(each["rate"]) <= 1 and each["depth"] in range(1, 21) for each in drawn)
    assert len({str(each) for each in drawn}) == 40
    assert drawn == searched(3, 40)


def test_bayesian_sampling_ends_where_nothing_new_is_left() -> None:
    small: list[Drawn] = [{"x": "a"}, {"x": "b"}]
    whole = sweep("bayesian", 9, x={"type": "choice", "values": ["a", "b"]})
    assert draw_next(whole, Random(0), small, []) is None
    assert draw_next(whole, Random(0), small, [(each, 1.0) for each in small * 3]) is None


def test_a_small_space_ends_before_the_number_of_trials() -> None:
    assert len(list(draw_trials(sweep(total=50, x={"type": "randint", "upper": 3}), 0))) == 3


def policy_of(**policy: object) -> EarlyTermination:
    whole = Sweep.model_validate({**sweep(x={"type": "randint", "upper": 3}).model_dump(), "early_termination": policy})
    assert whole.early_termination is not None
    return whole.early_termination


BANDIT = {"type": "bandit"}
MEDIAN = {"type": "median_stopping"}
WORST = {"type": "truncation_selection", "truncation_percentage": 40}


@pytest.mark.parametrize(
    ("policy", "own", "stopped"),
    [
        ({**BANDIT, "slack_amount": 0.1}, [0.5], True),
        ({**BANDIT, "slack_amount": 0.1}, [0.85], False),
        # Azure ML's own example: below 0.9 / (1 + slack).
        ({**BANDIT, "slack_factor": 0.2}, [0.74], True),
        ({**BANDIT, "slack_factor": 0.2}, [0.76], False),
        ({**BANDIT, "slack_amount": 0.1}, [float("nan")], True),
        (MEDIAN, [0.1], True),
        (MEDIAN, [0.95], False),
        (WORST, [0.1], True),
        (WORST, [0.95], False),
    ],
    ids=str,
)
def test_a_trial_that_is_not_worth_going_on_with_is_stopped(
    policy: dict[str, object], own: list[float], stopped: bool
) -> None:
    histories = {"own": own, "a": [0.9], "b": [0.7]}
    assert should_stop(policy_of(**policy), "own", histories, maximize=True) is stopped


@pytest.mark.parametrize("own", [[0.5], [0.11, 0.5]], ids=["worse", "first better"])
def test_for_an_error_less_is_better(own: list[float]) -> None:
    policy = policy_of(**BANDIT, slack_factor=0.2)
    assert should_stop(policy, "own", {"own": own, "a": [0.1, 0.1]}, maximize=False) is (own[0] > 0.12)


@pytest.mark.parametrize(
    ("settings", "reports", "stopped"),
    [
        ({"evaluation_interval": 5}, 4, False),
        ({"evaluation_interval": 5}, 5, True),
        # Two looks may have more than one report between them.
        ({"evaluation_interval": 5}, 7, True),
        ({"delay_evaluation": 5}, 4, False),
        ({"delay_evaluation": 5}, 5, True),
        ({"evaluation_interval": 5, "delay_evaluation": 6}, 9, False),
        ({"evaluation_interval": 5, "delay_evaluation": 6}, 10, True),
    ],
    ids=str,
)
def test_a_trial_is_judged_at_each_interval_from_the_delay_on(
    settings: dict[str, int], reports: int, stopped: bool
) -> None:
    policy = policy_of(**BANDIT, slack_amount=0.1, **settings)
    assert should_stop(policy, "own", {"own": [0.5] * reports, "a": [0.9] * 20}, maximize=True) is stopped


@pytest.mark.parametrize("policy", [{**BANDIT, "slack_amount": 0.1}, MEDIAN, WORST], ids=lambda each: str(each["type"]))
def test_trials_are_compared_at_the_same_interval(policy: dict[str, object]) -> None:
    # What the others reached later is no measure for the first report of this one; what has not come so far is none.
    histories = {"own": [0.6], "a": [0.5, 0.9], "b": [0.5, 0.95], "new": []}
    assert not should_stop(policy_of(**policy), "own", histories, maximize=True)


def test_of_equal_trials_no_more_are_stopped_than_the_percentage() -> None:
    histories = {name: [0.5] for name in "abcde"}
    stopped = [name for name in histories if should_stop(policy_of(**WORST), name, histories, maximize=True)]
    assert stopped == ["a", "b"]


def test_a_trial_that_ended_is_not_among_the_worst_that_are_stopped() -> None:
    histories = {"own": [0.6], "running": [0.9], "ended": [0.1], "ended too": [0.2]}
    policy = policy_of(**{**WORST, "truncation_percentage": 50})
    assert should_stop(policy, "own", histories, maximize=True, finished={"ended", "ended too"})
    assert not should_stop(policy, "own", histories, maximize=True)


def test_code_is_copied_without_what_is_ignored(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "data").mkdir(parents=True)
    (code / "train.py").write_text("x")
    (code / "data" / "big.csv").write_text("y")
    (code / ".amlignore").write_text("data\n*.log\n")
    (code / "a.log").write_text("z")
    copy_code(code, tmp_path / "copy")

    assert sorted(path.name for path in (tmp_path / "copy").rglob("*")) == [".amlignore", "train.py"]


def test_a_digest_follows_names_and_contents_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text("x")
    same = digest_of_code(tmp_path / "one") == digest_of_code(tmp_path / "two")
    (tmp_path / "two" / "a.py").write_text("y")

    assert same
    assert digest_of_code(tmp_path / "one") != digest_of_code(tmp_path / "two")
    assert digest_of_path(tmp_path / "absent") != digest_of_path(tmp_path / "one")


def test_a_result_is_reused_while_its_outputs_are_what_they_were(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    output.write_text("1")
    cache = ReuseCache(tmp_path / "cache")
    cache.keep(StepResult("train", "succeeded", {"o": str(output)}, key="k"))
    kept = cache.find("k")
    output.write_text("2")

    assert kept is not None
    assert cache.find("k") is None
    assert cache.find("other") is None


def test_a_step_sees_an_allow_list_of_the_environment() -> None:
    assert allowed({"PATH": "/bin", "HEADRACE_WEBHOOK_SECRETS": "x", "AWS_SECRET": "y"}) == {"PATH": "/bin"}


def test_of_a_traceback_the_last_one_matters() -> None:
    text = "noise\nTraceback (most recent call last):\n  File a\nValueError: x\n"

    assert cut(text) == "Traceback (most recent call last):\n  File a\nValueError: x"


def test_of_pytest_the_errors_and_the_summary_matter() -> None:
    head = "....\n=== FAILURES ===\nE   assert 1 == 2\n"
    text = f"{head}=== short test summary info ===\nFAILED t.py::a - x\n= 1 failed in 1s =\n"

    assert cut(text) == "E   assert 1 == 2\nFAILED t.py::a - x\n= 1 failed in 1s ="


def test_of_anything_else_the_end_matters() -> None:
    assert cut("\n".join(str(number) for number in range(100))).splitlines()[-1] == "99"


@pytest.mark.parametrize(
    "path", ["/a b/c", "/it's", '/"q"', "/$HOME", "/a\\b", "/`ls`", "/höhe (1)/&;x", "/a'b\"c $d"], ids=repr
)
@pytest.mark.parametrize(
    "template",
    [
        "printf '%s|' ${{inputs.x}}", "printf '%s|' '${{inputs.x}}'", 'printf "%s|" "${{inputs.x}}"',
        "printf %s\\| \\\n  ${{inputs.x}}", "printf '%s|' it\\'s ${{inputs.x}} | sed \"s/^it's|//\"",
    ],
)  # fmt: skip
def test_a_path_is_one_word_of_the_shell_however_it_is_quoted_in_the_command(template: str, path: str) -> None:
    command = fill_in(template, inputs={"x": path}, outputs={}, search_space={}, paths={path})

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=20)

    assert done.stdout == f"{path}|"


def test_a_text_that_is_no_path_is_filled_in_as_it_is() -> None:
    assert fill_in("${{inputs.x}} ${{outputs.o}}", inputs={"x": "-a -b"}, outputs={"o": "/a b"}, search_space={}) == (
        "-a -b /a b"
    )
