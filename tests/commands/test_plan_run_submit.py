"""`harness plan` prices, refuses and proposes."""

import re
import shutil
import time

import pytest
from support.places import ROOT

from harness import cli


def test_the_command_prices_refuses_and_proposes(tmp_path, monkeypatch, capsys):
    shutil.copytree(ROOT / "grids", tmp_path / "grids")
    monkeypatch.chdir(tmp_path)
    words = ["plan", "grids/table2.yaml", "grids/table3.yaml", "--scale", "imagenet256", "--gpu", "A100"]
    monkeypatch.setattr(
        "sys.argv", ["harness", *words, "--fit", "600", "--max-gpu-hours", "100", "--gpu-hour-price", "2"]
    )
    start = time.process_time()
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert time.process_time() - start < 5
    out = capsys.readouterr()
    assert stop.value.code == 2
    assert "--max-gpu-hours 100: about" in out.err
    assert re.search(r"all, each training once +17 ", out.out)
    assert re.search(r"\d+ of 17 rows fit: \d+ of 600 GPU-hours", out.out)
    assert "at 2 an hour, what is left costs" in out.out
    assert not (tmp_path / "results").exists()
