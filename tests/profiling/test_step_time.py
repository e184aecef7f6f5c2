"""The profile of a step: its parts make up the whole, and the command prints them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from issl_engine.cli import main


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_parts_add_up_to_the_step(precision: str) -> None:
    command = ["profile", "smoke", "--arm", "dissl", "--steps", "3", "--json", f"training.precision={precision}"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    milliseconds = json.loads(result.stdout)["milliseconds"]
    assert milliseconds["images_per_step"] == 32
    assert milliseconds["views_per_image"] == 3
    parts = sum(milliseconds[name] for name in ("data", "encoder", "objective", "backward_and_optimizer"))
    assert parts == pytest.approx(milliseconds["step"], rel=0.2)
    assert min(milliseconds.values()) >= 0


def test_unknown_arm_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["profile", "smoke", "--arm", "swav"])
    assert result.exit_code == 1
    assert "no arm 'swav'" in result.stderr
