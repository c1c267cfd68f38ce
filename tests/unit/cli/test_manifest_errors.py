"""What is wrong in `mlops.yaml` is said with line and key, in words of YAML; and nothing makes the reader crash."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from commands import Headrace
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from mlops_core.domain.project import ProjectSpec
from mlops_core.manifest import ManifestError, read_manifest
from mlops_core.manifest_wording import _SENTENCES

GOOD = "project: tides\ntrain: {pipeline: p.yml, model: m}\n"
NAME = "is no name for it. Use lower-case letters, digits and hyphens, at most 63, a letter or digit first."
PATH = "is no path in the repository. Write it from the folder of this file on, with no '/' before it."
LABEL = "is no name of a model. Use letters, digits, '.', '_' and '-', at most 255, a letter or digit first."
TEXT = "it must be text, a number, or true or false"
FALSE = "it is false; YAML reads yes, no, on and off so: put quotes around a word"
GATE = "Known keys here: by, goal, max, metric, min, no_worse_than, tolerance."
WRONG = [
    ("", ["line 1: it is empty. 'headrace init' writes one."]),
    ("- a", ["line 1: it must be a mapping that starts with 'project: <name>'."]),
    ("project: [", ["line 1: it is not YAML: expected the node content, but found '<stream end>'."]),
    ("a: 1\nb: 2\na: 3", ["line 3, a: the key is there twice (first in line 1). Keep one."]),
    ("a: &x 1", ["line 1: anchors and aliases (& and *) are not allowed. Write the value out."]),
    ("a: !!bool x", ["line 1: tags (!) are not allowed, and there is 'tag:yaml.org,2002:bool'. Write the plain value."]),
    ("a: 2026-99-99", ["line 1: it is not YAML: month must be in 1..12."]),
    ("[" * 21 + "]" * 21, ["line 1: it is nested more than 20 deep."]),
    ("a: \x00", ["line 1: it is not YAML: unacceptable character #x0000: special characters are not allowed."]),
    ("project: tides", ["line 1, train: this key is required and missing."]),
    (GOOD + "trane: 1", ["line 3, trane: unknown key 'trane'. Did you mean 'train'?"]),
    (GOOD + "build: {tset: a}", ["line 3, build.tset: unknown key 'tset'. Did you mean 'test'?"]),
    (GOOD + "monitor: {}", [("line 3, monitor: watching live predictions is not part of this version of Headrace. "
                            "Remove the key.")]),
    (GOOD + "zz: 1", ["line 3, zz: unknown key 'zz'. Known keys here: build, local, project, release, train, triggers."]),
    ("project: Tides!\ntrain: {pipeline: /p, model: '-'}", [
        f"line 1, project: 'Tides!' {NAME}",
        f"line 2, train.pipeline: '/p' {PATH}",
        f"line 2, train.model: '-' {LABEL}"]),
    (GOOD + "build: {assets: ['a\\b']}", [("line 3, build.assets[0]: 'a\\b' has a backslash. Write the path with '/', from "
                                          "the folder of this file.")]),
    ("project: 12\ntrain: {pipeline: '', model: m}", [
        "line 1, project: it must be text (it is '12'). Put quotes around it.",
        "line 2, train.pipeline: it is empty. Write something, or remove the key."]),
    (GOOD + "triggers:\n  branches:\n    - 1", [("line 5, triggers.branches[0]: it must be text (it is '1'). Put quotes "
                                                "around it.")]),
    (GOOD + "triggers: {branches: []}", [("line 3, triggers.branches: the list is empty. Give at least one item, or remove "
                                         "the key.")]),
    (GOOD + "triggers:", ["line 3, triggers: it is empty. Write its keys below it, indented, or remove it."]),
    (GOOD + "build: pytest", [("line 3, build: it must be a section with keys of its own (it is 'pytest'). Known keys here: "
                              "assets, environment, test, timeout.")]),
    (GOOD + "build: {assets: a.yml, timeout: 90}", [
        "line 3, build.assets: it must be a list, such as [a, b] (it is 'a.yml').",
        "line 3, build.timeout: '90' has no unit. Write a duration such as 90s, 10m, 2h or 7d."]),
    (GOOD + "build: {timeout: 400d}", [("line 3, build.timeout: '400d' is longer than a year. Write a duration such as 90s, "
                                       "10m, 2h or 7d.")]),
    (GOOD + "build: {timeout: 0s}", ["line 3, build.timeout: it must be more than 0 (it is '0s')."]),
    (GOOD + "release: {stages: [{nme: a}]}", [
        "line 3, release.stages[0].name: this key is required and missing.",
        "line 3, release.stages[0].nme: unknown key 'nme'. Did you mean 'name'?"]),
    (GOOD + "release: {stages: [{name: a}, {name: a}]}", [("line 3, release: there are two stages named 'a'. Give each its "
                                                          "own name.")]),
    (GOOD + "release: {approval: no}", [f"line 3, release.approval: it must be 'manual' or 'none' ({FALSE})."]),
    (GOOD + "release: {gates: [{metric: r, max: abc}, {metric: r}, 3]}", [
        "line 3, release.gates[0].max: it must be a number (it is 'abc').",
        "line 3, release.gates[1]: a gate has exactly one of max, min and no_worse_than; this one has none.",
        f"line 3, release.gates[2]: it must be a section with keys of its own (it is '3'). {GATE}"]),
    (GOOD + "release: {gates: [{metric: r, max: .nan}]}", [("line 3, release.gates[0].max: it must be a number (it is "
                                                           "'nan').")]),
    (GOOD + "release: {gates: [{metric: r, no_worse_than: champion, tolerance: much}]}", [
        ("line 3, release.gates[0].tolerance: 'much' is no share. Write a percentage such as 1%, or a fraction such as "
        "0.01.")]),
    (GOOD + "release: {serve: {cpu: 9, memory_gb: 0}}", [
        "line 3, release.serve.cpu: it must be at most 4 (it is '9').",
        "line 3, release.serve.memory_gb: it must be more than 0 (it is '0')."]),
    (GOOD + "release: {stages: [{name: a, smoke: {request: r.json, requests: 1.5}}]}", [
        "line 3, release.stages[0].smoke.requests: it must be a whole number (it is '1.5')."]),
    ("project: tides\ntrain:\n  pipeline: p\n  model: m\n  inputs:\n    a: [1]\n    b: 2026-01-01\n    1: x\n    c: .inf", [
        f"line 6, train.inputs.a: {TEXT} (it is a list).",
        f"line 7, train.inputs.b: {TEXT} (YAML reads 2026-01-01 as a date: put quotes around it).",
        "line 8, train.inputs.1: keys must be text (it is '1'). Put quotes around it.",
        f"line 9, train.inputs.c: {TEXT} (it is 'inf')."]),
    (GOOD + "local: {data: [1], python: newest}", [
        "line 3, local.data: it must be a mapping of names to values (it is a list).",
        "line 3, local.python: it must be 'exact' or 'nearest' (it is 'newest')."]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problems"), WRONG, ids=[problems[0][:60] for _, problems in WRONG])
def test_everything_that_is_wrong_is_told_with_its_line_and_key(text: str, problems: list[str]) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(text.encode())

    assert [str(problem) for problem in caught.value.problems] == problems
    assert str(caught.value) == "\n".join(f"mlops.yaml {problem}" for problem in problems)


def _keys(node: object) -> set[str]:
    if isinstance(node, dict):
        inner = {key for value in node.values() for key in _keys(value)}
        return inner | set(node.get("properties", {}))
    return {key for item in node for key in _keys(item)} if isinstance(node, list) else set()


KEYS = sorted(_keys(ProjectSpec.model_json_schema()))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates(), st.binary(max_size=4),
    st.sampled_from(["1%", "nan%", "2h", "9" * 400 + "d", "champion", "manual", "/a", "a\\b", "!!bool x", "<<", "="]),
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.integers(), st.text(max_size=6)), inner, max_size=6),
    ),
    max_leaves=20,
)
SECTIONS = st.fixed_dictionaries(
    {"project": st.just("tides"), "train": st.one_of(st.just({"pipeline": "p.yml", "model": "m"}), TREES)},
    optional=dict.fromkeys(("triggers", "build", "release", "local", "other"), TREES),
)


def read(text: bytes) -> None:
    """A declaration, or an error whose every problem has a place and a sentence: nothing else may come out."""
    try:
        spec = read_manifest(text)
    except ManifestError as error:
        for problem in error.problems:
            assert problem.line >= 1
            assert problem.message.endswith((".", "?")), problem
    else:
        # What is kept with the run must be readable later.
        assert ProjectSpec.model_validate_json(spec.model_dump_json()) == spec


@settings(max_examples=60, deadline=None)
@given(st.one_of(SECTIONS, TREES))
def test_no_tree_makes_the_reader_crash(tree: object) -> None:
    read(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet="a1 :-[]{}&*!<>=%|'\"#,?\n\t._~", max_size=60)))
def test_no_bytes_make_the_reader_crash(text: bytes | str) -> None:
    read(text if isinstance(text, bytes) else GOOD.encode() + text.encode())


def test_every_kind_of_finding_that_pydantic_can_have_here_has_its_sentence() -> None:
    """Of pydantic's own words, only those of our validators are shown."""
    unsaid = set()
    for wrong in (None, True, 3, 1.5, float("nan"), "", "x", [], {}, [None], {"zz": 1}, "9" * 5000):
        for path in _paths():
            unsaid |= _kinds(path, wrong)
    assert unsaid - set(_SENTENCES) <= {"value_error"}


def _paths() -> list[list[str]]:
    found: list[list[str]] = []

    def walk(model: type[BaseModel], path: list[str]) -> None:
        for name, field in model.model_fields.items():
            found.append([*path, name])
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation, [*path, name])

    walk(ProjectSpec, [])
    return found


def _kinds(path: list[str], wrong: object) -> set[str]:
    tree: dict[str, object] = {"project": "tides", "train": {"pipeline": "p", "model": "m"}}
    node: dict[str, object] = tree
    for step in path[:-1]:
        inner = node.setdefault(step, {})
        assert isinstance(inner, dict)
        node = inner
    node[path[-1]] = wrong
    try:
        ProjectSpec.model_validate(tree)
    except ValidationError as error:
        return {detail["type"] for detail in error.errors()}
    return set()


def test_validate_marks_each_of_several_faults(headrace: Headrace, tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(
        "project: tides\ntrane: 1\ntrain: {pipeline: '[bold]/p.yml', model: m, inpts: {}}\n"
    )

    done = headrace("validate", str(tmp_path))

    assert done.exit_code == 1
    assert [line[:22] for line in done.stderr.splitlines()] == ["✗ mlops.yaml line 2, t", "✗ mlops.yaml line 3, t"]


def test_validate_names_line_and_key_of_each_file_that_is_not_there(headrace: Headrace, tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(
        "project: tides\ntrain:\n  pipeline: p.yml\n  model: m\nbuild:\n  assets:\n    - a.yml\n    - '[b].yml'\n"
    )

    done = headrace("validate", str(tmp_path))

    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"✗ mlops.yaml line {line}, {key}: there is no '{file}' in the repository. Add and commit it, or change the path."
        for line, key, file in [
            (3, "train.pipeline", "p.yml"),
            (7, "build.assets[0]", "a.yml"),
            (8, "build.assets[1]", "[b].yml"),
        ]
    ]
