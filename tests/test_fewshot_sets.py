"""Image sets of the few-shot benchmark: every way to split them, and draws of their shots."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from fewshots import WHOLE, folder, region, scene

from benchmarks import datasets, draws
from benchmarks.__main__ import main

# --- reading ------------------------------------------------------------------------------------


def test_whole_images_are_read_and_normalised(tmp_path: Path) -> None:
    found = datasets.read(folder(tmp_path / "set", WHOLE | {"note": "by hand"}))
    assert (found.name, list(found.domains)) == ("set", [""])
    domain = found.domains[""]
    assert [example.name for example in domain.shots] == ["a", "b", "c"]
    assert [example.name for example in domain.tests] == ["d", "e"]
    assert (domain.cropped, domain.axes) == (False, "yx")
    voxels = domain.tests[0].image.voxels
    assert voxels.dtype == np.float32
    assert np.quantile(voxels, datasets.QUANTILES) == pytest.approx([0, 1], abs=1e-3)
    assert (domain.tests[0].labels == scene(3)[1]).all()


def test_domains_are_read_each_with_its_pair(tmp_path: Path) -> None:
    split = {"bright": {"shots": ["a"], "test": ["d"]}, "dark": {"shots": ["b"], "test": ["e"]}}
    found = datasets.read(folder(tmp_path / "set", split))
    names = {name: (d.shots[0].name, d.tests[0].name) for name, d in found.domains.items()}
    assert names == {"bright": ("a", "d"), "dark": ("b", "e")}
    assert found.domains["dark"].shots[0].domain == "dark"


def test_regions_are_cut_out_of_the_normalised_image(tmp_path: Path) -> None:
    split = {"shots": [region(0, 48, 0, 30, name="left", n=6)], "test": [region(0, 48, 32, 64)]}
    domain = datasets.read(folder(tmp_path / "set", split, "a")).domains[""]
    assert domain.cropped
    assert (domain.shots[0].name, domain.tests[0].name) == ("left", "a[0:48,32:64]")
    assert (domain.tests[0].labels == scene(0)[1][:, 32:]).all()


def test_a_region_names_its_image_where_there_are_several(tmp_path: Path) -> None:
    split = {"shots": [region(0, 48, 0, 64, image="b")], "test": [region(0, 24, 0, 64, image="c")]}
    domain = datasets.read(folder(tmp_path / "set", split, "abc")).domains[""]
    assert (domain.tests[0].labels == scene(2)[1][:24]).all()


def test_volumes_are_read_with_their_spacing(tmp_path: Path) -> None:
    data = folder(tmp_path / "set", {"shots": ["a"], "test": ["b"]}, "ab", shape=(12, 32, 32))
    (data / "images" / "a.json").write_text('{"axes": "ZYX", "spacing_um": [2, 0.5, 0.5]}')
    domain = datasets.read(data).domains[""]
    assert domain.axes == "zyx"
    assert domain.shots[0].image.spacing == (2.0, 0.5, 0.5)
    assert domain.tests[0].image.spacing == (1.0, 1.0, 1.0)


def test_colours_are_averaged_and_png_is_read(tmp_path: Path) -> None:
    data = folder(tmp_path / "set", {"shots": ["a"], "test": ["b"]}, "ab")
    grey = (scene(0)[0] // 8).astype(np.uint8)
    (data / "images" / "a.tif").unlink()
    colours = np.stack([grey, grey, grey, np.full_like(grey, 255)], -1)
    imagecodecs.imwrite(data / "images" / "a.png", colours)
    tifffile.imwrite(data / "images" / "b.tif", np.stack([grey] * 3), photometric="rgb")
    domain = datasets.read(data).domains[""]
    alike = domain.shots[0].image.voxels - domain.tests[0].image.voxels
    assert np.abs(alike).max() < 1e-6


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"train": ["a"], "test": ["b"]}, "must hold `shots` and `test`"),
        ({"shots": [], "test": ["b"]}, "must hold `shots` and `test`"),
        ({"shots": ["a"], "test": ["z"]}, "names 'z'"),
        ({"shots": ["a"], "test": [3]}, "3 is neither a stem nor a region"),
        ({"shots": ["a", "b"], "test": ["b"]}, "b would be tested on and learned from"),
        (
            {"shots": [region(0, 9, 0, 9, image="a")], "test": [region(8, 20, 8, 20, image="a")]},
            "would be tested on and learned from",
        ),
        ({"shots": [region(0, 9, 0, 9)], "test": ["b"]}, "must name its `image`, of 5"),
        ({"shots": [region(0, 99, 0, 9, image="a")], "test": ["b"]}, "does not lie in a"),
    ],
)
def test_what_is_not_understood_fails_in_a_sentence(tmp_path: Path, split: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        datasets.read(folder(tmp_path / "set", split))


def test_what_is_missing_or_damaged_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder(tmp_path / "set", WHOLE)
    (data / "labels").rename(tmp_path / "boxes")
    assert main(["fewshot", "--data", str(data)]) == 1
    assert "has no labels" in capsys.readouterr().err
    (tmp_path / "boxes").rename(data / "labels")
    (data / "images" / "a.tif").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.tif is no readable image"):
        datasets.read(data)
    (data / "split.json").write_text("shots")
    with pytest.raises(ValueError, match="not valid JSON"):
        datasets.read(data)
    (data / "split.json").unlink()
    with pytest.raises(ValueError, match=r"has no split\.json"):
        datasets.read(data)


# --- draws --------------------------------------------------------------------------------------


def test_draws_differ_and_do_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    domain = datasets.read(folder(tmp_path / "set", WHOLE)).domains[""]
    every = draws.draws(domain, 2, 20, seed=0, reserve=5)
    assert len({frozenset(e.name for e in draw.shots) for draw in every}) == len(every) == 3
    first = draws.draws(domain, 2, 2, seed=0, reserve=0)
    assert [draw.shots for draw in first] == [draw.shots for draw in every[:2]]
    assert all(len(draw.of(10)) == 3 for draw in every)
    assert draws.draws(domain, 4, 20, seed=0, reserve=0) == []


def test_crops_of_regions_share_no_voxel_and_lie_in_the_shots(tmp_path: Path) -> None:
    split = {"shots": [region(0, 300, 0, 140)], "test": [region(0, 300, 150, 300)]}
    data = folder(tmp_path / "set", split, "a", shape=(300, 300))
    domain = datasets.read(data).domains[""]
    for draw in draws.draws(domain, 3, 5, seed=0, reserve=2):
        covered = np.zeros((300, 140), int)
        for piece in draw.of(9):
            start = piece.name.partition("][")[2].rstrip("]").split(",")
            inside = tuple(slice(*map(int, span.split(":"))) for span in start)
            covered[inside] += 1
            assert (piece.labels == domain.shots[0].labels[inside]).all()
            assert datasets.objects(piece.labels) >= draws.LEAST_OBJECTS
        assert covered.max() == 1
