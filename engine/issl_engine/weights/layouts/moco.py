"""MoCo v1 and v2 (facebookresearch/moco): the query encoder is taken, as its authors' main_lincls.py does."""

from typing import ClassVar, Literal

from issl_engine.weights.layouts.base import Layout


class MocoLayout(Layout):
    """MoCo v1 and v2: state_dict.module.encoder_q., with encoder_k and the queue."""

    name: Literal["moco"] = "moco"

    roots: ClassVar = (r"(state_dict\.)?(module\.)?encoder_q\.",)
    heads: ClassVar = (
        r"(\w+\.)*encoder_q\.fc\..+",
        r"(\w+\.)*encoder_k\..+",
        r"(\w+\.)*(queue|queue_ptr)",
    )
