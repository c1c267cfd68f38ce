"""A project takes neither another's name nor its model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import PROJECT

from mlops_core.cli.projects import refuse_takeover
from mlops_core.domain.errors import RefusedError
from mlops_core.domain.ids import ModelName, ProjectName

KNOWN = replace(PROJECT, model=ModelName("diabetes"))


def test_the_same_project_may_be_added_again() -> None:
    refuse_takeover([KNOWN], KNOWN)


def test_a_name_that_another_repository_has_is_refused() -> None:
    with pytest.raises(RefusedError, match="There is a project 'diabetes' already, of repository 'diabetes'"):
        refuse_takeover([KNOWN], replace(KNOWN, clone_url="/elsewhere.git"))


def test_a_model_that_another_project_releases_is_refused() -> None:
    other = replace(KNOWN, name=ProjectName("other"), clone_url="/elsewhere.git")

    with pytest.raises(RefusedError, match="Project 'diabetes' releases the model 'diabetes' already"):
        refuse_takeover([KNOWN], other)
