"""Host and graph of every augmentation speak of the same arrays; a name that only one of them knows is an error."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from nvidia.dali import types

from issl_engine.loading import TrainingViews
from issl_engine.loading.augmentations import __path__ as graph_folder
from issl_engine.loading.augmentations.base import ViewGraph, apply_transform
from issl_engine.random_streams import FIRST_OWN_PURPOSE, Purpose
from issl_engine.views.augmentations import __path__ as host_folder
from issl_engine.views.augmentations.base import SHARED_COLUMNS, Arrays, Transform, ViewBatch
from issl_engine.views.augmentations.blur import Blur
from issl_engine.views.augmentations.colour import ColourJitter
from issl_engine.views.augmentations.flip import Flip
from issl_engine.views.augmentations.solarise import Solarise
from issl_engine.views.config import Augmentation, CropGroup, ViewsConfig
from issl_engine.views.policies.trivial_augment import TrivialAugment
from issl_engine.views.streams import ViewStreams

from .drawn_crops import NOTHING, configure, image_set, only, smooth_pixels


def inverted(view: Any, uniform: Any) -> Any:
    """An operator of a user."""
    return types.Constant(255, dtype=types.DALIDataType.UINT8) - view


SETTINGS: dict[str, Any] = {
    "policy": {"name": "trivial_augment"},
    "operators": [{"function": f"{__name__}:inverted"}],
}
"""For keys that do not go without."""
FULL = Augmentation.model_validate(
    {key: SETTINGS.get(key, {}) for key, field in Augmentation.model_fields.items() if field.default is None}
)
"""Every key on."""
ORDER = ["crop", "rotation", "policy", "colour", "blur", "solarise", "noise", "user", "flip"]
"""A new augmentation goes between any two of them, but after the crop and before the flip."""
IDENTITY = TrivialAugment(name="trivial_augment", operations=("identity",))
BARE = Augmentation(
    flip=0, greyscale=0, colour_jitter=ColourJitter(probability=0), policy=IDENTITY, blur=Blur(probability=0),
    solarise=Solarise(probability=0),
)  # fmt: skip
"""Settings that never change a pixel."""


def transforms(augmentation: Augmentation) -> tuple[Transform, ...]:
    views = configure(augmentation)
    return views.transforms_of(views.groups[0])


def kinds() -> Iterator[type[Transform]]:
    """Every kind of transform that a file of views/augmentations defines."""
    for found in pkgutil.iter_modules(host_folder):
        module = importlib.import_module(f"issl_engine.views.augmentations.{found.name}")
        for value in vars(module).values():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and issubclass(value, Transform) and not inspect.isabstract(value):
                yield value


KINDS = list(kinds())


def file_of(thing: Any) -> str:
    return thing.__module__.rsplit(".", 1)[1]


def test_every_augmentation_has_a_file_and_a_function_of_the_same_name() -> None:
    names = {file_of(kind) for kind in KINDS}
    assert names >= {*ORDER}
    for folder in (host_folder, graph_folder):
        assert {found.name for found in pkgutil.iter_modules(folder)} == names | {"base"}
    for kind in KINDS:
        function = apply_transform.dispatch(kind)
        assert (function.__name__, file_of(function)) == (file_of(kind), file_of(kind))


def test_every_augmentation_is_reached_and_the_order_stays() -> None:
    order = [type(transform) for transform in transforms(FULL)]
    assert {*order} == {*KINDS}
    names = [file_of(kind) for kind in order]
    assert [name for name in names if name in ORDER] == ORDER
    assert (names[0], names[-1]) == (ORDER[0], ORDER[-1])


PURPOSES: dict[str, set[int]] = {
    "crop": {Purpose.VIEWS},
    "rotation": {Purpose.ROTATION},
    "policy": {Purpose.POLICY},
    "colour": {Purpose.VIEWS, Purpose.JITTER_ORDER},
    "blur": {Purpose.VIEWS},
    "solarise": {Purpose.VIEWS},
    "noise": {Purpose.NOISE},
    "user": {Purpose.OPERATORS},
    "flip": {Purpose.VIEWS},
}
"""The streams of published runs."""


def test_the_shared_stream_is_shared_out_and_every_other_has_one_owner() -> None:
    taken: list[int] = []
    owners: dict[str, set[int]] = {}
    for transform in transforms(FULL):
        owners[file_of(type(transform))] = {columns.purpose for columns in transform.columns}
        for columns in transform.columns:
            taken += range(columns.first, columns.end) if columns.purpose == Purpose.VIEWS else ()
    assert sorted(taken) == list(range(SHARED_COLUMNS))
    assert PURPOSES.items() <= owners.items()
    own = [purpose for purposes in owners.values() for purpose in purposes - {Purpose.VIEWS}]
    assert len(own) == len({*own})
    later = [purpose for name, purposes in owners.items() if name not in PURPOSES for purpose in purposes]
    assert all(FIRST_OWN_PURPOSE <= purpose < 256 for purpose in later)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", [FULL, BARE])
def test_the_host_names_the_arrays_that_the_graph_takes(augmentation: Augmentation, channels: int) -> None:
    images = image_set(smooth_pixels(4, channels=channels))
    streams = ViewStreams(configure(augmentation), seed=0, channels=channels)
    (view,) = streams.arrays(images.sizes_HW, epoch=0, first_position=0)
    for transform, arrays in zip(streams.transforms[0], view, strict=True):
        parameters = inspect.signature(apply_transform.dispatch(type(transform))).parameters.values()
        taken = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
        assert arrays.keys() == taken, transform
        assert all(len(array) == 4 for array in arrays.values() if array is not None)


@pytest.mark.parametrize("channels", [1, 3])
def test_settings_that_change_no_pixel_leave_the_operators_out(channels: int) -> None:
    (view,) = ViewStreams(configure(BARE), seed=0, channels=channels).arrays(
        image_set(smooth_pixels(2)).sizes_HW, epoch=0, first_position=0
    )
    needed = [any(array is not None for array in arrays.values()) for arrays in view]
    assert [file_of(type(t)) for t, some in zip(transforms(BARE), needed, strict=True) if some] == ["crop", "flip"]


def build(augmentation: Augmentation) -> None:
    images = image_set(smooth_pixels())
    TrainingViews(
        images, configure(augmentation), batch_size=4, rank=0, world_size=1, seed=0, device=torch.device("cpu"),
        num_threads=1,
    ).close()  # fmt: skip


@pytest.mark.parametrize(("spoil", "sentence"), [
    (lambda arrays: {"sigma": arrays["sigma"]}, "blur() missing 1 required keyword-only argument: 'window'"),
    (lambda arrays: arrays | {"reach": arrays["window"]}, "blur() got an unexpected keyword argument 'reach'"),
])  # fmt: skip
def test_a_name_that_is_missing_or_surplus_is_an_error_when_the_graph_is_built(
    monkeypatch: pytest.MonkeyPatch, spoil: Any, sentence: str
) -> None:
    build(only(blur=Blur()))
    arrays = Blur.arrays

    def spoilt(self: Blur, batch: ViewBatch) -> Arrays:
        changed: Arrays = spoil(arrays(self, batch))
        return changed

    monkeypatch.setattr(Blur, "arrays", spoilt)
    with pytest.raises(TypeError, match=re.escape(sentence)):
        build(only(blur=Blur()))


def test_arrays_that_come_and_go_from_batch_to_batch_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = Flip.arrays

    def sometimes(self: Flip, batch: ViewBatch) -> Arrays:
        return arrays(self, batch) if len(batch.sizes_HW) == 1 else {"mirrored": None}

    monkeypatch.setattr(Flip, "arrays", sometimes)
    loader = TrainingViews(
        image_set(smooth_pixels()), configure(NOTHING), batch_size=4, rank=0, world_size=1, seed=0,
        device=torch.device("cpu"), num_threads=1,
    )  # fmt: skip
    with pytest.raises(Exception, match=r"fed and declared differ: .*mirrored"):
        next(loader)
    loader.close()


def test_an_augmentation_without_a_function_says_where_one_goes() -> None:
    graph = ViewGraph(channels=3, on_gpu=False, mean=(0, 0, 0), std=(1, 1, 1), layout="CHW")
    with pytest.raises(NotImplementedError, match="no function of loading/augmentations takes object; register one"):
        apply_transform(object(), None, graph)


def test_groups_of_other_settings_do_not_mix_their_arrays() -> None:
    """Each view's arrays are its own: a group without blur is as it is alone."""
    plain = CropGroup(count=1, size=24, area=(1, 1), ratio=(1, 1))
    groups = (plain, plain.model_copy(update={"augmentation": FULL}), plain)
    views = configure(NOTHING).model_copy(update={"groups": groups, "num_global_views": 3})
    loader = TrainingViews(
        image_set(smooth_pixels()), ViewsConfig.model_validate(views.model_dump()), batch_size=4, rank=0, world_size=1,
        seed=0, device=torch.device("cpu"), num_threads=1,
    )  # fmt: skip
    first, full, last = next(loader).crops
    loader.close()
    assert torch.equal(first, last)
    assert not torch.equal(first, full)
