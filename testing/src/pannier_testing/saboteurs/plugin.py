"""
Offers every saboteur under a URL scheme of its own, so that child processes and the command line reach them, too.

Not installed as a plugin. Name it to the suite: `pannier certify "takes-low-priorities-first://{namespace}" --adapter
pannier_testing.saboteurs.plugin:plugin`.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Final

from pannier.hookspecs import hookimpl
from pannier.storage import StorageAdapter
from pannier_testing.saboteurs.making import MADE, Saboteur

PATH: Final = "pannier_testing.saboteurs.plugin:plugin"
"""The plugin's import path, for a `Subject`."""


def collect_saboteurs() -> tuple[Saboteur, ...]:
    """Return every saboteur, in the order of the rules that they break, then the angels."""
    package = importlib.import_module("pannier_testing.saboteurs")
    found: list[Saboteur] = []
    for module_info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if module_info.name.endswith("__main__"):
            continue
        module = importlib.import_module(module_info.name)
        mine = (value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__)
        found += [vars(value)[MADE] for value in mine if isinstance(value, type) and MADE in vars(value)]
    return tuple(sorted(found, key=lambda saboteur: (int((saboteur.breaks or "R999")[1:]), saboteur.name)))


class SaboteurPlugin:
    """The plugin."""

    @hookimpl
    def pannier_storage_adapters(self) -> Sequence[StorageAdapter]:
        """Offer every saboteur and every angel."""
        return [saboteur.adapter for saboteur in collect_saboteurs()]


plugin = SaboteurPlugin()
