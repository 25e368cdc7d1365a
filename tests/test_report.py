"""Laws of the report's page, receipt and summary: they stand alone and belong together."""

import itertools
import re
from pathlib import Path

import browser
import numpy as np
import pytest
import reports
import scenes
from reports import ACQUISITION, GRID, MODEL, Bench, Page, movie, without

from pipeline import receipts, report_costs, report_pages, report_summary, sections

VIEWER = "https://viewer.example/?source=https://data.example/{image}&labels={labels}"


@pytest.fixture(scope="module", params=["tyx", "zyx"])
def written(request, tmp_path_factory):
    """Results in which one object is missed, reported."""
    predicted, shot = without(movie(), 203), {"tyx": {"t": [0, 1]}, "zyx": {"x": [0, 20]}}
    folder, axes = tmp_path_factory.mktemp("written"), request.param
    bench = Bench(folder, axes, predicted, movie(), shot=shot[axes])
    bench.report(viewer_url=VIEWER)
    report_costs.write(bench.receipt)
    return bench


@pytest.fixture(scope="module")
def closing(tmp_path_factory):
    """Results of a movie whose first frame lacks two of five columns of objects."""
    objects = without(movie(), 2, 3, 7, 8, 12, 13)
    bench = Bench(tmp_path_factory.mktemp("closing"), "tyx", objects, objects, orphans=2)
    with pytest.MonkeyPatch.context() as patch:
        reports.undraw(patch)
        bench.report()
    return bench


PAGES = ["report.html", f"acquisitions/{ACQUISITION}.html", "cost.html"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_nothing_from_elsewhere_and_says_every_picture_in_words(written, name):
    text = written.page(name)
    page = Page(text)
    assert page.images or name == "cost.html"
    assert all(image.get("alt", "").strip() for image in page.images)
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.images)
    for address in page.addresses:
        file, _, place = address.partition("#")
        if not address.startswith(("data:", "https://viewer.example")):
            there = Page(written.page(Path(name).parent / file)) if file else page
            assert not place or place in there.ids
    assert not re.search(r"@import|url\(|<script|<link", text)
    assert "default-src 'none'" in text
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert len(page.ids) == len(set(page.ids))
    if name != "cost.html":
        assert page.headings[1][1] == "What not to trust, and why"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
@browser.NEEDED
def test_a_browser_shows_a_page_whole_and_without_complaint(written, name, width, tmp_path):
    text = written.page(name)
    shown = browser.shown(text, width, tmp_path)
    assert shown == browser.Shown(len(Page(text).images), overflow=0, requests=0, complaints=[])


def test_a_page_of_an_acquisition_shows_it_at_several_scales_over_time_and_depth(written):
    page = Page(written.page(f"acquisitions/{ACQUISITION}.html"))
    headings = [said for _, said in page.headings]
    assert "Closer, where most objects are" in headings
    assert ("Over time" in headings) == ("t" in written.axes)
    assert ("Over depth" in headings) == ("From the side" in " ".join(headings))
    assert ("Over depth" in headings) == ("z" in written.axes)
    assert {"The image", "The model", "Checks", "What to look at first"} <= set(headings)
    alts = " ".join(image["alt"] for image in page.images)
    assert alts.count("Map of") == (2 if "z" in written.axes else 1)
    assert "Histogram: DNA from" in alts


def test_pictures_are_enlarged_and_put_back_by_links_that_a_keyboard_reaches(written):
    text = written.page(f"acquisitions/{ACQUISITION}.html")
    enlarged = re.findall(r'<a class="zoom" href="#([^"]+)" aria-label="([^"]+)">', text)
    assert len(enlarged) > 5
    for place, said in enlarged:
        assert f'<figure id="{place}">' in text
        assert f'<a class="close" href="#at-{place}">' in text
        assert said.removeprefix("Enlarge: ").strip()


def test_commands_and_links_open_the_very_volume(written):
    page = Page(written.page(f"acquisitions/{ACQUISITION}.html"))
    assert f"napari --plugin napari-ome-zarr {written.volume.store}" in "".join(page.text)
    assert (
        f"https://viewer.example/?source=https://data.example/ingest/{ACQUISITION}.ome.zarr"
        f"&labels=ingest/{ACQUISITION}.ome.zarr/labels/{MODEL}"
    ) in page.addresses
    assert not [a for a in Page(written.page()).addresses if a.startswith("https:")]


@pytest.mark.parametrize("address", ["viewer", "javascript:{image}", "https://viewer.example"])
def test_a_viewer_s_address_leads_to_a_volume_on_the_web(address):
    with pytest.raises(ValueError, match="viewer_url"):
        sections.Report(pictures=1, overlap=0.5, windows=0, first=1, viewer_url=address)


def test_the_page_of_a_campaign_of_a_thousand_is_light_and_names_the_worst(written):
    said = receipts.read(written.receipt)["facts"]["results"][f"{MODEL}/{ACQUISITION}"]
    said |= {"checks": [], "doubts": []}
    task = report_pages.ReportTask.model_validate(
        receipts.read(written.receipt)["recipe"]["settings"]
    )
    results = {}
    for number in range(1000):
        red = {"name": "focus of planes", "state": "alarm", "said": "plane 3"}
        bad = {"checks": [red], "doubts": ["focus of planes: plane 3"]} if number % 3 == 0 else {}
        results[f"{MODEL}/well-{number:04d}"] = said | bad
    text = report_pages.campaign(task, results, [])
    page = Page(text)
    assert len(text.encode()) < 1e6
    assert not page.images
    assert "334 of 1000 results have doubts" in " ".join("".join(page.text).split())
    assert "focus of planes (334)" in text
    assert text.count("focus of planes: plane 3") == report_pages.MOST
    assert all(f"acquisitions/well-{n:04d}.html#nuclei-well-{n:04d}" in text for n in range(1000))


@pytest.mark.parametrize("written", ["tyx"], indirect=True)
def test_the_same_results_give_the_same_page_and_receipt(written):
    bench = written
    first = scenes.snapshot(bench.receipt.parent)
    bench.report(viewer_url=VIEWER)
    assert scenes.snapshot(bench.receipt.parent) == first
    assert f"pictures/{MODEL}-{ACQUISITION}-overlay.png" in first
    assert f"pictures/{MODEL}-{ACQUISITION}-disagreement.png" in first


def test_the_summary_says_what_was_found_and_where_to_look(closing):
    folder = closing.receipt.parent
    assert report_summary.summary(closing.receipt).splitlines() == [
        "nuclei/dish: 84 objects in 6 frames, 9 to 15 per frame: 9 in the first, 15 in the last",
        "  the widest stretch without nuclei shrinks from 24 µm to 8 µm",
        "  F1 1.00 at overlap 0.5, compared with labels drawn by a person",
        "  1 doubt: the page begins with it",
        f"  outlines over the image: {folder / 'pictures/nuclei-dish-overlay.png'}",
        f"Look at {folder / 'report.html'}",
    ]
    assert (folder / "pictures/nuclei-dish-overlay.png").exists()
    assert (
        "2 orphans"
        in receipts.read(closing.receipt)["facts"]["results"]["nuclei/dish"]["doubts"][0]
    )


@pytest.mark.parametrize(
    ("fact", "value", "expected"),
    [
        ("widest_gap_um", [8.0, 30.0, 24.4], "without nuclei grows from 8 µm to 24 µm"),
        ("widest_gap_um", [24.0, 60.0, 22.0], "without nuclei stays about 24 µm wide"),
        ("scores", [], "not scored: there are no labels to compare with"),
        ("doubts", [], "no doubts"),
        ("doubts", ["a", "b"], "2 doubts: the page begins with them"),
        ("objects_per_frame", [84], "nuclei/dish: 84 objects\n"),
    ],
)
def test_the_summary_follows_the_receipt(closing, tmp_path, fact, value, expected):
    said = receipts.read(closing.receipt)
    said["facts"]["results"]["nuclei/dish"][fact] = value
    receipts.write(tmp_path / "campaign.json", said)
    (tmp_path / "report.html").touch()
    assert expected in report_summary.summary(tmp_path / "campaign.json")


def test_a_single_image_has_no_gap_that_changes(written):
    said = report_summary.summary(written.receipt)
    assert ("widest stretch" in said) == ("t" in written.axes)


def test_no_object_at_all_is_a_doubt_not_a_crash(tmp_path):
    empty = np.zeros_like(movie(2))
    facts, _ = Bench(tmp_path, "tyx", empty, movie(2)).report()
    assert any("No object was found" in doubt for doubt in facts["doubts"])
    assert facts["scores"][0]["total"]["at"][0]["missed"] == len(GRID)


def test_results_that_do_not_belong_together_are_refused(tmp_path):
    bench = Bench(tmp_path, "tyx", movie(2), movie(2))
    learned = bench.results / "finetune" / f"{MODEL}.json"
    receipts.write(learned, receipts.read(learned) | {"facts": {"weights": "others"}})
    with pytest.raises(ValueError, match="run predict again"):
        bench.report()
    assert not bench.receipt.exists()
