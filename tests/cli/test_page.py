from html.parser import HTMLParser

from PIL import Image

from maskgit.cli.own.page import Figure, marked, page


class Seen(HTMLParser):
    """The attributes of all elements, and whether each is closed."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_pictures_have_relative_places_and_words(tmp_path):
    (tmp_path / "previews").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "previews" / "a b.png")
    figures = [
        Figure(
            "Mine", tmp_path / "previews" / "a b.png", 'a "quoted" thing', "by `maskgit sample`"
        ),
        Figure("Not there", tmp_path / "no.png", "none"),
    ]
    (tmp_path / "data.md").touch()
    links = {"the data": tmp_path / "data.md", "nothing": tmp_path / "nothing"}
    text = page("<me>", tmp_path, ["All <b> is `well`."], figures, {"Chosen": ["x < y"]}, links)
    seen = Seen(text)
    assert not seen.open
    [picture] = [about for tag, about in seen.found if tag == "img"]
    assert picture["src"] == "previews/a b.png" and picture["alt"] == 'a "quoted" thing'
    places = [about["href"] for tag, about in seen.found if tag == "a"]
    assert places == ["previews/a b.png", "data.md"]
    assert "Not there" not in text and "<title>&lt;me&gt;</title>" in text
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text


def test_words_are_escaped_and_code_is_marked():
    assert marked("a < `b & c`") == "a &lt; <code>b &amp; c</code>"
