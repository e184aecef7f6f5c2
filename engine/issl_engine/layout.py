"""What lies where in the folder of a run.

RUN/recipe.yaml  environment.json  run.json  results.csv  report.html  log.txt  differences.csv
RUN/<arm>/seed<k>/resolved.yaml  metrics.jsonl  checkpoints/  controls.json
                  probes.json  answers.json  diagnostics.json  feature_map.npz  views.png  kept.json
RUN/<arm>/seed<k>/over_training/step_<n>.json  kept.json
                  the first probe on a checkpoint of that step (evaluation.over_training)
RUN/over_training.csv                 the same as a table
RUN/controls/seed<k>/<kind>-<digest>/probes.json  answers.json  diagnostics-<digest>.json  feature_map.npz  kept.json
RUN/thumbnails-<source>.webp  .json   the images of the feature maps
RUN/logs/rank<k>.log                  where a supervisor started the ranks

SEARCH/search.json  search.csv  search.svg  chosen.yaml
SEARCH/<arm>/trial<k>/                a run folder of this arm alone, and trial.json: what came of it

A kept.json says what the results beside it were made of (``run/kept.py``). A controls.json names the controls that its
arm is compared with: arms that agree on what a control depends on share it.
"""

from pathlib import Path

RECIPE = "recipe.yaml"
ENVIRONMENT = "environment.json"
RECORD = "run.json"
RESULTS = "results.csv"
DIFFERENCES = "differences.csv"
CURVES = "over_training.csv"
PAGE = "report.html"
LOG = "log.txt"

RESOLVED = "resolved.yaml"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
CONTROLS = "controls.json"
PROBES = "probes.json"
ANSWERS = "answers.json"
DIAGNOSTICS = "diagnostics.json"
OVER_TRAINING = "over_training"
FEATURE_MAP = "feature_map.npz"
VIEWS = "views.png"

SEARCH = "search.json"
TRIALS = "search.csv"
FIGURE = "search.svg"
CHOSEN = "chosen.yaml"
TRIAL = "trial.json"

UNTRAINED = "untrained"
RAW_PIXELS = "raw_pixels"
_CONTROLS_FOLDER = "controls"


def arm_folder(run: Path, arm: str, seed: int) -> Path:
    """Where one seed of one arm lies."""
    return run / arm / f"seed{seed}"


def trial_folder(search: Path, arm: str, number: int) -> Path:
    """Where one trial of one arm lies."""
    return search / arm / f"trial{number:03d}"


def control_folder(kind: str, digest: str, seed: int) -> str:
    """Where a control lies, below the run's folder: ``kind`` untrained or raw_pixels, ``digest`` of what it is."""
    return f"{_CONTROLS_FOLDER}/seed{seed}/{kind}-{digest}"


def is_control_folder(name: str) -> bool:
    """Whether a name may be one that ``control_folder`` gave, so that it leads nowhere else."""
    parts = Path(name).parts
    return len(parts) == 3 and parts[0] == _CONTROLS_FOLDER and ".." not in parts
