"""Laws of the report: what is scored, what is doubted, and that the page stands alone."""

import itertools
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pytest
import scenes
import tifffile

from pipeline import config, ingest, objects, receipts, report, volumes, weights
from pipeline.tiles import boxes

MODEL, ACQUISITION = "nuclei", "dish"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--v=0",
]  # fmt: skip


def squares(places, sides, half=3):
    """Labels 1, 2, ... of cubes or squares around places."""
    labels = np.zeros(sides, np.uint64)
    for number, place in enumerate(places, start=1):
        labels[tuple(slice(max(0, a - half), a + half + 1) for a in place)] = number
    return labels


GRID = [(y, x) for y in (8, 24, 40) for x in (8, 24, 40, 56, 72)]
SIDES = (48, 80)


class Bench:
    """A campaign's results with one model and one acquisition, labels given by the test."""

    def __init__(self, folder, axes, predicted, reference, image=None, shot=None, **given):
        self.folder, self.results = folder, folder / "results"
        self.axes, self.predicted, self.given = axes, predicted, given
        made_up = np.where(predicted > 0, 200, 20).astype(np.uint16)
        acquired = scenes.write(folder / "dish.tif", made_up if image is None else image, axes)
        acquired = acquired.model_copy(update={"channels": ("DNA",)})
        tifffile.imwrite(folder / "truth.tif", reference.astype(np.uint16))
        receipt = self.results / "ingest" / f"{ACQUISITION}.json"
        ingest.ingest(receipt, scenes.ingest_task(acquired), scenes.here)
        self.volume = volumes.open_volume(receipt.with_suffix(".ome.zarr"))
        self._finetuned(shot)
        self._predicted()

    def labels(self):
        return {"path": str(self.folder / "truth.tif"), "axes": self.axes, "channel": "only"}

    def _finetuned(self, shot):
        region = {"t": [0, 1]} if shot is None and "t" in self.axes else shot or {}
        shots = [{"acquisition": ACQUISITION, "labels": self.labels(), "region": region}]
        shots = [] if shot == "elsewhere" else shots
        space = self.volume.space
        card = weights.Card(
            architecture={"axes": space, "group": "d4", "fields": 2, "pooling": [[2] * len(space)]},
            diameter_um=self.given.get("diameter_um", 3.5),
            voxel_size_um=tuple(self.volume.voxel_size_um[a] for a in space),
            channel="DNA",
            receptive_field=(11,) * len(space),
            shots=1,
            objects=9,
            loss=(3.0, 2.0, 1.0),
            certificate=weights.Certificate(
                equivariance=self.given.get("equivariance", 5e-7),
                export=1e-6,
                beyond_receptive_field=0.0,
            ),
            recipe="none",
        )
        folder = self.results / "finetune"
        receipts.write(folder / f"{MODEL}.model" / weights.CARD, card.model_dump(mode="json"))
        recipe = receipts.recipe("finetune", {"shots": shots}, {})
        receipts.write(folder / f"{MODEL}.json", {"recipe": recipe, "facts": {}})

    def _predicted(self):
        frames = self.predicted if "t" in self.axes else self.predicted[None]
        store, axes = self.volume.store / "labels" / MODEL, self.volume.axes.replace("c", "")
        at = self.volume.axes.index("c")
        levels = [
            replace(level, **{
                key: tuple(v for i, v in enumerate(getattr(level, key)) if i != at)
                for key in ("factors", "shape", "chunk", "shard")
            })
            for level in self.volume.levels
        ]  # fmt: skip
        store.parent.mkdir()
        volumes.create(store, levels, axes, np.uint64, "labels")
        for level in levels:
            step = tuple(slice(None, None, factor) for factor in level.factors)
            coarse = self.predicted[step].astype(np.uint64)
            for box in boxes(level.shape, level.shard):
                volumes.write_shard(store, level, box, coarse[box.slices])
        space, start = self.volume.space, (0,) * len(self.volume.space)
        ids = [np.unique(labels[labels > 0]) for labels in frames]
        parts = [
            objects.parts(labels, [labels], start, space, ["DNA"], t, ids[t])
            for t, labels in enumerate(frames)
        ]
        table = objects.table(parts, space, self.volume.voxel_size_um, ["DNA"])
        recipe = receipts.recipe(
            "predict",
            {"predict": {"smallest_object": self.given.get("smallest_object", 0.15)}},
            {"model": receipts.identity(self.results / "finetune" / f"{MODEL}.json")},
        )
        counts = [len(here) for here in ids]
        facts = {
            "objects": sum(counts),
            "objects_per_frame": counts,
            "orphans": self.given.get("orphans", 0),
        }
        volumes.annotate(
            store, {"equiscope": {"levels": [asdict(v) for v in levels], "recipe": recipe}}
        )
        volumes.write_table(self.volume.store / "tables" / MODEL, table, MODEL, {})
        receipts.write(self.predict_receipt, {"recipe": recipe, "facts": facts})

    @property
    def predict_receipt(self):
        return self.results / "predict" / MODEL / f"{ACQUISITION}.json"

    @property
    def receipt(self):
        return self.results / "report" / "campaign.json"

    def report(self, origin="drawn by a person"):
        """Make the report; its facts about the one result, and its page."""
        reference = {"acquisition": ACQUISITION, "labels": self.labels(), "origin": origin}
        task = config.ReportTask.model_validate({
            "campaign": "bench",
            "references": {MODEL: [reference] if origin else []},
            "report": {"pictures": 3, "overlap": 0.5},
        })  # fmt: skip
        report.report(
            self.receipt, self.results, {(MODEL, ACQUISITION): self.predict_receipt}, task
        )
        page = self.receipt.with_name("report.html").read_text(encoding="utf-8")
        return receipts.read(self.receipt)["facts"]["results"][f"{MODEL}/{ACQUISITION}"], page


def movie(frames=6):
    """A movie in which every frame has the grid, ids differing from frame to frame."""
    frame = squares(GRID, SIDES)
    stack = np.stack([np.where(frame > 0, frame + 100 * t, 0) for t in range(frames)])
    return stack.astype(np.uint64)


def without(labels, *ids):
    return np.where(np.isin(labels, ids), 0, labels)


class Page(HTMLParser):
    """What a page holds: images, headings, addresses, ids."""

    def __init__(self, text):
        super().__init__()
        self.images, self.headings, self.addresses, self.ids, self.text = [], [], [], set(), []
        self._heading = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        said = dict(attrs)
        self.ids.add(said.get("id"))
        self.addresses += [said[key] for key in ("src", "href", "action", "srcset") if key in said]
        if tag == "img":
            self.images.append(said)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append([int(tag[1]), ""])
            self._heading = tag

    def handle_endtag(self, tag):
        if tag == self._heading:
            self._heading = None

    def handle_data(self, data):
        self.text.append(data)
        if self._heading:
            self.headings[-1][1] += data


def test_a_frame_used_for_training_is_not_scored(tmp_path):
    wrong_in_frame_0 = without(movie(), *range(1, 11))
    facts, page = Bench(tmp_path, "tyx", wrong_in_frame_0, movie()).report()
    score = facts["scores"][0]
    assert score["trained_frames"] == [0]
    assert [row["frame"] for row in score["frames"]] == [1, 2, 3, 4, 5]
    assert score["total"]["at"][0]["f1"] == 1.0
    assert score["total"]["reference"] == 5 * len(GRID)
    assert "Frame 0: learned from, not scored." in page


def test_false_and_missed_objects_are_counted_in_their_frame(tmp_path):
    predicted, reference = without(movie(), 203), without(movie(), 304, 305)
    facts, page = Bench(tmp_path, "tyx", predicted, reference).report()
    by_frame = {row["frame"]: row for row in facts["scores"][0]["frames"]}
    counted = {
        t: [row["at"][0][key] for key in ("matched", "false", "missed")]
        for t, row in by_frame.items()
    }
    assert counted == {1: [15, 0, 0], 2: [14, 0, 1], 3: [13, 2, 0], 4: [15, 0, 0], 5: [15, 0, 0]}
    assert [by_frame[t]["count_error"] for t in (1, 2, 3)] == [0, -1, 2]
    total = facts["scores"][0]["total"]["at"][0]
    assert total["f1"] == pytest.approx(2 * 72 / (2 * 72 + 3))
    assert total["average_precision"] == pytest.approx(72 / 75)
    assert page.count("<figcaption>missed, ") == 1
    assert page.count("<figcaption>false, ") == 2


@pytest.mark.parametrize(("stop", "found", "wanted"), [(26, 2, 2), (23, 3, 4)])
def test_objects_mostly_inside_the_shot_are_not_scored_and_none_is_cut(
    tmp_path, stop, found, wanted
):
    # Objects in the middle column reach from x 21 to 27: five, or two, of seven planes are inside.
    places = [(6, y, x) for y in (6, 22) for x in (6, 24, 40)]
    reference = squares(places, (12, 30, 48))
    predicted = without(reference, 1, 2)
    bench = Bench(tmp_path, "zyx", predicted, reference, shot={"x": [0, stop]})
    facts, page = bench.report()
    total = facts["scores"][0]["total"]
    assert (total["predicted"], total["reference"]) == (found, wanted)
    assert [at["matched"] for at in total["at"]] == [found, found]
    assert "Objects mostly inside the annotated region" in page


def test_a_model_trained_elsewhere_is_scored_everywhere(tmp_path):
    bench = Bench(tmp_path, "tyx", movie(2), movie(2), shot="elsewhere")
    facts, _ = bench.report()
    assert [row["frame"] for row in facts["scores"][0]["frames"]] == [0, 1]


def test_outlines_that_only_roughly_agree_are_told(tmp_path):
    frame = squares(GRID, SIDES)
    small = np.where(squares(GRID, SIDES, half=2) > 0, frame, 0)
    reference = np.stack([frame] * 2)
    # 5 x 5 of 7 x 7 pixels: intersection over union is 0.51.
    facts, _ = Bench(
        tmp_path, "tyx", np.stack([small, small + 50 * (small > 0)]), reference
    ).report()
    loose, strict = facts["scores"][0]["total"]["at"]
    assert (loose["f1"], strict["f1"]) == (1.0, 0.0)
    assert any("outlines differ" in doubt for doubt in facts["doubts"])


def test_nothing_suspicious_is_said_where_nothing_is(tmp_path):
    facts, page = Bench(tmp_path, "tyx", movie(), movie()).report()
    assert facts["doubts"] == []
    assert "Nothing is suspicious" in page


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"orphans": 3}, "3 orphans"),
        ({"equivariance": 2e-4}, "equivariance holds to 2.0e-04 only"),
        ({"smallest_object": 0.9, "diameter_um": 4.4}, "hardly larger than the smallest accepted"),
    ],
)
def test_the_report_names_an_injected_fault(tmp_path, given, expected):
    facts, page = Bench(tmp_path, "tyx", movie(), movie(), **given).report()
    assert len(facts["doubts"]) == 1
    assert expected in facts["doubts"][0]
    assert expected in "".join(Page(page).text).split("Results")[0]
    assert "Nothing is suspicious" not in page


def test_a_frame_whose_count_leaps_or_score_falls_is_named(tmp_path):
    predicted = without(movie(), *range(301, 314))
    facts, _ = Bench(tmp_path, "tyx", predicted, movie()).report()
    assert any("leaps in frame 3 (2 objects)" in doubt for doubt in facts["doubts"])
    assert any("F1 is below 0.8 in frame 3," in doubt for doubt in facts["doubts"])


def test_saturated_voxels_are_told_at_the_ceiling_of_a_12_bit_camera(tmp_path):
    image = np.where(movie() > 0, 4095, 100).astype(np.uint16)
    facts, _ = Bench(tmp_path, "tyx", movie(), movie(), image=image).report()
    assert [doubt for doubt in facts["doubts"] if "of channel DNA are saturated" in doubt]


def test_labels_by_an_algorithm_are_flagged_and_every_origin_stands_by_its_score(tmp_path):
    origin = "made by an algorithm <b>of old</b>"
    facts, page = Bench(tmp_path, "tyx", movie(), movie()).report(origin)
    assert any(f"compare with labels {origin}" in doubt for doubt in facts["doubts"])
    assert "<b>of old" not in page
    said = "".join(Page(page).text)
    assert f"Scores against labels {origin}" in said


def test_without_a_reference_nothing_is_scored_and_the_page_says_so(tmp_path):
    facts, page = Bench(tmp_path, "tyx", movie(), movie()).report(origin="")
    assert facts["scores"] == []
    assert "none given: not scored" in page


def test_no_object_at_all_is_a_doubt_not_a_crash(tmp_path):
    empty = np.zeros_like(movie(2))
    facts, _ = Bench(tmp_path, "tyx", empty, movie(2)).report()
    assert any("No object was found" in doubt for doubt in facts["doubts"])
    assert facts["scores"][0]["total"]["at"][0]["missed"] == len(GRID)


def test_a_volume_too_large_to_score_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "LARGEST_VOXELS", 100)
    facts, page = Bench(tmp_path, "tyx", movie(2), movie(2)).report()
    assert facts["scores"][0]["total"] is None
    assert "Not scored: a frame has more than 100 voxels" in page
    assert "Not scored" in report.summary(tmp_path / "results/report/campaign.json")


def test_results_that_do_not_belong_together_are_refused(tmp_path):
    bench = Bench(tmp_path, "tyx", movie(2), movie(2))
    learned = bench.results / "finetune" / f"{MODEL}.json"
    receipts.write(learned, receipts.read(learned) | {"facts": {"weights": "others"}})
    with pytest.raises(ValueError, match="run predict again"):
        bench.report()
    assert not bench.receipt.exists()


def test_the_same_results_give_the_same_page_and_receipt(tmp_path):
    bench = Bench(tmp_path, "tyx", without(movie(5), 203), movie(5))
    bench.report()
    first = scenes.snapshot(bench.receipt.parent)
    bench.report()
    assert scenes.snapshot(bench.receipt.parent) == first
    assert f"pictures/{MODEL}-{ACQUISITION}-overlay.png" in first
    assert f"pictures/{MODEL}-{ACQUISITION}-disagreement.png" in first


def test_the_summary_says_what_was_found_and_where_to_look(tmp_path):
    bench = Bench(tmp_path, "tyx", movie(), movie(), orphans=2)
    bench.report()
    said = report.summary(bench.receipt)
    assert "nuclei/dish: 90 objects" in said
    assert "F1 1.00 at overlap 0.5, compared with labels drawn by a person" in said
    assert "doubt: 2 orphans" in said
    assert said.endswith(f"Look at {bench.receipt.with_name('report.html')}")


def test_the_page_needs_nothing_from_elsewhere_and_says_every_picture_in_words(tmp_path):
    _, text = Bench(tmp_path, "tyx", without(movie(), 203), movie()).report()
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
@pytest.mark.parametrize("axes", ["tyx", "zyx"])
def test_a_browser_shows_the_page_whole_and_without_complaint(tmp_path, axes):
    predicted = movie(6)
    _, text = Bench(tmp_path, axes, without(predicted, 203), predicted).report("drawn by a person")
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
