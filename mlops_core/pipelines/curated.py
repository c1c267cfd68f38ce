"""
What stands in for environments that Azure ML publishes and no repository declares, such as `sklearn-1.5`.

A curated environment is a container image, but the packages in it are published. Those with plain Python packages are
met by the same packages, without Azure's own (telemetry, the inference server) and the debugging tools. Deep-learning
ones are built around CUDA; they are refused, with the way to name a replacement, rather than met by gigabytes that
nobody asked for.

Source: `assets/training/general/environments` of the public repository Azure/azureml-assets, as of November 2026.
"""

from __future__ import annotations

import re

from mlops_core.pipelines.plan import EnvironmentSpec

# The published pins, with a spelling for a Python that has no builds of them. MLflow 2 is the last for this pandas; its
# clients speak to newer servers.
_SHARED = (
    "numpy~=1.22; python_version < '3.12'",
    "numpy>=1.26,<3; python_version >= '3.12'",
    "pandas~=1.5.3; python_version < '3.12'",
    "pandas>=2.2,<3; python_version >= '3.12'",
    "scipy~=1.10.0; python_version < '3.12'",
    "scipy>=1.11; python_version >= '3.12'",
    "joblib>=1.2",
    "matplotlib~=3.5",
    "tqdm~=4.66",
    "psutil>=5.8",
    "mlflow-skinny>=2.9,<3",
)
_REQUIREMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "sklearn-1.5": ("3.10", ("scikit-learn~=1.5.0", *_SHARED)),
    "lightgbm-3.3": ("3.10", ("scikit-learn~=1.5.1", "xgboost~=1.7.6", "lightgbm>=4.6.0", *_SHARED)),
}
_IMAGE = re.compile(r"(?:docker\.io/)?(?:library/)?(?P<name>[^:@]+)(?::(?P<tag>[^@]+))?(?:@.*)?")
_VERSION = re.compile(r"\d+(?:\.\d+){0,2}")
_BARE_IMAGES = re.compile(r"mcr\.microsoft\.com/azureml/(openmpi|minimal-|base)[^/]*")


def curated_environment(name: str, text: str) -> EnvironmentSpec | None:
    """
    Give the packages of a curated environment.

    Args:
        name: `sklearn-1.5`, or as a workspace lists it, `AzureML-sklearn-1.5`.
        text: How the YAML calls it.
    Returns: None where it is not known here.
    """
    known = _REQUIREMENTS.get(name.removeprefix("AzureML-"))
    if known is None:
        return None
    version, requirements = known
    note = (
        f"The environment '{text}' is a container image of Azure ML. Its Python packages were installed instead, "
        "without Azure's own ones and the system packages."
    )
    return EnvironmentSpec(name=text, python_version=version, pip_requirements=requirements, note=note)


def environment_of_image(image: str) -> EnvironmentSpec | None:
    """
    Give the environment that an image without a conda file amounts to: a Python with no packages.

    Returns: None where the image may hold anything.
    """
    match = _IMAGE.fullmatch(image)
    name, tag = (match["name"], match["tag"] or "") if match else (image, "")
    if name == "python":
        version = _VERSION.match(tag)
        note = f"The image '{image}' is not used here: the step gets a Python without packages, as the image has it."
        return EnvironmentSpec(
            name=f"image {image}", python_version=version[0] if version else None, image=image, note=note
        )
    if _BARE_IMAGES.fullmatch(image.split(":", maxsplit=1)[0]):
        note = f"The image '{image}' is not used here: the step gets a Python without packages."
        return EnvironmentSpec(name=f"image {image}", image=image, note=note)
    return None
