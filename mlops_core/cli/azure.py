"""`headrace azure`: what an operator does once per repository, with their own sign-in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_core.cli.context import out, told_errors
from mlops_core.domain.errors import BadInputError, NotFoundError, RefusedError
from mlops_core.domain.ids import ProjectName

if TYPE_CHECKING:
    from mlops_core.ports import ProjectRecord, ProjectStore

azure = typer.Typer(no_args_is_help=True, help="A controller on Azure: allow repositories.")

# Where a repository of each host's public service is cloned from.
_CLONED_FROM = {
    "github": "https://github.com/{}.git",
    "gitlab": "https://gitlab.com/{}.git",
    "bitbucket": "https://bitbucket.org/{}.git",
    "azure-devops": "https://dev.azure.com/{}",
}
_REPOSITORY = re.compile(r"[A-Za-z0-9_.~][A-Za-z0-9_.~-]*(/[A-Za-z0-9_. ~-]+)+")


@azure.callback()
def _group() -> None:
    """Keep `register` a command of its own, also while it is the only one."""


@azure.command()
def register(
    repository: Annotated[str, typer.Argument(help="The host's own name of it, such as owner/name.")],
    *,
    account: Annotated[
        str,
        typer.Option(envvar="HEADRACE_STORAGE_ACCOUNT", help="The controller's storage account.", show_default=False),
    ],
    base_url: Annotated[
        str, typer.Option(envvar="HEADRACE_BASE_URL", help="Address of the function app.", show_default=False)
    ],
    vault: Annotated[
        str, typer.Option(envvar="AZURE_KEY_VAULT_NAME", help="The Key Vault with the webhooks' secrets.")
    ] = "",
    host: Annotated[
        str, typer.Option(help="github, gitlab, azure-devops, bitbucket, bitbucket-server or gitea.")
    ] = "github",
    project: Annotated[
        str | None, typer.Option(help="Name of the project. Default: the repository's last part.")
    ] = None,
    manifest: Annotated[str, typer.Option(help="Path of mlops.yaml in the repository.")] = "mlops.yaml",
    branch: Annotated[str, typer.Option(help="The default branch.")] = "main",
    clone_url: Annotated[
        str | None, typer.Option(help="Where it is cloned from. Needed for self-hosted hosts.")
    ] = None,
) -> None:
    """Allow a repository, and print the address and the secret of its webhook."""
    with told_errors():
        record = record_of(
            repository, host=host, project=project, manifest=manifest, branch=branch, clone_url=clone_url
        )
        save(_store(account), record)
        out.print(f"project [bold]{record.name}[/bold] is allowed: {repository} at {host}")
        out.print(
            f"\nAdd a webhook for pushes to the repository, content type application/json:\n  {base_url}/api/webhooks/{host}"
        )
        out.print(_secret_of(host, vault), soft_wrap=True, markup=False)


def _secret_of(host: str, vault: str) -> str:
    """Say where the webhook's secret is. Only that of GitHub is made up by the deployment; see infra/modules/vault.bicep."""
    show = f"az keyvault secret show --vault-name {vault or 'VAULT'} --query value --output tsv --name"
    if host == "github":
        return f"Its secret:\n  {show} webhook-github"
    given = f'azd env set HEADRACE_WEBHOOK_SECRETS \'{{"{host}": ["..."]}}\' && azd provision'
    return (
        f"Its secret is the one that you gave for {host}:\n  {show} webhook-secrets\nIf there is none yet:\n  {given}"
    )


def record_of(
    repository: str,
    *,
    host: str = "github",
    project: str | None = None,
    manifest: str = "mlops.yaml",
    branch: str = "main",
    clone_url: str | None = None,
) -> ProjectRecord:
    """
    Say what is to be allowed.

    Raises: BadInputError: The repository, the host, the name or the address is not one.
    """
    from mlops_core.adapters.hosts import WEBHOOKS
    from mlops_core.ports import ProjectRecord

    if host not in WEBHOOKS or host == "local":
        known = ", ".join(sorted(set(WEBHOOKS) - {"local"}))
        raise BadInputError(f"There is no kind of repository host '{host}'. There are: {known}.")
    if not _REPOSITORY.fullmatch(repository):
        raise BadInputError(
            f"'{repository}' is no repository's name. Give it as the host shows it, such as owner/name."
        )
    name = project or re.sub(r"[^a-z0-9]+", "-", repository.rpartition("/")[2].lower()).strip("-")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise BadInputError(
            f"'{name}' is no project's name: lower-case letters, digits and hyphens. Give one: --project."
        )
    address = clone_url or _CLONED_FROM.get(host, "").format(repository)
    if not address.startswith("https://"):
        raise BadInputError(f"Repositories of host '{host}' have no public address. Give one: --clone-url https://...")
    return ProjectRecord(ProjectName(name), host, repository, address, manifest=manifest, default_branch=branch)


def save(store: ProjectStore, record: ProjectRecord) -> None:
    """
    Add a project; the same again changes nothing but its place.

    Raises: RefusedError: Another repository has this name.
    """
    from dataclasses import replace

    try:
        known = store.get(record.name)
    except NotFoundError:
        store.put(record)
        return
    if (known.host, known.repository) != (record.host, record.repository):
        raise RefusedError(
            f"Project '{record.name}' is {known.repository} at {known.host} already. Give another name: --project."
        )
    store.put(replace(record, model=known.model, known_heads=known.known_heads))


def _store(account: str) -> ProjectStore:
    from mlops_core.adapters.azure.credential import credential
    from mlops_core.adapters.azure.project_store import TableProjectStore
    from mlops_core.adapters.azure.tables import StorageAccount, Tables

    if "=" in account:
        return TableProjectStore(Tables(StorageAccount(connection_string=account)))
    return TableProjectStore(Tables(StorageAccount(account=account, credential=credential())))
