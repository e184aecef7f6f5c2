"""Which images a step holds does not depend on how ranks and passes share them out."""

import pytest

from issl_engine.views.batch_order import BatchOrder

NUM_IMAGES, GLOBAL_BATCH, STEPS = 46, 8, 12  # 5 steps per epoch; 6 images wait, more than a pass of 1, 2 or 4 holds


def steps(world_size: int, passes: int) -> list[list[int]]:
    """The images of each step, in the order of the passes and, in each, of the ranks."""
    size = GLOBAL_BATCH // world_size // passes
    orders = [
        BatchOrder(NUM_IMAGES, batch_size=size, rank=rank, world_size=world_size, seed=3, accumulation_steps=passes)
        for rank in range(world_size)
    ]
    made = []
    for step in range(STEPS):
        passes_of_step = range(step * passes, (step + 1) * passes)
        made.append([int(image) for batch in passes_of_step for order in orders for image in order.ids(batch)])
    return made


@pytest.mark.parametrize(("world_size", "passes"), [(1, 4), (2, 1), (2, 2), (4, 1), (4, 2), (1, 8)])
def test_a_step_holds_the_same_images_whatever_ranks_and_passes(world_size: int, passes: int) -> None:
    assert steps(world_size, passes) == steps(1, 1)


def test_an_epoch_has_no_image_twice() -> None:
    of_epoch = [image for step in steps(2, 2)[:5] for image in step]
    assert len(set(of_epoch)) == len(of_epoch) == 40
