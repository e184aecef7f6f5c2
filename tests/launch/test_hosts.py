"""Hostfiles: what they give, and a sentence with file and line for what they should not hold."""

from pathlib import Path

import pytest

from issl_engine.launch.hosts import Host, Place, place_ranks, read_hostfile


def write(folder: Path, text: str) -> Path:
    path = folder / "hosts"
    path.write_text(text)
    return path


def test_comments_and_blank_lines_are_no_hosts(tmp_path: Path) -> None:
    path = write(tmp_path, "# our cluster\n\nnode1 slots=8\n  10.0.0.2   slots = 4  # half of it\n")
    assert read_hostfile(path) == (Host(name="node1", slots=8), Host(name="10.0.0.2", slots=4))


def test_ranks_of_a_host_are_neighbours() -> None:
    places = place_ranks([Host(name="a", slots=1), Host(name="b", slots=2)])
    assert places == (
        Place(rank=0, world_size=3, local_rank=0, local_world_size=1, host="a"),
        Place(rank=1, world_size=3, local_rank=0, local_world_size=2, host="b"),
        Place(rank=2, world_size=3, local_rank=1, local_world_size=2, host="b"),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "hosts: the hostfile names no host"),
        ("# none\n", "hosts: the hostfile names no host"),
        ("a slots=1\nb\n", "hosts:2: 'b' is no host; a line is 'host slots=N'"),
        ("a 4\n", "hosts:1: 'a 4' is no host"),
        ("a slots=0\n", "hosts:1: slots must be a whole number of at least 1, not '0'"),
        ("a slots=two\n", "hosts:1: slots must be a whole number of at least 1, not 'two'"),
        ("a slots=1\n\na slots=2\n", "hosts:3: a is in line 1 already"),
        ("-oProxyCommand slots=1\n", "hosts:1: a host's name cannot begin with '-'"),
        ("a slots=1\nlocalhost slots=1\n", "hosts:2: localhost means another machine to each host"),
    ],
)
def test_what_is_wrong_comes_with_file_and_line(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hosts") as caught:
        read_hostfile(write(tmp_path, text))
    assert sentence in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: the hostfile cannot be read"):
        read_hostfile(tmp_path / "nowhere")
