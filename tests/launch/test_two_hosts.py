"""Two hosts: two network namespaces of this machine, with an address each and a remote shell that enters them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

SMALL = ("source.num_train=64", "source.num_test=16", "training.global_batch_size=8", "training.log_every_steps=1")


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator["TwoHosts"]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("making network namespaces needs root and the ip command")
    made = TwoHosts(tmp_path_factory.mktemp("hosts"))
    try:
        made.make()
        yield made
    finally:
        made.remove()


class TwoHosts:
    """``first`` and ``second`` reach each other over a cable of their own, and nothing else."""

    def __init__(self, folder: Path) -> None:
        number = os.getpid() % 250
        self.names = (f"isslA{os.getpid()}", f"isslB{os.getpid()}")
        self.addresses = (f"10.213.{number}.1", f"10.213.{number}.2")
        self.shell, self.hostfile = folder / "shell", folder / "hosts"
        cases = "".join(f"{address}) host={name};; " for address, name in zip(self.addresses, self.names, strict=True))
        self.shell.write_text(
            f'#!/bin/sh\ncase $1 in {cases}*) echo "no route to host $1" >&2; exit 255;; esac\n'
            'exec ip netns exec $host sh -c "$2"\n'
        )
        self.shell.chmod(0o755)
        self.hostfile.write_text("".join(f"{address} slots=1\n" for address in self.addresses))

    def make(self) -> None:
        ends = (f"va{os.getpid()}", f"vb{os.getpid()}")
        for name in self.names:
            added = ip("netns", "add", name)
            if added.returncode != 0:
                pytest.skip(f"network namespaces cannot be made here: {added.stderr.strip()}")
        cable = ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        if cable.returncode != 0:
            pytest.skip(f"no cable between network namespaces can be made here: {cable.stderr.strip()}")
        for name, end, address in zip(self.names, ends, self.addresses, strict=True):
            for words in (
                ("link", "set", end, "netns", name), ("-n", name, "address", "add", f"{address}/24", "dev", end),
                ("-n", name, "link", "set", "lo", "up"), ("-n", name, "link", "set", end, "up"),
            ):  # fmt: skip
                assert ip(*words).returncode == 0, words

    def remove(self) -> None:
        for name in self.names:
            ip("netns", "delete", name)

    def call(self, *arguments: str | Path, hostfile: Path | None = None, inside: str | None = None) -> "Done":
        command = [sys.executable, "-m", "issl_engine", *map(str, arguments), "--remote-shell", str(self.shell)]
        command += ["--hostfile", str(hostfile or self.hostfile)]
        if inside is not None:
            command = ["ip", "netns", "exec", inside, *command]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


Done = subprocess.CompletedProcess[str]


def test_two_hosts_train_together(hosts: TwoHosts, tmp_path: Path) -> None:
    done = hosts.call("pretrain", "smoke", *SMALL, "--arm", "simclr", "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert "2 ranks on 2 hosts, CPU/gloo" in done.stderr
    checkpoint = Path(json.loads(done.stdout)["checkpoint"])
    assert json.loads((checkpoint / "manifest.json").read_text())["world_size"] == 2
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"rank0.log", "rank1.log"}


@pytest.mark.long
def test_the_first_host_may_be_this_machine(hosts: TwoHosts, tmp_path: Path) -> None:
    done = hosts.call("preflight", "smoke", *SMALL, "--out", tmp_path, "--json", inside=hosts.names[0])
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)["reports"]
    assert tuple(report["facts"]["host"] for report in reports) == hosts.addresses


@pytest.mark.long
def test_a_host_that_does_not_see_the_data_is_named(hosts: TwoHosts, tmp_path: Path) -> None:
    images = tmp_path / "images"
    for path in (images / "train" / "a", images / "train" / "b", images / "val" / "a", images / "val" / "b"):
        path.mkdir(parents=True)
    recipe = tmp_path / "recipe.yaml"
    text = (Path(__file__).parents[2] / "recipes" / "smoke.yaml").read_text()
    start, end = text.index("source:"), text.index("views:")
    recipe.write_text(text[:start] + f"source: {{name: image_folder, folder: {images}}}\n" + text[end:])
    for index in range(40):
        for split, name in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")):
            colour = (6 * index, 100 if name == "a" else 0, 200 if split == "val" else 0)
            Image.new("RGB", (32, 32), colour).save(images / split / name / f"{split}{index}.png")
    hidden = hosts.shell.with_name("hidden")  # on the second host another folder lies over the images
    empty = tmp_path / "empty"
    empty.mkdir()
    hidden.write_text(
        f"#!/bin/sh\nif [ $1 = {hosts.addresses[1]} ]; then\n"
        f'exec unshare -m sh -c \'mount --bind {empty} {images} && exec {hosts.shell} "$1" "$2"\' sh "$1" "$2"\nfi\n'
        f'exec {hosts.shell} "$1" "$2"\n'
    )
    hidden.chmod(0o755)
    command = [sys.executable, "-m", "issl_engine", "run", str(recipe), "--hostfile", str(hosts.hostfile)]
    command += ["--remote-shell", str(hidden), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if "error" in line)
    assert line.startswith(f"error: {hosts.addresses[1]} (rank 1): {images}")


@pytest.mark.long
def test_a_host_that_cannot_be_reached_is_named_and_nothing_is_written(hosts: TwoHosts, tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    hostfile.write_text(f"{hosts.addresses[0]} slots=1\n10.213.255.9 slots=1\n")
    done = hosts.call("pretrain", "smoke", *SMALL, "--arm", "simclr", "--out", tmp_path / "run", hostfile=hostfile)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: 10.213.255.9: cannot be reached through '{hosts.shell}' (no route to host 10.213.255.9); mend the "
        "hostfile, or give another --remote-shell\n"
    )
    assert not (tmp_path / "run").exists()
