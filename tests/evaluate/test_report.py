"""The HTML scaffold: safe, self-contained, and readable without seeing it."""

from html.parser import HTMLParser

from components.core.report import Number, Photo, Report, new_axes


class Tags(HTMLParser):
    """Collects tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in names]


def full_page() -> str:
    figure, axes = new_axes()
    axes.bar([1, 2], [3, 4])
    axes.set_title("<script>figure()</script>")
    hostile = "<script>alert(1)</script>"
    report = Report(hostile, hostile).heading(hostile).text(hostile).numbers([Number(hostile, hostile, hostile)])
    report.table([hostile, "n"], [[hostile, 3]], hostile).gallery([Photo(b"\xff\xd8", hostile)])
    return report.figure(figure, hostile).html()


def test_nothing_that_is_shown_can_run() -> None:
    assert not Tags(full_page()).of("script", "iframe", "object")


def test_nothing_is_loaded_from_elsewhere() -> None:
    tags = Tags(full_page())
    assert not tags.of("link")
    assert all(str(attributes["src"]).startswith("data:") for attributes in tags.of("img"))


def test_every_picture_has_a_text_and_every_table_a_caption() -> None:
    tags = Tags(full_page())
    assert all(attributes.get("alt") for attributes in tags.of("img"))
    assert [attributes["aria-label"] for attributes in tags.of("figure") if attributes.get("role") == "img"]
    assert len(tags.of("caption")) == len(tags.of("table")) == 1
    assert {attributes["scope"] for attributes in tags.of("th")} == {"col", "row"}


def test_figures_take_the_ink_of_the_page() -> None:
    figure, axes = new_axes()
    axes.text(0, 0, "note")
    page = Report("t").figure(figure, "c").html()
    assert "currentColor" in page
    assert "#000000" not in page


def test_two_figures_on_a_page_share_no_ids() -> None:
    report = Report("t")
    for _ in range(2):
        figure, axes = new_axes()
        axes.plot([1, 2], [1, 2])
        report.figure(figure, "c")
    clips = [attributes["id"] for tag, attributes in Tags(report.html()).found if tag == "clippath"]
    assert len(clips) == len(set(clips)) == 2


def test_the_same_parts_give_the_same_page() -> None:
    assert full_page() == full_page()
