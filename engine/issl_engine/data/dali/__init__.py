"""DALI executes the augmentations that ``draws`` decided: decode once, cut every view, normalise.

The only folder that imports DALI. Every random number comes from ``draws``, so the state of a loader is its count of
batches.

Where DALI differs from torchvision:
- Colour jitter: the order is always hue, saturation, contrast, brightness (torchvision shuffles them),
  contrast is about mid-grey (128) and not about the image's mean, and hue turns in YIQ space and not in HSV.
- A crop is resized with the pixels around its window within the filter's reach; torchvision cuts first.
  Inside they agree to one grey level, at the crop's edges they differ. Both antialias.
- Blur reaches three standard deviations to each side, at any crop size, and mirrors the edge.
Grey weighs the channels 0.299, 0.587, 0.114, as torchvision does.

Letters: B images of a batch, H height, W width, C channels.
"""

from issl_engine.data.dali.evaluation import EvaluationImages
from issl_engine.data.dali.training import TrainingViews, check_views_fit

__all__ = ["EvaluationImages", "TrainingViews", "check_views_fit"]
