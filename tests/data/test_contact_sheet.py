import pytest
from PIL import Image

from maskgit.data.contact_sheet import CELL, COLUMNS, ROWS, cell, contact_sheet, sheet
from maskgit.data.inspection import inspect


def test_a_small_image_is_enlarged_to_sharp_pixels_and_its_transparency_shows_a_board():
    image = Image.new("RGBA", (8, 4), (255, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    found = cell(image)
    assert found.size == (CELL, CELL) and found.getpixel((CELL - 1, CELL // 2)) == (255, 0, 0)
    colours = {colour for _, colour in found.getcolors()}
    assert len(colours) == 3, "red and two greys, nothing between them"


def test_a_large_image_is_shown_whole():
    wide = Image.new("RGB", (300, 100), "blue")
    found = cell(wide)
    middle, top = found.getpixel((CELL // 2, CELL // 2)), found.getpixel((CELL // 2, 0))
    assert middle == (0, 0, 255) and top != middle


@pytest.mark.parametrize("classes", [1, ROWS + 3])
def test_the_largest_classes_have_a_row_each(tmp_path, classes):
    for number in range(classes):
        (tmp_path / f"c{number}").mkdir()
        for i in range(2 + (number == 0) * 20):
            Image.new("L", (5, 5), 9 * i).save(tmp_path / f"c{number}" / f"{i}.png")
    spec = {"name": "folder", "root": str(tmp_path)}
    picture = contact_sheet(spec, inspect(spec))
    assert picture.width > COLUMNS * CELL
    assert picture.height // CELL >= min(classes, ROWS)
    assert sheet({}).size == (200, CELL)
