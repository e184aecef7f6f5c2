"""DALI carries out what the host drew: decode once, cut every view, augment, normalise.

The only folder that imports DALI. Every random number comes from ``views``, so the state of a loader is its count of
batches.

Where it differs from torchvision, as ``issl-engine bench parity`` measures it on photo-like images (mean |difference|
in grey levels of 255, 99th percentile in brackets; profiling/results/parity.csv):
- Hue turns about the grey axis of RGB: 2.7 (13) from the turn in HSV at strength 0.1, 4.2 (19) at 0.2. HSV is no
  linear map, and DALI has none; its own turn, in YIQ, is further off: 3.4 (21) and 5.8 (33).
- The jitter's order is hue, saturation, contrast, with brightness before or after contrast by a toss; torchvision
  shuffles all four. Without hue it is 1.5 (5) from torchvision in any order at strength 0.4 and 1.7 (14) at 0.8, of
  which 1.4 remain in the same order: torchvision cuts fractions off after each step, DALI rounds.
- A crop is resized with the pixels around its window within the filter's reach; torchvision cuts first. Over all
  pixels 0.3 to 0.5 (4 to 8), at 8 pixels from the edge 0.2 (1). To cut first would take a sixth more CPU time for the
  crop.
- Blur reaches three standard deviations to each side, at any crop size: 0.04 (1) from torchvision's kernel of 23 pixels
  at sigma 2, 0.8 (3) from one of 9 pixels, which ends sooner. Both mirror the edge.
Contrast is about the crop's mean grey as in torchvision, grey weighs the channels 0.299, 0.587, 0.114, and flip,
solarisation and normalisation are equal.

Letters: B images of a batch, H height, W width, C channels.
"""

from issl_engine.loading.evaluation import EvaluationImages
from issl_engine.loading.pipeline import copy_batch
from issl_engine.loading.reading import ReadImages, Stage
from issl_engine.loading.training import TrainingViews, check_views_fit

__all__ = ["EvaluationImages", "ReadImages", "Stage", "TrainingViews", "check_views_fit", "copy_batch"]
