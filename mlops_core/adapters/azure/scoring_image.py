"""Scoring images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ImageState:
    """How an image stands; `image` is its full name, known from the beginning."""

    state: Literal["building", "ready", "failed"]
    image: str
    reason: str = ""
    log_tail: str = ""
