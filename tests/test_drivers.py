"""Laws of drivers: the processes that plan a stage and wait for its jobs.

Of a campaign of many acquisitions dozens run at once, on one machine that others share.
"""

import subprocess
import sys

import numpy as np
import pytest
import scenes
from brightness import Results

WAITS = """
import sys
from pipeline import cli, cluster

def wait(*_):
    print(*{"torch", "escnn", "pandas", "pyarrow", "dask"} & set(sys.modules))
    raise RuntimeError("all is planned")

cluster.complete = wait
cli.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    image = np.zeros((3, 40, 56), np.uint16)
    image[:, 10:14, 20:24] = 1000
    return Results.of(tmp_path_factory.mktemp("results"), image, "tyx")


def loaded(*command: str) -> list[str]:
    """Which of the large libraries a driver has loaded when it begins to wait for jobs."""
    words = [sys.executable, "-c", WAITS, *command]
    done = subprocess.run(words, capture_output=True, text=True)
    assert "equiscope: all is planned" in done.stderr, done.stderr
    return done.stdout.split()


def test_a_driver_of_predict_waits_without_large_libraries(results):
    assert loaded(*results.command()) == []


def test_a_driver_of_ingest_waits_without_large_libraries(tmp_path):
    task = scenes.ingest_task(scenes.write(tmp_path / "dish.tif", np.ones((40, 56)), "yx"))
    command = ["ingest", str(tmp_path / "dish.json"), "--settings", task.model_dump_json()]
    assert loaded(*command) == []
