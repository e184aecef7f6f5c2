"""The columns of a comparison: one for each probe, setting and metric."""

from dataclasses import dataclass, replace

from issl_engine.probing.judging.metric_limits import PERCENT, Limits, limits_of
from issl_engine.probing.probes.base import ProbeResult

PROBE_TITLES = {
    "linear": "linear probe", "linear_sgd": "linear probe (SGD)", "linear_augmented": "linear probe on crops",
    "knn": "kNN", "logistic": "logistic probe", "mlp": "MLP probe",
    "nearest_mean": "nearest class mean", "ridge": "ridge regression",
}  # fmt: skip
METRIC_TITLES = {
    "top1": "top-1 %", "top5": "top-5 %", "mean_per_class": "mean per class %", "mean_average_precision": "mAP %",
    "average_precision": "AP %", "r2": "R²", "rmse": "RMSE",
}  # fmt: skip
"""How tables call a metric; one that is not here goes by its own name."""
LOWER_IS_BETTER = frozenset({"mae", "mse", "rmse", "error"})


@dataclass(frozen=True, kw_only=True)
class Column:
    """What one column of a table compares."""

    probe: str
    setting: str
    metric: str
    network: str = ""
    protocol: str = ""

    @property
    def title(self) -> str:
        """Such as "linear probe, teacher, 1 % of labels, top-1 %"."""
        metric = METRIC_TITLES.get(self.metric, self.metric)
        if self.network or self.protocol or self.setting:
            return ", ".join(filter(None, [self.name, self.setting, metric]))
        return f"{self.name} {metric}"

    @property
    def name(self) -> str:
        """Such as "linear probe, swav protocol, teacher"."""
        protocol = f"{self.protocol} protocol" if self.protocol else ""
        return ", ".join(filter(None, [PROBE_TITLES.get(self.probe, self.probe), protocol, self.network]))

    @property
    def key(self) -> str:
        """How programs call it: "linear", "linear, 1 % of labels", "linear, top5"."""
        metric = "" if self.metric == "top1" else self.metric
        return ", ".join(filter(None, [self.probe, self.protocol, self.network, self.setting, metric]))

    @property
    def of_control(self) -> "Column":
        """The column that an untrained encoder has in this one's place: it has one network."""
        return replace(self, network="")

    @property
    def lower_is_better(self) -> bool:
        return self.metric in LOWER_IS_BETTER

    @property
    def limits(self) -> Limits | None:
        """Of its values."""
        return limits_of(self.metric)

    @property
    def digits(self) -> int:
        """That tables show behind the point."""
        return 1 if self.metric in PERCENT else 3

    def holds(self, result: ProbeResult) -> bool:
        """Whether a result belongs in this column."""
        return column_of(result) == self


def column_of(result: ProbeResult) -> Column:
    return Column(
        probe=result.probe, setting=result.setting, metric=result.metric, network=result.network,
        protocol=result.protocol,
    )  # fmt: skip
