"""`headrace azure register`: what is written, what is printed, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from azurite import Azurite
from typer.testing import CliRunner

from mlops_core.adapters.azure.project_store import TableProjectStore
from mlops_core.adapters.azure.tables import StorageAccount, Tables
from mlops_core.adapters.local.database import Database
from mlops_core.adapters.local.project_store import SqliteProjectStore
from mlops_core.cli.app import app
from mlops_core.cli.azure import record_of, save
from mlops_core.domain.errors import BadInputError, RefusedError
from mlops_core.domain.ids import ModelName, ProjectName


def test_a_repository_is_allowed_and_its_webhook_told(storage: Azurite) -> None:
    arguments = ["azure", "register", "acme/Diabetes.Model", "--account", storage.connection_string]
    done = CliRunner().invoke(
        app, [*arguments, "--base-url", "https://f.example", "--vault", "kv"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert "https://f.example/api/webhooks/github" in done.output
    assert "az keyvault secret show --vault-name kv --query value --output tsv --name webhook-github" in done.output
    store = TableProjectStore(Tables(StorageAccount(connection_string=storage.connection_string)))
    record = store.get(ProjectName("diabetes-model"))
    assert (record.host, record.repository, record.clone_url) == (
        "github", "acme/Diabetes.Model", "https://github.com/acme/Diabetes.Model.git",
    )  # fmt: skip


def test_the_secret_of_another_hosts_webhook_is_the_one_that_was_given(storage: Azurite) -> None:
    arguments = ["azure", "register", "acme/other", "--account", storage.connection_string, "--host", "gitlab"]
    done = CliRunner().invoke(app, [*arguments, "--base-url", "https://f.example"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "https://f.example/api/webhooks/gitlab" in done.output
    assert "--name webhook-secrets" in done.output
    assert """azd env set HEADRACE_WEBHOOK_SECRETS '{"gitlab": ["..."]}' && azd provision""" in done.output


def test_registering_again_keeps_what_is_known_of_the_project(tmp_path: Path) -> None:
    database = Database(tmp_path / "headrace.db")
    store = SqliteProjectStore(database)
    record = record_of("acme/x")
    store.put(replace(record, model=ModelName("m")))
    save(store, replace(record, default_branch="trunk"))
    assert (store.get(record.name).model, store.get(record.name).default_branch) == ("m", "trunk")
    with pytest.raises(RefusedError, match="is acme/x at github already"):
        save(store, record_of("else/x"))
    database.close()


@pytest.mark.parametrize(
    ("repository", "options", "words"),
    [
        ("acme", {}, "no repository's name"),
        ("--upload-pack=x/y", {"project": "x"}, "no repository's name"),
        ("-x/y", {"project": "x"}, "no repository's name"),
        ("acme/x", {"host": "sourceforge"}, "There are: azure-devops"),
        ("acme/x", {"host": "local"}, "There are: azure-devops"),
        ("acme/x", {"project": "Ab"}, "lower-case letters"),
        ("acme/x", {"host": "gitea"}, "--clone-url"),
        ("acme/x", {"clone_url": "http://github.com/acme/x"}, "--clone-url"),
    ],
)
def test_what_is_no_repository_is_refused(repository: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        record_of(repository, **options)  # type: ignore[arg-type] - each is text
