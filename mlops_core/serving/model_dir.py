"""
What `AZUREML_MODEL_DIR` names for a score.py: a folder in which it finds its model wherever it looks for it.

Azure ML puts a registered folder under its own name below `AZUREML_MODEL_DIR` (`model/weights.pkl`), and a registered file
beside it (`weights.pkl`). Scripts are written for one of the two, and which of them a version is, its address does not
always tell. So both lead to it, by links.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

# What MLflow calls a logged model, and most people the folder that they register.
_USUAL_NAME = "model"
_temporary: list[Path] = []


def lay_out(model: Path, name: str, folder: str) -> Path:
    """
    Make the folder.

    Args:
        model: The model's folder, or its one file.
        name: What the folder was called where it was registered; empty where that is not known.
        folder: Where to make it, in place of what is there; empty for a temporary one, which `discard` takes away.
    """
    target = Path(folder).absolute() if folder else Path(tempfile.mkdtemp(prefix="azureml-model-"))
    if not folder:
        _temporary.append(target)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    inside = [model] if model.is_file() else sorted(model.iterdir())
    links = {entry.name: entry for entry in inside}
    if model.is_dir():
        links.update({usual: model for usual in (_USUAL_NAME, model.name) if usual not in links})
        # The folder goes before an entry of its name, as in Azure ML, unless what was registered is that one file.
        if name and not (len(inside) == 1 and inside[0].name == name and inside[0].is_file()):
            links[name] = model
    for link, entry in links.items():
        (target / link).symlink_to(entry, target_is_directory=entry.is_dir())
    return target


def discard() -> None:
    """Take away the temporary folders that this process made."""
    while _temporary:
        shutil.rmtree(_temporary.pop(), ignore_errors=True)
