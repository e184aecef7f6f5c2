"""Recipes can name every probe."""

import issl_engine.probing as probing
from issl_engine.probing.base import ProbeConfig
from issl_engine.probing.few_labels import FewLabelsProbeConfig
from issl_engine.probing.knn import KNNProbeConfig
from issl_engine.probing.linear import LinearProbeConfig
from issl_engine.probing.logistic import LogisticProbeConfig
from issl_engine.probing.mlp import MLPProbeConfig
from issl_engine.probing.multi_label import MultiLabelProbeConfig
from issl_engine.probing.nearest_mean import NearestMeanProbeConfig
from issl_engine.probing.regression import RegressionProbeConfig
from issl_engine.probing.ridge import RidgeProbeConfig
from issl_engine.variants import variants


def test_every_probe_is_found_under_its_name() -> None:
    assert variants(probing, ProbeConfig) == {
        "few_labels": FewLabelsProbeConfig,
        "knn": KNNProbeConfig,
        "linear": LinearProbeConfig,
        "logistic": LogisticProbeConfig,
        "mlp": MLPProbeConfig,
        "multi_label": MultiLabelProbeConfig,
        "nearest_mean": NearestMeanProbeConfig,
        "regression": RegressionProbeConfig,
        "ridge": RidgeProbeConfig,
    }
