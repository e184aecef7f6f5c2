"""The typed recipe: every key of a YAML file, its type, its default and its meaning."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

import issl_engine.models.encoders as encoders
import issl_engine.objectives as objectives
import issl_engine.optim as optim
import issl_engine.probing.probes as probing
import issl_engine.regularizers as regularizers
import issl_engine.sources as sources
from issl_engine.config import Config
from issl_engine.measures.config import DiagnosticsConfig
from issl_engine.mistakes import Mistake
from issl_engine.models.encoders.base import EncoderConfig
from issl_engine.objectives.base import ObjectiveConfig
from issl_engine.optim.base import OptimizerConfig
from issl_engine.optim.schedules import ScheduleConfig
from issl_engine.probing.config import EvaluationConfig
from issl_engine.probing.probes.base import ProbeConfig
from issl_engine.probing.protocols import with_protocol
from issl_engine.recipe.search_config import SearchConfig
from issl_engine.regularizers.base import RegularizerConfig
from issl_engine.sources.base import SourceConfig
from issl_engine.variants import one_of, variants
from issl_engine.views.config import ViewsConfig
from issl_engine.views.preprocessing import Preprocessing

if TYPE_CHECKING:  # the choices are found at run time; a type checker knows what they have in common
    AnySource = SourceConfig
    AnyEncoder = EncoderConfig
    AnyObjective = ObjectiveConfig
    AnyRegularizer = RegularizerConfig
    AnyOptimizer = OptimizerConfig
    AnyProbe = ProbeConfig
else:
    AnySource = one_of(sources, SourceConfig)
    AnyEncoder = one_of(encoders, EncoderConfig)
    AnyObjective = one_of(objectives, ObjectiveConfig)
    AnyRegularizer = one_of(regularizers, RegularizerConfig)
    AnyOptimizer = one_of(optim, OptimizerConfig)
    AnyProbe = Annotated[one_of(probing, ProbeConfig), BeforeValidator(with_protocol)]

PositiveInt = Annotated[int, Field(ge=1)]


class DataConfig(Config):
    """How images reach the accelerator."""

    decode_threads: PositiveInt = 2
    """DALI threads per rank. They decode images and augment crops."""
    prefetch_batches: PositiveInt = 2
    """Batches that are prepared ahead of the training step."""
    cache_gib: Annotated[float, Field(ge=0)] = 0
    """Memory per rank for encoded images that were read once, in GiB (2^30 bytes); 0 keeps none. This helps where
    storage is slower than the loader. The system already keeps the files of a local disk."""

    @property
    def cache_bytes(self) -> int:
        """``cache_gib`` in bytes."""
        return int(self.cache_gib * 2**30)


class TrainingConfig(Config):
    """Length, batch and numerics of pretraining."""

    epochs: Annotated[float, Field(gt=0)]
    """Passes over the images that pretraining sees; fractions are allowed."""
    image_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the source's images that pretraining sees, as many of each class, and the same ones with every seed.
    Probes are fitted on all."""
    global_batch_size: Annotated[int, Field(ge=2)]
    """Images per optimiser step, over all ranks and accumulation steps."""
    accumulation_steps: PositiveInt = 1
    """Forward and backward passes per optimiser step. A loss that compares images sees the images of one pass only,
    unless exact_accumulation is true."""
    exact_accumulation: bool = False
    """With accumulation_steps > 1, the loss compares the images of all passes of a step. It is the loss of the whole
    batch with the memory of one pass, and costs a second forward pass. Only contrastive objectives can do it.
    Batch-norm still sees one pass."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of encoder and heads. bf16 is autocast: weights, batch-norm and losses stay in fp32."""
    channels_last: bool = True
    """Keep images and convolution weights in channels-last memory order, in which convolutions are faster."""
    compile: bool = False
    """Compile encoder and heads with torch.compile, one graph per crop size. If compiling fails, training logs why and
    goes on without it."""
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    """The mode of torch.compile. reduce-overhead also records CUDA graphs: this pays where the GPU waits for Python
    between small kernels, and keeps their memory. max-autotune tries more kernels, and compiles for minutes."""
    activation_checkpointing: bool = False
    """Keep only the inputs of the encoder's blocks for the backward pass, and compute the rest again there. This takes
    less memory and about a third more time, and gives the same gradients. It does not work together with compile."""
    view_batching: Literal["by_size", "each"] = "by_size"
    """Which views go through the encoder together: by_size takes all of one size, as SwAV's authors do; each takes
    every view alone, with more kernel launches. Batch-norm normalises over what goes through together, so the choice
    changes results."""
    kernels: Literal["auto", "reference", "chunked", "triton"] = "auto"
    """How losses are computed: auto takes Triton on an NVIDIA GPU and the chunked torch path elsewhere. The environment
    variable ISSL_KERNELS has priority over this key."""
    clip_gradient_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global norm of the gradients, or null for no clipping."""
    clip_gradient_value: Annotated[float, Field(gt=0)] | None = None
    """Largest absolute value of one gradient entry, or null for no clipping."""
    sync_batch_norm: bool = True
    """With true, batch-norm takes its statistics over the images of all ranks in one forward pass; with false, each
    rank takes its own."""
    on_non_finite: Literal["stop", "skip"] = "stop"
    """What happens when the loss or the gradients of a step hold a NaN or an infinity on any rank. stop ends training
    with the weights from before the step. skip leaves the step out on all ranks, with all that it would have
    changed."""
    max_skipped_steps: PositiveInt = 20
    """With on_non_finite: skip, training ends after this many skipped steps in a row."""
    log_every_steps: PositiveInt = 10
    """Steps between two lines of metrics.jsonl."""
    watchdog_seconds: Annotated[float, Field(ge=0)] = 600
    """A run ends after this many seconds without progress, and names the rank that the others wait for. Choose more
    than the first step with compilation, a checkpoint and the loader's start take. 0 never ends a run."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of torch per rank; 0 leaves the number to torch."""

    @model_validator(mode="after")
    def _compile_fits(self) -> Self:
        if self.compile_mode != "default" and not self.compile:
            raise Mistake(
                f"compile_mode {self.compile_mode} has no effect without compile; set compile to true or leave "
                "compile_mode out"
            )
        if self.compile and self.activation_checkpointing:
            raise Mistake(
                "compile and activation_checkpointing do not work together: a compiled graph itself chooses what it "
                "recomputes; set one of them to false"
            )
        return self


class CheckpointConfig(Config):
    """When to save, and how many checkpoints to keep."""

    every_epochs: Annotated[float, Field(gt=0)] = 1.0
    """Epochs between two checkpoints. One is always written at the end and on interruption."""
    keep: PositiveInt = 2
    """Number of newest checkpoints that are kept. Older ones are deleted after a new one is complete."""
    keep_every_epochs: Annotated[float, Field(gt=0)] | None = None
    """Also keep the first checkpoint at or after each multiple of this number of epochs; null keeps none more."""
    keep_best: bool = False
    """Also keep the checkpoint whose online probe was most accurate over the steps before it. This needs
    online_probe."""
    asynchronous: bool = True
    """With true, checkpoints are written while training goes on, which waits only for a copy of the checkpoint in host
    memory. With false, training waits for the disk."""


class DeepSpeedConfig(Config):
    """What is passed on to DeepSpeed."""

    zero_stage: Annotated[int, Field(ge=0, le=2)] = 0
    """ZeRO stage: 0 keeps the optimiser's state on every rank, 1 shards it over the ranks, 2 shards the gradients
    too."""


class OnlineProbeConfig(Config):
    """A linear classifier trained beside the encoder on its detached representations."""

    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate (Adam)."""


class Recipe(Config):
    """One pretraining run with its probes: what is left of a recipe file once an arm is chosen."""

    name: str
    """Name of the recipe. The run folder is runs/<name> unless --out names another."""
    description: str = ""
    """What the recipe is for, in one paragraph for the report."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)] = (0,)
    """Every arm is run once per seed. Seeds are whole numbers from 0 to 4294967295."""
    source: AnySource
    """Where the images come from."""
    data: DataConfig = DataConfig()
    """How the images are loaded."""
    views: ViewsConfig
    """The crops that the objective compares."""
    encoder: AnyEncoder
    """The network that is pretrained and kept."""
    objective: AnyObjective
    """The self-supervised loss and its heads."""
    regularizers: tuple[AnyRegularizer, ...] = ()
    """Terms that are added to the loss, such as [{name: koleo, weight: 0.1}]. They see the representations of the
    global views."""
    optimizer: AnyOptimizer
    """The optimiser."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How the learning rate changes over the steps."""
    training: TrainingConfig
    """Length, batch size and numerics of pretraining."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When checkpoints are written, and which are kept."""
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    """Settings that are passed on to DeepSpeed."""
    evaluation: EvaluationConfig
    """Images for the probes."""
    probes: tuple[AnyProbe, ...]
    """Probes of the frozen encoder: [{name: linear}, {protocol: swav}]. A protocol has the settings of a published
    one; keys beside it take the place of its own."""
    online_probe: OnlineProbeConfig | None = OnlineProbeConfig()
    """A linear probe that is trained during pretraining, or null for none."""
    diagnostics: DiagnosticsConfig = DiagnosticsConfig()
    """How collapse is measured, and the distance of the representation from the optimum of the theory."""
    controls: bool = True
    """With true, raw pixels and the untrained encoder are probed too."""
    search: SearchConfig = SearchConfig()
    """What 'issl-engine search' tries; 'issl-engine run' does not read it."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are prepared for the frozen encoder: evaluation's sizes, the views' normalisation and filter."""
        return Preprocessing(
            resize=self.evaluation.resize, crop=self.evaluation.crop, mean=self.views.mean, std=self.views.std,
            interpolation=self.views.interpolation,
        )  # fmt: skip

    def prepared_as(self, preprocessing: Preprocessing) -> "Recipe":
        """The recipe with another preprocessing in place of its own."""
        sizes = {"resize": preprocessing.resize, "crop": preprocessing.crop}
        pixels = {
            "mean": preprocessing.mean, "std": preprocessing.std, "interpolation": preprocessing.interpolation,
        }  # fmt: skip
        return self.model_copy(
            update={
                "evaluation": self.evaluation.model_copy(update=sizes), "views": self.views.model_copy(update=pixels),
            }
        )  # fmt: skip

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise Mistake(f"seeds must differ, not {list(self.seeds)}")
        return self

    @model_validator(mode="after")
    def _best_checkpoint_is_measured(self) -> Self:
        if self.checkpoint.keep_best and self.online_probe is None:
            raise Mistake(
                "checkpoint.keep_best goes by the online probe's accuracy, and online_probe is null; set "
                "checkpoint.keep_best to false or give an online_probe"
            )
        return self

    @model_validator(mode="after")
    def _network_is_trained(self) -> Self:
        if self.evaluation.network != "student" and not self.objective.uses_ema_teacher:
            raise Mistake(no_teacher(self))
        if self.objective.uses_ema_teacher:
            for probe in self.probes:
                if not any(probe.is_for(network) for network in self.evaluation.networks):
                    raise Mistake(
                        f"probes: the protocol {probe.protocol} is of the EMA teacher, and evaluation.network is "
                        f"{self.evaluation.network}; set evaluation.network to teacher or both"
                    )
        return self

    @model_validator(mode="after")
    def _predictor_is_there(self) -> Self:
        if any(group.of == "predictor" for group in self.optimizer.groups) and not self.objective.has_predictor:
            able = [name for name, config in variants(objectives, ObjectiveConfig).items() if config.has_predictor]
            raise Mistake(
                f"optimizer.groups has one of the predictor, and objective {self.objective.name} has no predictor; "
                f"leave the group out or choose one of {', '.join(able)}"
            )
        return self

    @model_validator(mode="after")
    def _regularizers_fit(self) -> Self:
        names = [one.name for one in self.regularizers]
        if len(set(names)) != len(names):
            raise Mistake(f"regularizers must differ in name, not {names}")
        if names and self.training.exact_accumulation:
            raise Mistake(
                "regularizers see the representations of one forward pass, which training.exact_accumulation does not "
                "keep; set training.exact_accumulation to false or leave regularizers out"
            )
        return self

    @model_validator(mode="after")
    def _exact_accumulation_has_embeddings(self) -> Self:
        if self.training.exact_accumulation and not self.objective.loss_compares_embeddings:
            able = [
                name
                for name, config in variants(objectives, ObjectiveConfig).items()
                if config.loss_compares_embeddings
            ]
            raise Mistake(
                f"training.exact_accumulation is for contrastive objectives ({', '.join(able)}), and objective.name is "
                f"{self.objective.name}; set training.exact_accumulation to false or choose one of those"
            )
        return self


def no_teacher(recipe: Recipe) -> str:
    """The sentence for a network that the recipe's objective does not train."""
    able = [name for name, config in variants(objectives, ObjectiveConfig).items() if config.uses_ema_teacher]
    return (
        f"evaluation.network asks for the EMA teacher, and objective.name {recipe.objective.name} has none (those with "
        f"one: {', '.join(able)}); set evaluation.network to student"
    )


class RecipeFile(Config):
    """A recipe file that was read: one complete recipe per arm."""

    path: Path
    """Where it was read from."""
    text: str
    """The file as written, for the run folder."""
    overrides: tuple[str, ...] = ()
    """The key=value overrides of the command line."""
    arms: dict[str, Recipe]
    """Arm name → its recipe, in the order of the file. A file without arms has one, named after the objective."""
