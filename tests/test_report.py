"""Laws of the report's page, receipt and summary: they stand alone and belong together."""

import itertools
import re
import shutil
import subprocess

import numpy as np
import pytest
import reports
import scenes
from reports import ACQUISITION, GRID, MODEL, Bench, Page, movie, without

from pipeline import receipts, report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--v=0",
]  # fmt: skip


@pytest.fixture(scope="module", params=["tyx", "zyx"])
def written(request, tmp_path_factory):
    """Results in which one object is missed, and the text of the page about them."""
    predicted, shot = without(movie(), 203), {"tyx": {"t": [0, 1]}, "zyx": {"x": [0, 20]}}
    folder, axes = tmp_path_factory.mktemp("written"), request.param
    bench = Bench(folder, axes, predicted, movie(), shot=shot[axes])
    return bench, bench.report()[1]


@pytest.fixture(scope="module")
def closing(tmp_path_factory):
    """Results of a movie whose first frame lacks two of five columns of objects."""
    objects = without(movie(), 2, 3, 7, 8, 12, 13)
    bench = Bench(tmp_path_factory.mktemp("closing"), "tyx", objects, objects, orphans=2)
    with pytest.MonkeyPatch.context() as patch:
        reports.undraw(patch)
        bench.report()
    return bench


def test_the_page_needs_nothing_from_elsewhere_and_says_every_picture_in_words(written):
    _, text = written
    page = Page(text)
    assert page.images
    assert all(image.get("alt", "").strip() for image in page.images)
    assert all(re.match(r"data:image/png;base64,|#", address) for address in page.addresses)
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= page.ids
    assert not re.search(r"https?:|@import|url\(", text)
    assert "default-src 'none'" in text
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    assert page.headings[1][1] == "What not to trust, and why"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
def test_a_browser_shows_the_page_whole_and_without_complaint(written, tmp_path):
    _, text = written
    # The page allows no script; this copy allows the one that looks whether pictures are whole.
    look = (
        "<script>onload = () => { document.body.dataset.whole = "
        "[...document.images].filter(i => i.complete && i.naturalWidth).length; "
        "document.body.dataset.overflow = "
        "document.documentElement.scrollWidth - innerWidth }</script></body>"
    )
    copy = tmp_path / "looked_at.html"
    allowed = text.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    copy.write_text(allowed.replace("</body>", look), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", copy.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    before, after = Page(text), Page(done.stdout)
    assert after.headings == before.headings
    assert f'data-whole="{len(before.images)}"' in done.stdout
    assert re.search(r'data-overflow="(0|-\d+)"', done.stdout)


@pytest.mark.parametrize("written", ["tyx"], indirect=True)
def test_the_same_results_give_the_same_page_and_receipt(written):
    bench, _ = written
    first = scenes.snapshot(bench.receipt.parent)
    bench.report()
    assert scenes.snapshot(bench.receipt.parent) == first
    assert f"pictures/{MODEL}-{ACQUISITION}-overlay.png" in first
    assert f"pictures/{MODEL}-{ACQUISITION}-disagreement.png" in first


def test_the_summary_says_what_was_found_and_where_to_look(closing):
    folder = closing.receipt.parent
    assert report.summary(closing.receipt).splitlines() == [
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
    assert expected in report.summary(tmp_path / "campaign.json")


def test_a_single_image_has_no_gap_that_changes(written):
    bench, _ = written
    assert ("widest stretch" in report.summary(bench.receipt)) == ("t" in bench.axes)


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
