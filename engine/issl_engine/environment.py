"""What a run was made with, and what a machine can do: recorded in every run folder, printed by ``doctor``.

Versions come from package metadata: neither DALI nor DeepSpeed is imported here.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import issl_engine

DALI_PACKAGES = ("nvidia-dali-cuda130", "nvidia-dali-cuda120")


def collect_environment() -> dict[str, Any]:
    """A record of software and hardware for JSON. It holds no names of hosts, users or folders."""
    return {
        "issl_engine": issl_engine.__version__,
        "commit": git_commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_model(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "torch": torch.__version__,
        "triton": version("triton"),
        "dali": dali_version(),
        "deepspeed": version("deepspeed"),
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device_summary(environment: dict[str, Any]) -> str:
    """One line for tables that names the GPUs, or the CPU."""
    gpus = environment.get("gpus") or []
    if gpus:
        return f"{len(gpus)} x {gpus[0]}"
    return f"{environment.get('cpu_cores', '?')} cores of {environment.get('cpu', 'an unknown CPU')}"


def git_commit() -> str | None:
    """Commit of the checkout that the package is run from ('+' for uncommitted changes), or None."""
    folder = Path(issl_engine.__file__).parent
    git = shutil.which("git")
    if git is None:
        return None
    commit = subprocess.run(
        [git, "-C", folder, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    if commit.returncode != 0:
        return None
    status = subprocess.run(
        [git, "-C", folder, "status", "--porcelain", "--", folder], capture_output=True, text=True, check=False
    )
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")


def version(package: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def dali_version() -> str | None:
    """Version and CUDA build of DALI."""
    for package in DALI_PACKAGES:
        found = version(package)
        if found:
            return f"{found} ({package.removeprefix('nvidia-dali-')})"
    return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of ``doctor``. ``found`` is None for what is missing; ``needed`` marks what no run can do without."""

    item: str
    found: str | None
    good_for: str
    advice: str = ""
    needed: bool = False


def checks() -> list[Check]:
    """What is installed, what it is good for, and what to do about what is missing."""
    return [
        Check(item="torch", found=torch.__version__, good_for="everything", needed=True),
        Check(
            item="triton", found=version("triton"), good_for="fused loss kernels on NVIDIA GPUs",
            advice="pip install triton; without it every loss takes its torch path",
        ),
        Check(
            item="DALI", found=dali_version(), good_for="decoding and multi-crop views, on CPU and GPU", needed=True,
            advice="pip install nvidia-dali-cuda130",
        ),
        Check(
            item="DeepSpeed", found=version("deepspeed"), good_for="the training engine", needed=True,
            advice="pip install deepspeed",
        ),
        _gpu_check(),
        _nccl_check(),
        Check(
            item="C compiler", found=shutil.which("cc") or shutil.which("gcc"),
            good_for="torch.compile on the CPU (training.compile)", advice="install gcc to use training.compile",
        ),
        Check(item="timm", found=version("timm"), good_for="encoders named timm/<model>, public weights of ViTs",
              advice="pip install 'issl-engine[timm]'"),
        Check(item="ONNX", found=_onnx_version(), good_for="issl-engine export --format onnx",
              advice="pip install 'issl-engine[export]'"),
        Check(item="umap-learn", found=version("umap-learn"), good_for="UMAP beside PCA in a report's feature map",
              advice="pip install 'issl-engine[umap]'"),
        Check(item="tensorboard", found=version("tensorboard"), good_for="curves in TensorBoard beside metrics.jsonl",
              advice="pip install 'issl-engine[tensorboard]'"),
    ]  # fmt: skip


def _onnx_version() -> str | None:
    """The versions of onnx and onnxruntime, or None where a library is missing that exporting needs."""
    found = {name: version(name) for name in ("onnx", "onnxscript", "onnxruntime")}
    return f"{found['onnx']}, onnxruntime {found['onnxruntime']}" if all(found.values()) else None


def _gpu_check() -> Check:
    good_for = "ImageNet-scale runs; GPU decoding; Triton kernels"
    if not torch.cuda.is_available():
        advice = "no NVIDIA GPU is usable: runs take the CPU path of everything"
        if torch.version.cuda is None:
            advice += "; this build of torch has no CUDA"
        return Check(item="GPU", found=None, good_for=good_for, advice=advice)
    properties = torch.cuda.get_device_properties(0)
    found = (
        f"{torch.cuda.device_count()} x {properties.name}, {properties.total_memory / 2**30:.0f} GiB, "
        f"compute capability {properties.major}.{properties.minor}, CUDA {torch.version.cuda}"
    )
    advice = "" if properties.major >= 8 else "bf16 needs compute capability 8.0: keep training.precision fp32"
    return Check(item="GPU", found=found, good_for=good_for, advice=advice)


def _nccl_check() -> Check:
    available = torch.cuda.is_available() and torch.distributed.is_nccl_available()
    found = ".".join(str(part) for part in torch.cuda.nccl.version()) if available else None
    return Check(
        item="NCCL", found=found, good_for="several GPUs",
        advice="comes with CUDA builds of torch; CPU ranks use gloo",
    )  # fmt: skip
