"""The report: sound HTML that asks nothing of the network; pictures that are what the tensors say."""

import datetime
import io
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from inkwash.corruption.noise import Noise
from inkwash.errors import Failed
from inkwash.evaluation import curves, pictures
from inkwash.evaluation.report import Command, Copy, Film, Metric, Report, Strip

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Page(HTMLParser):
    """Checks that every element is closed in order, and keeps what is referred to and said."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.links, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "srcset", "action", "data", "poster", "xmlns")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def images(count: int, channels: int = 3) -> torch.Tensor:
    return Noise(0, range(count)).uniform((channels, 16, 16)) * 2 - 1


@pytest.fixture
def full() -> Report:
    x, row = images(4), {"items": 8, "seconds": 1.0, "learning_rate": 1e-4, "gradient": 2.0}
    return Report(
        title="Discs & <squares>",
        summary="All of it.",
        facts={"command": "inkwash demo", "seed": "0"},
        strips=[Strip("real", x), Strip("drawn", images(4, 1))],
        film=Film([x, x * 0.5, x * 0.0], [1.0, 0.5, 0.0]),
        metrics=[
            Metric(name="Dice", value=0.6, low=0.5, high=0.7, floor=0.2, ceiling=0.8, better="higher", about="."),
            Metric(name="FID", value=1234.5, better="lower", about="Distance."),
        ],
        network="compact",
        notes=["few pictures"],
        log=[{**row, "step": step, "loss": 1 / step} for step in range(1, 9)],
        copies=[Copy(x[0], x[1], 0.9, False), Copy(x[2], x[2], 0.0, True)],
        commands=[Command("Look.", "inkwash data 'a b' && true")],
        attribution=["Pictures: somebody, CC BY 4.0."],
    )


def test_the_page_is_sound_and_holds_everything(full):
    text = full.html()
    page = Page(text)
    assert page.open == []
    said = " ".join(page.words)
    for words in ("Discs & <squares>", "Dice", "0.6", "0.5 to 0.7", "1234", "few pictures", "compact", "CC BY 4.0",
                  "inkwash data 'a b' && true", "too near", "loss", "learning rate"):
        assert words in said
    # Two strips of four, a film of three frames of four, two pairs.
    assert page.tags.count("img") == 8 + 12 + 4
    assert all(link.startswith(("data:image/", "#")) for link in page.links)
    assert not re.search(r"(https?:)?//\w|@import|url\((?!#)", re.sub(r"base64,[\w+/=]+", "", text))


def test_a_page_says_with_what_and_when_it_was_made(full):
    text = full.html()
    assert f"PyTorch {torch.__version__}" in text
    assert datetime.date.today().isoformat() in text


def test_what_is_empty_is_left_out():
    page = Page(Report(title="Nothing yet").html())
    assert page.open == []
    assert "section" not in page.tags
    assert "script" not in page.tags


def test_the_dot_lies_between_floor_and_ceiling_whichever_way_is_better(full):
    up = full.metrics[0]
    assert up.place(0.5) == pytest.approx(0.5)
    assert (up.place(0.1), up.place(0.9)) == (0.0, 1.0)
    down = Metric(name="FID", value=20.0, floor=100.0, ceiling=10.0, better="lower", about=".")
    assert down.place(down.value) == pytest.approx(80 / 90)
    assert full.metrics[1].place(3.0) is None


def test_the_page_is_written_whole_or_not_at_all(full, tmp_path):
    path = full.write(tmp_path / "new" / "report.html")
    assert path.read_text() == full.html()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Failed, match="cannot write"):
        full.write(tmp_path / "file" / "report.html")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_smoothing_keeps_a_constant_and_follows_a_step():
    assert curves.smoothed([3.0] * 5, memory=4) == pytest.approx([3.0] * 5)
    assert curves.smoothed([0.0] + [1.0] * 200, memory=4)[-1] == pytest.approx(1.0)
    assert curves.smoothed([0.0, 1.0], memory=2) == pytest.approx([0.0, 2 / 3])


def test_curves_take_the_colours_of_the_page():
    rows = [{"step": s, "loss": 1.0 / s, "mse": 2.0} for s in (1, 2, 3)]
    found = curves.training(rows)
    assert list(found) == ["loss", "mse"]
    assert "var(--accent)" in found["loss"]
    assert "#0" not in found["loss"].replace('href="#', "").replace("url(#", "")
    assert curves.training(rows[:1]) == {}


def test_pictures_say_what_the_tensor_says():
    x = torch.tensor([[[-1.0, 0.0, 1.0, 3.0]], [[1.0] * 4], [[-1.0] * 4]])
    facts = {"seed": 7, "system": "ddpm"}
    with Image.open(io.BytesIO(pictures.png(x, facts=facts))) as image:
        assert [image.getpixel((i, 0)) for i in range(4)] == [(0, 255, 0), (128, 255, 0), (255, 255, 0), (255, 255, 0)]
        assert (image.text["seed"], image.text["system"]) == ("7", "ddpm")
    assert pictures.to_pil(x[:1]).mode == "L"
    assert pictures.to_pil(x[:2]).size == (8, 1)


def test_the_grid_puts_every_picture_in_its_place():
    x = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 1, 2, 3) / 10
    sheet = pictures.grid(x, columns=3, gap=1)
    assert sheet.shape == (1, 5, 11)
    torch.testing.assert_close(sheet[0, [0, 0, 0, 3, 3], [0, 4, 8, 0, 4]], torch.arange(5.0) / 10)
    assert bool((sheet[0, 2] == 1.0).all()), "the row between"
    assert bool((sheet[0, 3:, 8:] == 1.0).all()), "the place that is left"


def test_the_outline_runs_inside_the_mask_and_nowhere_else():
    mask = torch.zeros(1, 8, 8, dtype=torch.int64)
    mask[0, 2:6, 2:6] = 1
    drawn = pictures.overlay(torch.zeros(1, 1, 8, 8), mask)
    painted = (drawn != 0).any(dim=1)[0]
    expected = mask[0].bool().clone()
    expected[3:5, 3:5] = False
    assert torch.equal(painted, expected)


def test_masks_are_white_on_black_or_coloured():
    two = torch.tensor([[[0, 1]]])
    assert torch.equal(pictures.mask_pictures(two)[0, :, 0], torch.tensor([[-1.0, 1.0]] * 3))
    more = pictures.mask_pictures(torch.tensor([[[0, 1, 2]]]))[0, :, 0].T
    assert len({tuple(colour) for colour in more.tolist()}) == 3


def test_the_film_has_its_frames():
    frames = list(images(5))
    with Image.open(io.BytesIO(pictures.film(frames))) as film:
        assert (film.n_frames, film.size) == (5, (16, 16))


def test_small_pictures_are_enlarged_by_whole_pixels():
    x = images(1)
    large = pictures.enlarge(x, 40)
    assert large.shape[-2:] == (48, 48)
    assert torch.equal(large[..., ::3, ::3], x)
