"""A suite of probes: what ``issl-engine probe --suite`` evaluates an encoder on, as a small YAML file."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from issl_engine.config import Config
from issl_engine.mistakes import Mistake
from issl_engine.probing.config import EvaluationConfig
from issl_engine.probing.fine_tuning.tuner import FineTuningConfig
from issl_engine.probing.protocols import protocol_named
from issl_engine.recipe.schema import AnyProbe, AnySource
from issl_engine.views.corruptions import CorruptionsConfig


class SuiteSource(Config):
    """Another source that the frozen encoder is probed on."""

    setting: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    """How results name this source."""
    source: AnySource
    """Where the images come from."""
    metric: Literal["top1", "top5", "mean_per_class"] | None = None
    """The metric that this data set is compared by: it chooses hyper-parameters, and it alone is given. null takes each
    probe's own metrics."""
    optional: bool = False
    """With true, a source that cannot be loaded is left out with a warning; with false it is an error."""


class Suite(Config):
    """What one frozen encoder is evaluated on. KEY=VALUE on the command line changes a key as suite.KEY=VALUE."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    """Name of the suite. Results lie in the folder suite_<name>."""
    description: str = ""
    """What the suite is for."""
    evaluation: EvaluationConfig | None = None
    """How images are prepared for the probes; null takes the recipe's own."""
    protocol: str = ""
    """A published protocol (issl-engine list protocols) in the place of probes; empty for none."""
    probes: tuple[AnyProbe, ...] | None = None
    """Probes of the frozen encoder on every source; null takes the recipe's own."""
    own_source: bool = True
    """With true, the recipe's own source is evaluated too."""
    sources: tuple[SuiteSource, ...] = ()
    """Other sources to probe on (transfer)."""
    corruptions: CorruptionsConfig | None = None
    """Corruptions of images on which the probes of the own source are judged too, or null for none."""
    fine_tuning: FineTuningConfig | None = None
    """How the encoder is fine-tuned on the own source, or null for no fine-tuning."""

    @model_validator(mode="before")
    @classmethod
    def _protocol_is_a_probe(cls, keys: Any) -> Any:
        if not isinstance(keys, dict) or not keys.get("protocol"):
            return keys
        if keys.get("probes") is not None:
            raise Mistake("protocol and probes are both given; leave one out, or write {protocol: NAME} among probes")
        protocol_named(keys["protocol"])
        return keys | {"probes": [{"protocol": keys["protocol"]}]}

    @model_validator(mode="after")
    def _settings_differ(self) -> Self:
        settings = [one.setting for one in self.sources]
        for setting in settings:
            if settings.count(setting) > 1:
                raise Mistake(f"sources: two of them have the setting '{setting}'; give each a name of its own")
        return self

    @model_validator(mode="after")
    def _there_is_something_to_do(self) -> Self:
        if not self.own_source and not self.sources:
            raise Mistake("own_source is false and there are no sources; name one, or leave own_source out")
        if not self.own_source and (self.corruptions or self.fine_tuning):
            raise Mistake("corruptions and fine_tuning need the own source; set own_source to true")
        return self
