"""Which models are loaded, and loading a second one beside the first through the repository API."""

import asyncio
import re
from pathlib import Path

from components.core.bundle import INFO_FILE, read_bundle
from components.core.errors import UserError
from components.serve.engine import EngineOptions
from components.serve.kserve_lean import ModelRepository
from components.serve.model import BinCounter
from components.serve.refusal import Refusal

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class BundleRepository(ModelRepository):
    """Bundles that lie in one folder; a model's name is the name of its bundle's folder."""

    max_models = 4  # each takes memory for its weights and a worker a core

    def __init__(self, folder: Path, primary: str, options: EngineOptions) -> None:
        super().__init__(str(folder))
        self._folder = folder
        self._primary = primary
        self._options = options
        self._loading = asyncio.Lock()

    def model(self, name: str, version: str | None = None) -> BinCounter:
        """A model that is loaded. Raises Refusal, also when another version than the one asked for is loaded."""
        model = self.get_model(name)
        if not isinstance(model, BinCounter):
            loaded = ", ".join(self.get_models())
            raise Refusal(404, "unknown_model", f"There is no model {name!r:.60}; loaded: {loaded}.")
        if version is not None and version != model.version:
            raise Refusal(404, "unknown_model", f"Version {version!r:.60} of {name} is not loaded; {model.version} is.")
        return model

    async def load(self, name: str) -> bool:
        """Load the bundle in the sub-folder `name` and warm it up; a model that is loaded stays. Raises Refusal."""
        async with self._loading:
            if self.get_model(name) is not None:
                return True
            if not _NAME.fullmatch(name) or not (self._folder / name / INFO_FILE).is_file():
                raise Refusal(404, "unknown_model", f"There is no model {name!r:.60} in the server's model repository.")
            if len(self.models) >= self.max_models:
                raise Refusal(409, "too_many_models", f"{self.max_models} models are loaded; unload one first.")
            try:
                model = await asyncio.to_thread(self._open, name)
            except UserError as error:
                raise Refusal(409, "bad_model", str(error)) from error
            self.update(model)
            return True

    def _open(self, name: str) -> BinCounter:
        model = BinCounter(name, read_bundle(self._folder / name), self._options)
        model.load()
        return model

    async def unload_model(self, name: str) -> None:
        """Answer what waits for a model and forget it. The one that the server was started with stays."""
        if name == self._primary:
            raise Refusal(409, "primary_model", f"{name} is the model that the server was started with; it stays.")
        model = self.model(name)
        del self.models[name]
        await asyncio.to_thread(model.stop)
