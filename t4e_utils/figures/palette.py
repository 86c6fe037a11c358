"""What pictures show of one competition: its colours, names and words.

A competition has one `Palette`; `style.set_palette` chooses it for all pictures of a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from t4e_utils import T4EError


class FigureError(T4EError):
    """The data given to a picture lack something that it must draw."""


@dataclass(frozen=True)
class Palette:
    """Colours, names and words of one competition.

    Raises:
        FigureError: a class has no colour.
    """

    colours: Mapping[str, str] = field(default_factory=dict)  # by name: regions, series, labels
    regions: tuple[str, ...] = ()  # what the masks of a slice mark, in order
    classes: Mapping[int, str] = field(default_factory=lambda: {0: "class 0", 1: "class 1"})
    class_colours: Mapping[int, str] = field(default_factory=lambda: {0: "#98A4AF", 1: "#5B2C83"})
    outcome: str = "class 1"  # in "probability of ..."
    foreground: str = "foreground"  # what is not background; also in the column <foreground>_area
    finding: str = "finding"  # what the first region marks; its plural ends in s

    def __post_init__(self):
        if missing := set(self.classes) - set(self.class_colours):
            raise FigureError(
                f"The classes {sorted(missing)} have no colour: name one for each of "
                f"{sorted(self.classes)} in class_colours."
            )
