"""Recipes can name every probe."""

import issl_engine.probing.probes as probing
from issl_engine.probing.probes.base import ProbeConfig
from issl_engine.probing.probes.few_labels import FewLabelsProbeConfig
from issl_engine.probing.probes.knn import KNNProbeConfig
from issl_engine.probing.probes.linear import LinearProbeConfig
from issl_engine.probing.probes.linear_augmented import LinearAugmentedProbeConfig
from issl_engine.probing.probes.linear_sgd import LinearSGDProbeConfig
from issl_engine.probing.probes.logistic import LogisticProbeConfig
from issl_engine.probing.probes.mlp import MLPProbeConfig
from issl_engine.probing.probes.multi_label import MultiLabelProbeConfig
from issl_engine.probing.probes.nearest_mean import NearestMeanProbeConfig
from issl_engine.probing.probes.regression import RegressionProbeConfig
from issl_engine.probing.probes.ridge import RidgeProbeConfig
from issl_engine.variants import variants


def test_every_probe_is_found_under_its_name() -> None:
    assert variants(probing, ProbeConfig) == {
        "few_labels": FewLabelsProbeConfig,
        "knn": KNNProbeConfig,
        "linear": LinearProbeConfig,
        "linear_augmented": LinearAugmentedProbeConfig,
        "linear_sgd": LinearSGDProbeConfig,
        "logistic": LogisticProbeConfig,
        "mlp": MLPProbeConfig,
        "multi_label": MultiLabelProbeConfig,
        "nearest_mean": NearestMeanProbeConfig,
        "regression": RegressionProbeConfig,
        "ridge": RidgeProbeConfig,
    }
