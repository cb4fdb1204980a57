import numpy as np
import pytest
import torch
from PIL import Image

from maskgit import plots

PLOTS = {
    "curves": lambda path: plots.curves(
        {"run": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]}, path
    ),
    "dots": lambda path: plots.dots(
        {"place": {"ours": (1, 0.5, 2), "theirs": (0.8, 0.4, 1)}}, path, x="ratio"
    ),
    "heat_maps": lambda path: plots.heat_maps(torch.rand(2, 3, 2, 4), path, row_names=["a", "b"]),
    "lines": lambda path: plots.lines(
        {"halton": [(1, 10, 1), (5, 3, 0.1)]}, path, x="seconds", y="fid"
    ),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_a_png_and_no_figure_stays_open(name, tmp_path):
    import matplotlib.pyplot as plt

    path = PLOTS[name](tmp_path / "plot.png")
    with Image.open(path) as image:
        assert image.format == "PNG" and min(image.size) > 100
    assert not plt.get_fignums() and list(tmp_path.iterdir()) == [path]


def test_a_plot_that_fails_leaves_the_old_one(tmp_path):
    import matplotlib.pyplot as plt

    path = PLOTS["lines"](tmp_path / "lines.png")
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), plots.figure(path, (3, 2)):
        _ = 1 / 0
    assert path.read_bytes() == before and not plt.get_fignums()


def test_a_bar_chart_is_a_picture():
    picture = plots.bar_chart([1, 3, 2], x="code", y="share")
    assert picture.format == "PNG" and min(picture.size) > 100


def test_maps_of_a_row_of_codes_are_taller_than_their_cells(tmp_path):
    """Eight images of 1 x 32 codes, one round: each has a band that can be seen."""
    path = plots.heat_maps(torch.ones(8, 1, 1, 32), tmp_path / "heat.png")
    with Image.open(path) as image:
        colours = np.asarray(image.convert("RGB"))[:, image.width // 3]
    assert (colours == (253, 231, 36)).all(-1).sum() > 8 * 10


def test_what_is_not_there_is_grey(tmp_path):
    values = torch.full((1, 2, 3, 5), 1.0)
    values[0, 0] = torch.nan
    with Image.open(plots.heat_maps(values, tmp_path / "heat.png")) as image:
        colours = {colour[:3] for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert (191, 191, 191) in colours


def test_values_that_have_no_logarithm_are_drawn_all_the_same(tmp_path):
    plots.lines({"few": [(2, -0.1, 0.0), (4, 0.2, 0.0)]}, tmp_path / "few.png", x="calls", y="FID")
    assert (tmp_path / "few.png").is_file()


def test_letters_that_no_font_has_come_as_numbers(monkeypatch, capsys):
    monkeypatch.setattr(plots, "_fonts", lambda: [])
    plots._font_with.cache_clear()
    assert plots.font_of("coat") == (None, "coat")
    assert plots.font_of("山 coat") == (None, "\\u5c71 coat")
    assert plots.font_of("山 coat") == (None, "\\u5c71 coat")
    assert capsys.readouterr().err.count("no font here has 山") == 1
    plots._font_with.cache_clear()


def test_a_font_is_taken_that_has_all_letters():
    path, text = plots.font_of("حقيبة é Ψ")
    assert text == "حقيبة é Ψ" and plots.has_letters(path, text)
    assert not plots.has_letters(path, "é" + plots.MISSING)
