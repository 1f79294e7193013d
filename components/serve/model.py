"""The KServe model: a bundle behind an engine. Protocols hand it photos and get answers."""

from components.core.bundle import Bundle, bundle_version
from components.serve.answers import Answer, Photo
from components.serve.engine import Engine, EngineOptions
from components.serve.fields import FIELDS
from components.serve.kserve_lean import Model, ModelNotReady, ModelRepository
from components.serve.metrics import CONFIDENCE, COUNTS, MODEL_INFO, Drift
from components.serve.refusal import Refusal


class BinCounter(Model):
    """Counts the items in photos of bins. `load` opens the bundle and warms it up."""

    def __init__(self, name: str, bundle: Bundle, options: EngineOptions) -> None:
        super().__init__(name)
        self.bundle = bundle
        self.version = bundle_version(bundle.folder)
        self._options = options
        baseline = bundle.info.drift_baseline  # none in a bundle whose baseline would be of counts in range alone
        self._drift = None if baseline is None else Drift(name, self.version, baseline)
        self._counter: Engine | None = None

    @property
    def counter(self) -> Engine:
        """What counts the photos; only of a model that is loaded."""
        if self._counter is None:
            raise ModelNotReady(self.name)
        return self._counter

    def load(self) -> bool:
        """Open the graph and warm it up; ready afterwards. Raises UserError."""
        engine = Engine(self.bundle, self._options)
        engine.start()
        self._counter = engine
        MODEL_INFO.labels(self.name, self.version, engine.runtime.name, engine.runtime.precision).set(1)
        self.ready = True
        return True

    def end(self, seconds: float) -> bool:
        """Answer what waits, then free the workers; False when they did not end within the time given."""
        self.ready = False
        if self._counter is None:
            return True
        if self._drift is not None:
            self._drift.close()
            self._drift = None
        return self._counter.close(seconds)

    async def predict(self, payload: list[Photo], headers: dict[str, str] | None = None) -> list[Answer]:  # noqa: ARG002
        """Count photos. Raises Refusal."""
        answers = await self.counter.count(payload)
        if self._drift is not None:
            self._drift.add((answer.count, answer.out_of_range) for answer in answers)
        confidence = CONFIDENCE.labels(self.name)
        for answer in answers:
            COUNTS.labels(self.name, answer.count).inc()
            confidence.observe(answer.scores[answer.count - 1])
        return answers

    def get_input_types(self) -> list[dict[str, object]]:
        """The V2 inputs."""
        return [{"name": "image", "datatype": "BYTES", "shape": [-1]}]

    def get_output_types(self) -> list[dict[str, object]]:
        """The V2 outputs that every answer has."""
        info = self.bundle.info
        return [
            field.tensor(info.max_count)
            for field in FIELDS
            if not field.of_record and (info.has_out_of_range or not field.may_be_null)
        ]


class Models(ModelRepository):
    """The one model that is served, as KServe looks for it."""

    def __init__(self, model: BinCounter) -> None:
        super().__init__(str(model.bundle.folder))
        self._model = model
        self.update(model)

    def model(self, name: str, version: str | None = None) -> BinCounter:
        """The model of that name. Raises Refusal, also when another version than the one asked for is served."""
        model = self._model
        if name != model.name:
            raise Refusal(404, "unknown_model", f"There is no model {name!r:.60}; {model.name} is served.")
        if version is not None and version != model.version:
            raise Refusal(404, "unknown_model", f"Version {version!r:.60} of {name} is not served; {model.version} is.")
        return model
