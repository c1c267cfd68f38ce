"""The deployment's Bicep, parsed: what must hold for it to be safe, and to fit the function app that it deploys."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pycep
import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
FILES = sorted((CHECKOUT / "infra").rglob("*.bicep"))
# Names and ids of built-in roles, as in Microsoft's list "Azure built-in roles". docs/azure.md says why each is needed.
ROLES = {
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "5d977122-f97e-4b4d-a52f-6b43003ddb4d": "Azure Container Instances Contributor Role",
    "7f951dda-4ed3-4680-a7ca-43fe172d538d": "AcrPull",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "d5a91429-5739-47e2-a06b-3470a27159e7": "EventGrid Data Sender",
    "f1a07417-d97a-45cb-824c-7a7467783830": "Managed Identity Operator",
    "f6c7c914-8db3-469d-8ca1-694a8f32e121": "AzureML Data Scientist",
    "fb382eab-e894-4461-af04-94435c366c3f": "Container Registry Tasks Contributor",
}
GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PARSED: dict[str, dict[str, Any]] = {
    str(path.relative_to(CHECKOUT / "infra")): pycep.BicepParser().parse(file_path=path) for path in FILES
}


def resources(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for file, document in PARSED.items():
        for name, resource in document.get("resources", {}).items():
            if resource["type"] == kind and not resource["existing"]:
                yield f"{file}: {name}", resource["config"]


def functions() -> dict[str, Any]:
    app = runpy.run_path(str(CHECKOUT / "function_app.py"))["app"]
    return {function.get_function_name(): function for function in app.get_functions()}


def modules() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each call of a module: where it is, what is given, and the module that is called."""
    for file, document in PARSED.items():
        for name, module in document.get("modules", {}).items():
            config = module["config"].get("config", module["config"])  # behind an `if`, it is one deeper
            yield f"{file}: {name}", config, PARSED[str(Path(file).parent / module["detail"]["path"])]


def test_each_module_is_called_with_the_parameters_that_it_has() -> None:
    for place, config, called in modules():
        known = called.get("parameters", {})
        needed = {key for key, parameter in known.items() if parameter.get("default") is None}
        assert needed <= set(config.get("params", {})) <= set(known), place


def test_each_output_that_is_read_exists() -> None:
    for file, document in PARSED.items():
        text = (CHECKOUT / "infra" / file).read_text()
        for name, module in document.get("modules", {}).items():
            path = str(Path(file).parent / module["detail"]["path"])
            for output in re.findall(rf"\b{name}\.outputs\.(\w+)", text):
                assert output in PARSED[path]["outputs"], f"{file}: {name}.outputs.{output}"


def test_no_output_holds_a_key_or_a_secret() -> None:
    for file, document in PARSED.items():
        secure = {
            name
            for name, parameter in document.get("parameters", {}).items()
            if any(decorator["type"] == "secure" for decorator in parameter["decorators"])
        }
        for name, output in document.get("outputs", {}).items():
            text = json.dumps(output)
            assert not re.search(r"listKeys|listSecrets|ConnectionString|primaryKey|\.value\b", text), f"{file}: {name}"
            assert not any(f'"{parameter}"' in text for parameter in secure), f"{file}: {name}"


def test_no_parameter_that_is_a_secret_has_a_default() -> None:
    for file, document in PARSED.items():
        for name, parameter in document.get("parameters", {}).items():
            if any(decorator["type"] == "secure" for decorator in parameter["decorators"]):
                assert parameter["default"] in (None, "", "{}"), f"{file}: {name}"


def test_storage_is_opened_with_identities_and_tls_only() -> None:
    found = list(resources("Microsoft.Storage/storageAccounts"))
    assert len(found) == 2
    for place, account in found:
        properties = account["properties"]
        assert properties["allowSharedKeyAccess"] is False, place
        assert properties["allowBlobPublicAccess"] is False, place
        assert properties["minimumTlsVersion"] == "TLS1_2", place
        assert properties["supportsHttpsTrafficOnly"] is True, place


def test_the_function_app_is_flex_python_313_over_https_with_an_identity() -> None:
    ((place, app),) = resources("Microsoft.Web/sites")
    properties = app["properties"]
    assert properties["httpsOnly"] is True, place
    assert properties["siteConfig"] == {"minTlsVersion": "1.2", "ftpsState": "Disabled"}
    assert properties["functionAppConfig"]["runtime"] == {"name": "python", "version": "3.13"}
    storage = properties["functionAppConfig"]["deployment"]["storage"]
    assert storage["authentication"]["type"] == "UserAssignedIdentity"
    assert app["identity"]["type"] == "UserAssigned"
    ((_, plan),) = resources("Microsoft.Web/serverfarms")
    assert plan["sku"] == {"name": "FC1", "tier": "FlexConsumption"}


def test_other_services_take_identities_only() -> None:
    ((_, topic),) = resources("Microsoft.EventGrid/topics")
    assert topic["properties"]["disableLocalAuth"] is True
    assert topic["properties"]["minimumTlsVersionAllowed"] == "1.2"
    ((_, registry),) = resources("Microsoft.ContainerRegistry/registries")
    assert registry["properties"]["adminUserEnabled"] is False
    ((_, vault),) = resources("Microsoft.KeyVault/vaults")
    assert vault["properties"]["enableRbacAuthorization"] is True
    ((_, insights),) = resources("Microsoft.Insights/components")
    assert insights["properties"]["DisableLocalAuth"] is True


def subscriptions() -> list[tuple[str, dict[str, Any]]]:
    kinds = ("Microsoft.EventGrid/topics/eventSubscriptions", "Microsoft.EventGrid/systemTopics/eventSubscriptions")
    return [found for kind in kinds for found in resources(kind)]


def test_each_subscription_has_a_filter_retries_and_dead_letters() -> None:
    assert len(subscriptions()) == 3
    for place, subscription in subscriptions():
        properties = subscription["properties"]
        assert properties["filter"]["includedEventTypes"], place
        assert properties["retryPolicy"] == {"maxDeliveryAttempts": 30, "eventTimeToLiveInMinutes": 1440}, place
        letters = properties["deadLetterWithResourceIdentity"]["deadLetterDestination"]
        assert letters["endpointType"] == "StorageBlob", place
        assert properties["eventDeliverySchema"] == "EventGridSchema", place


def test_each_subscription_goes_to_a_function_that_takes_its_events() -> None:
    from handlers.events import EVENTS

    registered = functions()
    text = "\n".join(path.read_text() for path in FILES)
    named = set(re.findall(r"/functions/(\w+)'", text))
    takers = {
        name
        for name, function in registered.items()
        if function.get_trigger().get_dict_repr()["type"] == "eventGridTrigger"
    }
    assert named == takers
    for place, subscription in subscriptions():
        for kind in subscription["properties"]["filter"]["includedEventTypes"]:
            assert kind in EVENTS, f"{place}: {kind}"


def test_the_queue_is_the_one_that_the_function_reads() -> None:
    queue = functions()["take_effect"].get_trigger().get_dict_repr()
    ((_, made),) = resources("Microsoft.Storage/storageAccounts/queueServices/queues")
    assert made["name"] == queue["queueName"]
    ((_, settings),) = resources("Microsoft.Web/sites/config")
    assert f"{queue['connection']}__accountName" in settings["properties"]
    assert settings["properties"][f"{queue['connection']}__credential"] == "managedidentity"


def test_each_role_is_a_documented_one() -> None:
    documented = (CHECKOUT / "docs" / "azure.md").read_text()
    used = set()
    for path in FILES:
        for line in path.read_text().splitlines():
            if "roleDefinitions" in line:
                used |= set(GUID.findall(line))
    assert used == set(ROLES)
    for role, name in ROLES.items():
        assert f"| {name} | `{role}` |" in documented


def test_role_assignments_are_named_by_what_they_grant_so_that_a_second_deployment_finds_them() -> None:
    for place, assignment in resources("Microsoft.Authorization/roleAssignments"):
        name, properties = json.dumps(assignment["name"]), json.dumps(assignment["properties"])
        assert "guid" in name, place
        assert set(GUID.findall(properties)) == set(GUID.findall(name)), place


def test_settings_of_the_function_app_are_those_that_are_read() -> None:
    from mlops_core.settings import Settings

    ((_, settings),) = resources("Microsoft.Web/sites/config")
    known = {f"HEADRACE_{name.upper()}" for name in Settings.model_fields} | {"HEADRACE_STORAGE"}
    ours = {name.partition("__")[0] for name in settings["properties"] if name.startswith("HEADRACE_")}
    assert ours <= known
    assert not [value for value in settings["properties"].values() if "AccountKey" in str(value)]


@pytest.mark.parametrize("file", ["main.parameters.json"])
def test_the_parameters_are_those_of_the_template(file: str) -> None:
    given = json.loads((CHECKOUT / "infra" / file).read_text())["parameters"]
    template = PARSED["main.bicep"]["parameters"]
    assert set(given) <= set(template)
    assert {name for name, parameter in template.items() if parameter["default"] is None} <= set(given)


def test_each_parameter_is_an_environment_variable_in_the_form_that_azd_reads() -> None:
    """
    azd ends a default at the first closing brace: with `${RIGHTS={}}`, a brace would follow what is set.

    Source: its parameter files are read by github.com/drone/envsubst, and `secretOrRandomPassword` is azd's own.
    """
    given = json.loads((CHECKOUT / "infra" / "main.parameters.json").read_text())["parameters"]
    variable = r"\$\{[A-Z_]+(=[^{}$]*)?\}"
    secret = r"\$\(secretOrRandomPassword \$\{AZURE_KEY_VAULT_NAME\} ([a-z-]+)\)"
    for name, parameter in given.items():
        assert re.fullmatch(f"{variable}|{secret}", parameter["value"]), name
    # What azd makes up once it finds again: under this name, in the vault that this output names.
    (kept,) = re.findall(secret, json.dumps(given))
    assert kept in {secret["name"] for _, secret in resources("Microsoft.KeyVault/vaults/secrets")}
    assert "AZURE_KEY_VAULT_NAME" in PARSED["main.bicep"]["outputs"]


def test_every_variable_that_the_docs_set_is_a_parameter() -> None:
    """And every parameter with a variable of ours is in the docs."""
    given = (CHECKOUT / "infra" / "main.parameters.json").read_text()
    documented = (CHECKOUT / "docs" / "azure.md").read_text()
    read = set(re.findall(r"\$\{(HEADRACE_\w+)", given))
    assert set(re.findall(r"azd env set (\w+)", documented)) <= read
    assert {name for name in read if f"`{name}`" not in documented and f"set {name}" not in documented} == set()


def test_the_hook_after_a_deployment_names_outputs_and_parameters_that_exist() -> None:
    project = yaml.safe_load((CHECKOUT / "azure.yaml").read_text())
    outputs, parameters = set(PARSED["main.bicep"]["outputs"]), set(PARSED["subscriptions.bicep"]["parameters"])
    for shell in ("posix", "windows"):
        command = project["hooks"]["postdeploy"][shell]["run"]
        named = re.findall(r"(\w+)=\"?\$(?:env:)?(\w+)", command)
        assert {parameter for parameter, _ in named} == parameters
        assert {variable for _, variable in named} <= outputs
    assert project["services"]["controller"]["host"] == "function"


def test_addresses_that_docs_and_commands_tell_are_routes_of_the_function_app() -> None:
    """A webhook that was pasted with another address would only be noticed at the first push."""
    patterns = []
    for function in functions().values():
        trigger = function.get_trigger().get_dict_repr()
        if trigger["type"] == "httpTrigger":
            patterns.append(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(trigger["route"])))
    told = (CHECKOUT / "docs" / "azure.md").read_text() + (CHECKOUT / "mlops_core" / "cli" / "azure.py").read_text()
    addresses = re.findall(r"/api/([\w{}/-]+)", told)
    assert {"webhooks/{host}", "models/NAME/score"} <= set(addresses)
    for address in addresses:
        assert any(re.fullmatch(pattern, address) for pattern in patterns), address
