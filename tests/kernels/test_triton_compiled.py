"""Every kernel compiles for every kind of GPU it is meant for, within a processor's registers and shared memory."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from issl_kernels.shared_memory import SHARED_BYTES

pytest.importorskip("triton")


@pytest.fixture(scope="module")
def resources() -> list[dict[str, Any]]:
    """Compiled in a process of its own, where Triton does not interpret."""
    done = compile_in_a_process({name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"})
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout)
    assert {line["capability"] for line in lines} == {80, 89, 90}
    names = {"distillation", "soft_cross_entropy", "sinkhorn", "linear_distillation", "info_nce", "sigmoid_contrastive"}
    assert {line["op"] for line in lines} >= names
    return lines


def compile_in_a_process(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "issl_engine", "bench", "resources", "--json"],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )


def test_registers_suffice_without_the_stack(resources: list[dict[str, Any]]) -> None:
    assert [line for line in resources if line["stack_bytes"]] == []


def test_shared_memory_is_within_the_chips_limit(resources: list[dict[str, Any]]) -> None:
    assert all(line["shared_bytes"] <= SHARED_BYTES[line["capability"]] for line in resources)


def test_two_programs_fit_a_processors_registers(resources: list[dict[str, Any]]) -> None:
    """65536 registers a processor; one program alone would leave it waiting for memory."""
    busy = [line for line in resources if line["warps"] * 32 * line["registers"] > 65536 // 2 and line["warps"] < 8]
    assert busy == []
    assert all(line["warps"] * 32 * line["registers"] <= 65536 for line in resources)


def test_rows_are_read_and_gradients_written_in_the_widest_accesses(resources: list[dict[str, Any]]) -> None:
    """Also rows of 3000 elements, which start at multiples of 16 bytes but not of 16 elements."""
    kernels = ("statistics", "mass", "column_shares", "assign")
    readers = [line for line in resources if line["kernel"] in kernels and line["op"] != "info_nce"]
    assert any(line["case"].endswith("3000") for line in readers)
    assert all(line["widest_load_bytes"] == 16 for line in readers)
    writers = [line for line in resources if line["kernel"] == "gradients" and not line["op"].startswith("linear_soft")]
    assert writers
    assert all(line["widest_store_bytes"] == 16 for line in writers)


def test_tiles_of_logits_are_products_of_the_matrix_units(resources: list[dict[str, Any]]) -> None:
    """Hopper's own instruction on sm_90, the older one elsewhere."""
    forward = {"info_nce": "statistics", "sigmoid_contrastive": "losses"}
    lines = [line for line in resources if line["op"] in forward]
    for op, kernel in forward.items():
        found = {line["kernel"] for line in lines if line["op"] == op}
        assert found == {kernel, "anchor_gradients", "target_gradients"}
    for line in lines:
        assert line["matrix_instruction"] == ("wgmma" if line["capability"] == 90 else "mma")


def test_an_interpreter_compiles_nothing_and_says_so() -> None:
    done = compile_in_a_process(os.environ | {"TRITON_INTERPRET": "1"})
    assert done.returncode == 1
    assert "TRITON_INTERPRET is 1, so Triton compiles nothing: unset it" in done.stderr
